// SPDX-License-Identifier: MIT
//
// Timers of our own rather than libev's: equal times keep their order, nothing
// fires early (the head is compared with a fresh reading of the clock), a
// foreign loop can be told the next timeout, and the virtual clock replaces one
// function. Cancelling leaves the ev_timer armed: it finds nothing and is set
// again, which is cheaper than a stop and start for each timeout.
#include "timer.h"

#include <math.h>
#include <time.h>

#include "runtime.h"

enum { ARITY = 4, FIRES_PER_LOOK = 64 };
static const double BITE_SECONDS = 0.001;
// What lies farther ahead means "never"; seconds are lost beside such a number.
static const double LONGEST_JUMP = 1e10;
// How often a foreign loop looks while there is work elsewhere.
static const double LOOK_SECONDS = 0.05;

// And how long virtual time waits for them before it looks again.
static const double LOOK_AGAIN = 0.001;

double clock_real(void) {
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

double clock_now(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  return h->is_virtual ? h->virtual_now : clock_real() + h->offset;
}

static void place(TimerHeap *h, uint32_t i, TimerEntry e) {
  h->entries[i] = e;
  e.timer->index = i;
}

static bool earlier(const TimerEntry *a, const TimerEntry *b) {
  return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

static uint32_t parent_of(uint32_t i) { return (i - 2) / ARITY + 1; }
static uint32_t first_child_of(uint32_t i) { return (i - 1) * ARITY + 2; }

static void sift_up(TimerHeap *h, uint32_t i, TimerEntry e) {
  while (i > 1 && earlier(&e, &h->entries[parent_of(i)])) {
    place(h, i, h->entries[parent_of(i)]);
    i = parent_of(i);
  }
  place(h, i, e);
}

static uint32_t earliest_child(const TimerHeap *h, uint32_t i) {
  uint32_t first = first_child_of(i), best = first;
  uint32_t end = first + ARITY;
  if (end > h->count + 1)
    end = h->count + 1;
  for (uint32_t c = first + 1; c < end; c++)
    if (earlier(&h->entries[c], &h->entries[best]))
      best = c;
  return best;
}

static void sift_down(TimerHeap *h, uint32_t i, TimerEntry e) {
  while (first_child_of(i) <= h->count) {
    uint32_t c = earliest_child(h, i);
    if (!earlier(&h->entries[c], &e))
      break;
    place(h, i, h->entries[c]);
    i = c;
  }
  place(h, i, e);
}

// The loop is kept alive while a timer stands here that is not weak.
static void update_hold(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  bool wanted = h->count > h->weak;
  if (wanted == h->held)
    return;
  h->held = wanted;
  if (wanted)
    runtime_hold(rt);
  else
    runtime_release(rt);
}

static bool grow(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  uint32_t capacity = h->capacity ? h->capacity * 2 : 16;
  TimerEntry *entries =
      runtime_realloc(rt, h->entries, h->capacity * sizeof(TimerEntry),
                      capacity * sizeof(TimerEntry));
  if (!entries)
    return false;
  h->entries = entries;
  h->capacity = capacity;
  return true;
}

void timer_start(Runtime *rt, lua_State *L, Timer *t, double when) {
  if (!timer_try_start(rt, t, when))
    luaL_error(L, "not enough memory");
}

bool timer_try_start(Runtime *rt, Timer *t, double when) {
  TimerHeap *h = &rt->timers;
  if (h->count + 2 > h->capacity && !grow(rt))
    return false;
  h->count++;
  if (t->weak)
    h->weak++;
  sift_up(h, h->count, (TimerEntry){when, ++h->seq, t});
  update_hold(rt);
  return true;
}

void timer_stop(Runtime *rt, Timer *t) {
  TimerHeap *h = &rt->timers;
  uint32_t i = t->index;
  if (i == 0)
    return;
  TimerEntry last = h->entries[h->count--];
  if (last.timer != t) {
    if (i > 1 && earlier(&last, &h->entries[parent_of(i)]))
      sift_up(h, i, last);
    else
      sift_down(h, i, last);
  }
  t->index = 0;
  if (t->weak)
    h->weak--;
  update_hold(rt);
}

void timer_set_weak(Runtime *rt, Timer *t, bool weak) {
  if (t->weak == weak)
    return;
  t->weak = weak;
  if (!timer_is_active(t))
    return;
  rt->timers.weak += weak ? 1 : -1;
  update_hold(rt);
}

double timer_when(Runtime *rt, const Timer *t) {
  return rt->timers.entries[t->index].when;
}

static void fire_due(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  double now = clock_now(rt), start = clock_real();
  uint64_t newest = h->seq; // one started from here on waits for the next turn
  for (unsigned n = 1; h->count > 0; n++) {
    TimerEntry *head = &h->entries[1];
    if (head->when > now || head->seq > newest || (rt->stopping && rt->running))
      return;
    Timer *t = head->timer;
    timer_stop(rt, t);
    t->fire(rt, t);
    if (n % FIRES_PER_LOOK == 0 && clock_real() - start > BITE_SECONDS)
      return;
  }
}

// Virtual time stands still while anything real goes on: only when nothing is
// ready and no descriptor spoke for the threshold does it jump to the head. Who
// waits for all others to wait comes first: they do.
static void jump(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  if (rt->ready.head || rt->still.first || rt->events != h->event_mark ||
      h->pending > 0)
    return;
  double when = h->count > h->weak ? h->entries[1].when : 0;
  if (when > h->virtual_now && when - h->virtual_now < LONGEST_JUMP)
    h->virtual_now = when;
}

static void on_timer(struct ev_loop *loop, ev_timer *w, int revents) {
  Runtime *rt = w->data;
  (void)loop, (void)revents;
  ev_ref(rt->loop); // libev stopped it; it was unreferenced while active
  if (rt->timers.is_virtual)
    jump(rt);
  fire_due(rt);
}

static void disarm(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  if (!ev_is_active(&h->watcher))
    return;
  ev_ref(rt->loop);
  ev_timer_stop(rt->loop, &h->watcher);
}

static void arm(Runtime *rt, double after) {
  TimerHeap *h = &rt->timers;
  // libev adds this to its own cached time, which may lie behind.
  ev_now_update(rt->loop);
  ev_timer_set(&h->watcher, after > 0 ? after : 0, 0);
  ev_timer_start(rt->loop, &h->watcher);
  ev_unref(rt->loop);
}

static void arm_virtual(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  if (ev_is_active(&h->watcher) && rt->events == h->event_mark)
    return;
  disarm(rt);
  h->event_mark = rt->events;
  bool due = h->entries[1].when <= h->virtual_now;
  double patience =
      h->pending > 0 ? fmax(h->threshold, LOOK_AGAIN) : h->threshold;
  arm(rt, due ? 0 : patience);
}

void timer_arm(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  if (h->count == 0) {
    disarm(rt);
    return;
  }
  if (h->is_virtual) {
    arm_virtual(rt);
    return;
  }
  double when = h->entries[1].when;
  if (ev_is_active(&h->watcher) && h->armed <= when)
    return;
  disarm(rt);
  h->armed = when;
  arm(rt, when - clock_now(rt));
}

double timer_next_timeout(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  // That work has time limits which libev keeps, and does not tell.
  double most = h->pending > 0 ? LOOK_SECONDS : -1;
  if (h->count == 0)
    return most;
  double left =
      h->is_virtual ? h->threshold : h->entries[1].when - clock_now(rt);
  if (most >= 0 && left > most)
    return most;
  return left > 0 ? left : 0;
}

void clock_set_virtual(Runtime *rt, bool on, double threshold) {
  TimerHeap *h = &rt->timers;
  disarm(rt);
  // Time never goes back: the real clock goes on from where the virtual one is.
  h->virtual_now = clock_now(rt);
  h->offset = on ? 0 : h->virtual_now - clock_real();
  h->is_virtual = on;
  h->threshold = threshold;
}

void timer_open(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  ev_init(&h->watcher, on_timer);
  // After the descriptors of the same turn, so that virtual time sees them.
  ev_set_priority(&h->watcher, EV_MINPRI);
  h->watcher.data = rt;
}

void timer_close(Runtime *rt) {
  TimerHeap *h = &rt->timers;
  disarm(rt);
  for (uint32_t i = 1; i <= h->count; i++)
    h->entries[i].timer->index = 0;
  h->count = h->weak = 0;
  update_hold(rt);
  runtime_free(rt, h->entries, h->capacity * sizeof(TimerEntry));
  h->entries = NULL;
  h->capacity = 0;
}
