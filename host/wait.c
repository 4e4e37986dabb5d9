// SPDX-License-Identifier: MIT
//
// The only functions that ever yield to the scheduler. A wait is begun (here
// cancellation is looked at, so no module does), parked, and ended once: by a
// wake with a result or by an abort. A parked coroutine has two light userdata
// on top of its stack, by which `coroutine.resume` tells an await from a yield.
#include "wait.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "coroutine.h"
#include "error.h"
#include "task.h"
#include "traceback.h"

enum { LABEL_SIZE = 48, SWALLOWED_AT_MOST = 1000 };

static char await_marker; // its address marks a coroutine parked by an await

// ---- parking ---------------------------------------------------------------

bool wait_is_parked(lua_State *co) {
  return lua_status(co) == LUA_YIELD && lua_gettop(co) >= 2 &&
         lua_touserdata(co, -2) == (void *)&await_marker;
}

Task *wait_parked_task(lua_State *co) { return lua_touserdata(co, -1); }

void wait_unpark(lua_State *co) { lua_pop(co, 2); }

int wait_park_around(lua_State *L, Task *t, lua_KFunction k) {
  lua_pushlightuserdata(L, &await_marker);
  lua_pushlightuserdata(L, t);
  t->future.rt->parked = L;
  return lua_yieldk(L, 2, (lua_KContext)t, k);
}

// Ends the references that a wait holds. The wait is over then.
static void settle(Runtime *rt, moonloop_wait *w) {
  w->state = WAIT_WOKEN;
  if (w->flags & WAIT_HOLDS) {
    w->flags &= (uint8_t)~WAIT_HOLDS;
    runtime_release(rt);
  }
}

static void drop_label(Runtime *rt, moonloop_wait *w) {
  if (!(w->flags & WAIT_FORMATTED))
    return;
  runtime_free(rt, w->as.label, LABEL_SIZE);
  w->as.label = NULL;
  w->flags &= (uint8_t)~WAIT_FORMATTED;
}

static int throw_stored(lua_State *L, Task *t) {
  task_push(t->future.rt, L, t);
  task_push_extras(L, -1, true);
  lua_getfield(L, -1, "thrown");
  lua_pushnil(L);
  lua_setfield(L, -3, "thrown");
  return lua_error(L);
}

// The wait was given up, also when the cancellation was taken back since.
static int raise_interrupted(Runtime *rt, lua_State *L, Task *t) {
  Scope *cause = scope_cause(t->scope);
  if (!cause)
    return error_raise(L, "CancelledError", "cancelled");
  scope_push_error(rt, L, cause);
  return lua_error(L);
}

// The task runs again (or still): its result, or what is raised in its stead.
static int finish(Runtime *rt, lua_State *L, moonloop_wait *w) {
  Task *t = task_of_wait(w);
  uint8_t flags = w->flags;
  drop_label(rt, w);
  w->state = WAIT_IDLE;
  w->flags = 0;
  if (flags & WAIT_THROW)
    return throw_stored(L, t);
  if (flags & WAIT_CANCEL)
    return raise_interrupted(rt, L, t);
  return w->push ? w->push(L, w->push_ud) : 0;
}

static int await_k(lua_State *L, int status, lua_KContext ctx) {
  Task *t = (Task *)ctx;
  Runtime *rt = t->future.rt;
  (void)status;
  // Somebody else resumed the coroutine: the wait goes on.
  if (rt->delivering != t)
    return wait_park_around(L, t, await_k);
  rt->delivering = NULL;
  return finish(rt, L, &t->wait);
}

int moonloop_await(lua_State *L, moonloop_wait *w) {
  Task *t = task_of_wait(w);
  Runtime *rt = t->future.rt;
  if (w->state == WAIT_WOKEN) {
    if (rt->budget-- > 0)
      return finish(rt, L, w);
    w->flags |= WAIT_QUEUED;
    ready_push(rt, &t->ready);
  } else {
    w->state = WAIT_PARKED;
  }
  t->waiting = L;
  return wait_park_around(L, t, await_k);
}

// ---- beginning -------------------------------------------------------------

static void describe_unnamed(Runtime *rt, moonloop_wait *w, char *text,
                             size_t size) {
  (void)rt, (void)w;
  snprintf(text, size, "a C function");
}

