// SPDX-License-Identifier: MIT
//
// Timers: a 4-heap of absolute monotonic times with one ev_timer armed for its
// head, and the clock they are compared with, which may be virtual.
#ifndef MOONLOOP_TIMER_H
#define MOONLOOP_TIMER_H

#include <ev.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct moonloop_runtime Runtime;
typedef struct Timer Timer;

struct Timer {
  uint32_t index; // place in the heap, 0 when not started
  bool weak;      // does not keep the loop alive
  void (*fire)(Runtime *rt, Timer *self); // called once, already stopped
};

typedef struct TimerEntry {
  double when;
  uint64_t seq; // equal times fire in the order they were started
  Timer *timer;
} TimerEntry;

typedef struct TimerHeap {
  TimerEntry *entries; // 1-based
  uint32_t count;
  uint32_t capacity;
  uint32_t weak; // how many of them do not keep the loop alive
  uint64_t seq;
  double armed; // what the ev_timer is set for; meaningless while inactive
  bool held;    // whether the heap holds a reference on the libev loop
  ev_timer watcher;
  bool is_virtual;
  double virtual_now;
  double offset;       // of the clock from the system's, after virtual time
  double threshold;    // real seconds of silence before virtual time jumps
  uint64_t event_mark; // rt->events when the silence began
  unsigned pending;    // work elsewhere that holds virtual time back
} TimerHeap;

void timer_open(Runtime *rt);
void timer_close(Runtime *rt);

// Monotonic seconds, read fresh; the virtual clock's while that is on.
double clock_now(Runtime *rt);

// The system's own, whatever clock is on.
double clock_real(void);

// Starts a timer that fires at `when`. Raises in L when memory is out; the
// other one answers false then.
void timer_start(Runtime *rt, lua_State *L, Timer *t, double when);
bool timer_try_start(Runtime *rt, Timer *t, double when);
void timer_stop(Runtime *rt, Timer *t);
void timer_set_weak(Runtime *rt, Timer *t, bool weak);
double timer_when(Runtime *rt, const Timer *t);

static inline bool timer_is_active(const Timer *t) { return t->index != 0; }

// Sets the ev_timer for the head; called before each poll.
void timer_arm(Runtime *rt);

// Seconds until the head is due, 0 when it is, negative when there is none.
double timer_next_timeout(Runtime *rt);

void clock_set_virtual(Runtime *rt, bool on, double threshold);

#endif
