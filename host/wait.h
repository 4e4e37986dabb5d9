// SPDX-License-Identifier: MIT
//
// The wait: the one primitive by which a task suspends. Begun with an abort
// function, parked by a yield, ended exactly once by a wake or an abort.
#ifndef MOONLOOP_WAIT_H
#define MOONLOOP_WAIT_H

#include "runtime.h"

typedef enum WaitState {
  WAIT_IDLE,
  WAIT_BEGUN,  // an operation is under way, the task still runs
  WAIT_PARKED, // the task has yielded
  WAIT_WOKEN   // the operation ended; the task will see its result
} WaitState;

enum {
  WAIT_CANCEL = 1,     // raise CancelledError instead of the result
  WAIT_HOLDS = 2,      // counts as something that can wake, from outside
  WAIT_THROW = 4,      // raise the value kept in the task's extras
  WAIT_QUEUED = 8,     // the task stands in the ready queue
  WAIT_FORMATTED = 16, // `label` is text
  WAIT_TELLS = 64,     // call abort also when a wake is never seen by the task
  WAIT_TURN = 32       // for its turn only: no result is lost by a cancellation
};

typedef void (*WaitDescribe)(Runtime *rt, moonloop_wait *w, char *text,
                             size_t size);

struct moonloop_wait {
  moonloop_abort_fn abort;
  void *abort_ud;
  moonloop_push_fn push;
  void *push_ud;
  union {
    WaitDescribe describe; // says in words what is waited for
    char *label;           // or the text itself, 48 bytes
  } as;
  uint8_t state;
  uint8_t flags;
};

// As moonloop_await_begin, for what lives in memory: such a wait does not keep
// the loop alive. `describe` is what the inspector shows.
moonloop_wait *wait_begin(Runtime *rt, lua_State *L, moonloop_abort_fn abort_fn,
                          void *ud, WaitDescribe describe);

// The same for what the operating system will end.
moonloop_wait *wait_begin_io(Runtime *rt, lua_State *L,
                             moonloop_abort_fn abort_fn, void *ud,
                             WaitDescribe describe);

// For an operation that could complete at once: raises what an await raises
// (outside a task, cancelled, ...) and answers whether it may do so without
// letting others run first.
bool wait_may_complete(Runtime *rt, lua_State *L);

// Forgets a task's wait: one that was begun and, for an error came between,
// never awaited is undone.
void wait_drop(Task *t);

// Lets every task that is ready run once, then answers with `push`: use as
// `return wait_take_turn(...)`. A cancellation that comes meanwhile is raised,
// for no result is lost by it.
int wait_take_turn(Runtime *rt, lua_State *L, moonloop_push_fn push);

// Whether an await would be possible here, cancelled or not.
bool wait_is_possible(Runtime *rt, lua_State *L);

// Raises that there is no task here, or none that reaches this coroutine.
int wait_raise_no_task(Runtime *rt, lua_State *L);

// Raises what an await would raise here and now.
void wait_check(Runtime *rt, lua_State *L);

// Ends a wait by way of the ready queue, whoever calls.
void wait_wake_later(moonloop_wait *w, moonloop_push_fn push, void *ud);

// Ends the wait of a task that is parked, so that CancelledError (or what was
// stored to be thrown) is raised in it. False when it could not be stopped.
bool wait_interrupt(Runtime *rt, Task *t, uint8_t flag);

// A task stands in one list at most: it waits for one thing.
void wait_list_add(WaitList *list, Task *t);
void wait_list_remove(WaitList *list, Task *t);

// Whether a coroutine is parked by an await (and not by coroutine.yield).
bool wait_is_parked(lua_State *co);

// The task that drives a parked coroutine.
Task *wait_parked_task(lua_State *co);

// Parks the coroutine L around one that is parked; `k` goes on when it wakes.
int wait_park_around(lua_State *L, Task *t, lua_KFunction k);

// Takes the marks of parking off a coroutine that will be resumed.
void wait_unpark(lua_State *co);

// Writes what the task waits for.
void wait_describe(Runtime *rt, Task *t, char *text, size_t size);

#endif