static void describe_turn(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  (void)rt, (void)w;
  snprintf(text, size, "its next turn");
}

void wait_drop(Task *t) {
  moonloop_wait *w = &t->wait;
  if (w->state == WAIT_BEGUN && w->abort)
    w->abort(w, w->abort_ud);
  if (w->state == WAIT_BEGUN)
    settle(t->future.rt, w);
  drop_label(t->future.rt, w);
  w->state = WAIT_IDLE;
}

static moonloop_wait *prepare(Task *t, moonloop_abort_fn abort_fn, void *ud,
                              WaitDescribe describe) {
  moonloop_wait *w = &t->wait;
  wait_drop(t);
  w->abort = abort_fn;
  w->abort_ud = ud;
  w->push = NULL;
  w->as.describe = describe;
  w->state = WAIT_BEGUN;
  w->flags = 0;
  return w;
}

int wait_raise_no_task(Runtime *rt, lua_State *L) {
  if (rt->current)
    return error_raise(L, "Error",
                       "cannot await in this coroutine: the host does not drive"
                       " it; call moonloop.patch_coroutines() first");
  return error_raise(L, "Error",
                     "no running task: an await belongs into a task, use "
                     "moonloop.run");
}

static int raise_barrier(Runtime *rt, lua_State *L) {
  if (!traceback_push_barrier(L, L, 1) &&
      !(rt->barrier && traceback_push_barrier(L, rt->barrier, 0)))
    lua_pushliteral(L, "xpcall's message handler");
  return error_raise(L, "Error",
                     "cannot await across a C function that cannot be "
                     "suspended: %s",
                     lua_tostring(L, -1));
}

// Parks the task behind what is ready; then `push`, or what the flag says.
static int park_queued(Runtime *rt, lua_State *L, Task *t, uint8_t flag,
                       moonloop_push_fn push) {
  moonloop_wait *w = prepare(t, NULL, NULL, describe_turn);
  w->push = push;
  w->flags = flag | WAIT_QUEUED;
  w->state = WAIT_WOKEN;
  t->waiting = L;
  ready_push(rt, &t->ready);
  return wait_park_around(L, t, await_k);
}

// A task in a cancelled scope is let run on from its first CancelledError; from
// the second on the loop runs before each, and at some point that is enough.
static int raise_cancelled(Runtime *rt, lua_State *L, Task *t, Scope *cause) {
  if (cause->delivered == 0 || t->doomed) {
    scope_push_error(rt, L, cause);
    return lua_error(L);
  }
  if (cause->delivered >= SWALLOWED_AT_MOST)
    t->doomed = true;
  return park_queued(rt, L, t, WAIT_CANCEL, NULL);
}

bool wait_is_possible(Runtime *rt, lua_State *L) {
  Task *t = rt->current;
  return t && L == rt->innermost && !rt->undriven && !t->doomed &&
         lua_isyieldable(L) && !rt->barrier;
}

static Task *check_may_wait(Runtime *rt, lua_State *L) {
  Task *t = rt->current;
  if (!t || L != rt->innermost || rt->undriven)
    wait_raise_no_task(rt, L);
  if (t->doomed)
    error_raise(L, "Error", "the task is being closed: it cannot await");
  if (!lua_isyieldable(L) || rt->barrier)
    raise_barrier(rt, L);
  if (!scope_is_quiet(t->scope))
    raise_cancelled(rt, L, t, scope_cause(t->scope));
  return t;
}

moonloop_wait *wait_begin(Runtime *rt, lua_State *L, moonloop_abort_fn abort_fn,
                          void *ud, WaitDescribe describe) {
  return prepare(check_may_wait(rt, L), abort_fn, ud, describe);
}

moonloop_wait *wait_begin_io(Runtime *rt, lua_State *L,
                             moonloop_abort_fn abort_fn, void *ud,
                             WaitDescribe describe) {
  moonloop_wait *w = wait_begin(rt, L, abort_fn, ud, describe);
  w->flags = WAIT_HOLDS;
  runtime_hold(rt);
  return w;
}

moonloop_wait *moonloop_await_begin(lua_State *L, moonloop_abort_fn abort_fn,
                                    void *ud) {
  return wait_begin_io(runtime_check(L), L, abort_fn, ud, describe_unnamed);
}

