// SPDX-License-Identifier: MIT
//
// The ready queue. It is drained by an ev_prepare watcher, so everything that
// was queued runs before the loop can block; what is left after a bounded bite
// waits for one non-blocking look at the descriptors, which an active ev_idle
// watcher makes of the next poll.
#include "ready.h"

#include "runtime.h"

enum { PASSES_AT_MOST = 64, LOOK_AT_CLOCK_EVERY = 64 };
static const double BITE_SECONDS = 0.001;

void ready_push(Runtime *rt, Ready *node) {
  ReadyQueue *q = &rt->ready;
  node->next = NULL;
  if (q->tail)
    q->tail->next = node;
  else
    q->head = node;
  q->tail = node;
  q->count++;
  rt->activity++;
  if (q->held)
    return;
  q->held = true;
  runtime_hold(rt);
}

static Ready *pop(ReadyQueue *q) {
  Ready *node = q->head;
  q->head = node->next;
  if (!q->head)
    q->tail = NULL;
  q->count--;
  return node;
}

// Runs what was queued when it began. Returns false when the bite is used up.
static bool drain_once(Runtime *rt, unsigned *done, double *end) {
  for (size_t left = rt->ready.count; left > 0 && rt->ready.head; left--) {
    Ready *node = pop(&rt->ready);
    node->run(rt, node);
    // A task that has used up its budget has run for long.
    if (++*done % LOOK_AT_CLOCK_EVERY != 0 && rt->budget > 0)
      continue;
    rt->budget = AWAIT_BUDGET;
    // The first look only starts the clock: short bites never read it.
    if (*end == 0)
      *end = clock_real() + BITE_SECONDS;
    else if (clock_real() >= *end)
      return false;
  }
  return true;
}

void ready_drain(Runtime *rt) {
  unsigned done = 0;
  double end = 0;
  for (int pass = 0; pass < PASSES_AT_MOST && rt->ready.head; pass++)
    if (!drain_once(rt, &done, &end) || rt->stopping)
      break;
  if (rt->ready.head || !rt->ready.held)
    return;
  rt->ready.held = false;
  runtime_release(rt);
}

void ready_clear(Runtime *rt) {
  ReadyQueue *q = &rt->ready;
  q->head = q->tail = NULL;
  q->count = 0;
  if (!q->held)
    return;
  q->held = false;
  runtime_release(rt);
}