void wait_check(Runtime *rt, lua_State *L) { check_may_wait(rt, L); }

int wait_take_turn(Runtime *rt, lua_State *L, moonloop_push_fn push) {
  return park_queued(rt, L, check_may_wait(rt, L), WAIT_TURN, push);
}

bool wait_may_complete(Runtime *rt, lua_State *L) {
  check_may_wait(rt, L);
  if (rt->budget <= 0)
    return false;
  rt->budget--;
  return true;
}

void moonloop_wait_label(moonloop_wait *w, const char *fmt, ...) {
  Runtime *rt = task_of_wait(w)->future.rt;
  char *text = w->flags & WAIT_FORMATTED
                   ? w->as.label
                   : runtime_realloc(rt, NULL, 0, LABEL_SIZE);
  if (!text)
    return;
  va_list args;
  va_start(args, fmt);
  vsnprintf(text, LABEL_SIZE, fmt, args);
  va_end(args);
  w->as.label = text;
  w->flags |= WAIT_FORMATTED;
}

// ---- ending ----------------------------------------------------------------

static void queue(Runtime *rt, Task *t) {
  t->wait.flags |= WAIT_QUEUED;
  ready_push(rt, &t->ready);
}

void wait_wake_later(moonloop_wait *w, moonloop_push_fn push, void *ud) {
  Task *t = task_of_wait(w);
  if (t->future.rt->closed)
    return;
  bool parked = w->state == WAIT_PARKED;
  w->push = push;
  w->push_ud = ud;
  settle(t->future.rt, w);
  if (parked)
    queue(t->future.rt, t);
}

void moonloop_wake(moonloop_wait *w, moonloop_push_fn push, void *ud) {
  Task *t = task_of_wait(w);
  Runtime *rt = t->future.rt;
  if (rt->closed)
    return;
  rt->events++;
  if (w->state != WAIT_PARKED || !runtime_may_resume(rt)) {
    wait_wake_later(w, push, ud);
    return;
  }
  w->push = push;
  w->push_ud = ud;
  rt->activity++;
  settle(rt, w);
  task_resume(rt, t);
}

bool wait_interrupt(Runtime *rt, Task *t, uint8_t flag) {
  moonloop_wait *w = &t->wait;
  if (w->state == WAIT_WOKEN && (w->flags & WAIT_TURN)) {
    w->flags |= flag;
    return true;
  }
  if (w->state != WAIT_PARKED)
    return false; // it runs, or its result is there already and wins
  w->flags |= flag;
  if (!w->abort || !w->abort(w, w->abort_ud))
    return false;
  if (w->state != WAIT_PARKED)
    return false;                   // the abort function woke it
  w->flags &= (uint8_t)~WAIT_TELLS; // there is no wake to tell of
  settle(rt, w);
  queue(rt, t);
  return true;
}

void wait_list_add(WaitList *list, Task *t) {
  t->next_waiter = NULL;
  t->prev_waiter = list->last;
  if (list->last)
    list->last->next_waiter = t;
  else
    list->first = t;
  list->last = t;
}

void wait_list_remove(WaitList *list, Task *t) {
  if (t->prev_waiter)
    t->prev_waiter->next_waiter = t->next_waiter;
  else
    list->first = t->next_waiter;
  if (t->next_waiter)
    t->next_waiter->prev_waiter = t->prev_waiter;
  else
    list->last = t->prev_waiter;
}

void wait_describe(Runtime *rt, Task *t, char *text, size_t size) {
  moonloop_wait *w = &t->wait;
  if (!t->co)
    snprintf(text, size, "ended");
  else if (!t->started)
    snprintf(text, size, "its first turn");
  else if (rt->current == t || lua_status(t->co) != LUA_YIELD)
    snprintf(text, size, "running");
  else if (w->state == WAIT_WOKEN)
    snprintf(text, size, "its next turn");
  else if (w->flags & WAIT_FORMATTED)
    snprintf(text, size, "%s", w->as.label);
  else if (w->state == WAIT_PARKED)
    w->as.describe(rt, w, text, size);
  else
    snprintf(text, size, "nothing");
}
