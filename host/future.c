// SPDX-License-Identifier: MIT
//
// Futures. The outcome lives in a user value (one value, a table of several, or
// the error); waiters are linked through their tasks, so awaiting allocates
// nothing. What is called when it is done is in future_callbacks.c.
#include "future.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "report.h"
#include "task.h"
#include "wait.h"

static const char CLASS[] = "moonloop.Future";

// By what it begins with rather than by its metatable, which takes look-ups
// that showed: a quarter of a round trip between two tasks.
Future *future_test(Runtime *rt, lua_State *L, int arg) {
  if (lua_type(L, arg) != LUA_TUSERDATA || lua_rawlen(L, arg) < sizeof(Future))
    return NULL;
  Future *f = lua_touserdata(L, arg);
  return f->rt == rt && f->magic == FUTURE_MAGIC ? f : NULL;
}

Future *future_check(Runtime *rt, lua_State *L, int arg) {
  Future *f = future_test(rt, L, arg);
  if (!f)
    luaL_typeerror(L, arg, "Future");
  return f;
}

// A method's self: Tasks share the Future's methods.
static Future *check_self(lua_State *L) {
  return future_check(runtime_upvalue(L), L, 1);
}

// ---- waiters ---------------------------------------------------------------

static int abort_await(moonloop_wait *w, void *ud) {
  wait_list_remove(&((Future *)ud)->waiters, task_of_wait(w));
  return 1;
}

// As abort_await; a different function, for this tells a join from an await.
static int abort_join(moonloop_wait *w, void *ud) { return abort_await(w, ud); }

static int push_awaited(lua_State *L, void *ud) {
  (void)ud;
  return future_push_result(L, 1);
}

static void describe_await(Runtime *rt, moonloop_wait *w, char *text,
                           size_t size) {
  Future *f = w->abort_ud;
  char name[64];
  if (!f->is_task) {
    snprintf(text, size, "a future");
    return;
  }
  task_name(rt, (Task *)f, name, sizeof name);
  snprintf(text, size, "task '%s'", name);
}

int future_await(Runtime *rt, lua_State *L) {
  Future *f = lua_touserdata(L, 1);
  if (f == (Future *)rt->current)
    return error_raise(L, "Error", "a task cannot await itself");
  if (future_is_done(f) && wait_may_complete(rt, L))
    return future_push_result(L, 1);
  moonloop_wait *w = wait_begin(rt, L, abort_await, f, describe_await);
  if (future_is_done(f))
    wait_wake_later(w, push_awaited, NULL);
  else
    wait_list_add(&f->waiters, rt->current);
  return moonloop_await(L, w);
}

// ---- outcome ---------------------------------------------------------------

void future_take(lua_State *L, int self) {
  Future *f = lua_touserdata(L, self);
  if (f->taken)
    return;
  f->taken = true;
  if (f->is_task && f->state == FUTURE_FAILED)
    report_forget(f->rt, L, self);
}

static int push_values(lua_State *L, int self, const Future *f) {
  if (f->result_count == 0)
    return 0;
  lua_getiuservalue(L, self, FUTURE_RESULT);
  if (f->result_count == 1)
    return 1;
  int packed = lua_gettop(L);
  luaL_checkstack(L, f->result_count, "too many results");
  for (int i = 1; i <= f->result_count; i++)
    lua_rawgeti(L, packed, i);
  return f->result_count;
}

int future_push_result(lua_State *L, int self) {
  Future *f = lua_touserdata(L, self);
  self = lua_absindex(L, self);
  if (f->state == FUTURE_DONE)
    return push_values(L, self, f);
  future_take(L, self);
  lua_getiuservalue(L, self, FUTURE_RESULT);
  if (f->is_task) { // the error goes on with the traceback of its origin
    task_push_traceback(f->rt, L, self);
    if (lua_isnil(L, -1))
      lua_pop(L, 1);
    else
      error_keep(f->rt, L, -2);
  }
  return lua_error(L);
}

static void store_values(lua_State *L, int self, Future *f, int n) {
  f->result_count = n;
  if (n == 0)
    return;
  if (n > 1) {
    lua_createtable(L, n, 0);
    lua_insert(L, -n - 1);
    for (int i = n; i >= 1; i--)
      lua_rawseti(L, -i - 1, i);
  }
  lua_setiuservalue(L, self, FUTURE_RESULT);
}

static void wake_waiters(Future *f) {
  Task *t = f->waiters.first;
  f->waiters = (WaitList){NULL, NULL};
  while (t) {
    Task *next = t->next_waiter;
    bool joins = t->wait.abort == abort_join;
    f->taken = f->taken || !joins;
    wait_wake_later(&t->wait, joins ? NULL : push_awaited, NULL);
    t = next;
  }
}

void future_complete(lua_State *L, int self, FutureState state, int n) {
  self = lua_absindex(L, self);
  Future *f = lua_touserdata(L, self);
  store_values(L, self, f, n);
  f->state = (uint8_t)state;
  wake_waiters(f);
  if (f->has_callbacks)
    future_run_callbacks(L, self);
}

// ---- methods ---------------------------------------------------------------

static int raise_done(lua_State *L, const Future *f) {
  return error_raise(L, "InvalidStateError", "the %s is done already",
                     f->is_task ? "task" : "future");
}

static Future *check_settable(lua_State *L) {
  Future *f = check_self(L);
  if (f->is_task)
    error_raise(L, "InvalidStateError",
                "the result of a task is what its function returns");
  if (future_is_done(f))
    raise_done(L, f);
  runtime_check_open(f->rt, L);
  return f;
}

/// Sets the result. Waiters and callbacks run later.
// @function Future:set_result
// @param ... any number of values
// @raise InvalidStateError when it is done, is a Task, or the loop is closed
// @see asyncio.Future.set_result
static int l_set_result(lua_State *L) {
  check_settable(L);
  future_complete(L, 1, FUTURE_DONE, lua_gettop(L) - 1);
  return 0;
}

/// Sets an error, raised where the Future is awaited. Alias `set_exception`.
// @function Future:set_error
// @param e any value; a CancelledError cancels the Future
// @raise InvalidStateError when it is done, is a Task, or the loop is closed
// @see asyncio.Future.set_exception
static int l_set_error(lua_State *L) {
  check_settable(L);
  lua_settop(L, 2);
  bool cancelled = error_is(L, 2, "CancelledError");
  future_complete(L, 1, cancelled ? FUTURE_CANCELLED : FUTURE_FAILED, 1);
  return 0;
}

/// Cancels it: who awaits it gets a CancelledError.
// @function Future:cancel
// @param[opt] msg string, message of the CancelledError
// @return whether it was not done yet
// @see asyncio.Future.cancel
static int l_cancel(lua_State *L) {
  Future *f = check_self(L);
  if (f->is_task)
    return task_l_cancel(L);
  if (future_is_done(f)) {
    lua_pushboolean(L, false);
    return 1;
  }
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "the future was cancelled");
    lua_replace(L, 2);
  }
  error_wrap(L, "CancelledError");
  future_complete(L, 1, FUTURE_CANCELLED, 1);
  lua_pushboolean(L, true);
  return 1;
}

/// Tells whether it has a result or an error, or was cancelled.
// @function Future:done
// @see asyncio.Future.done
static int l_done(lua_State *L) {
  lua_pushboolean(L, future_is_done(check_self(L)));
  return 1;
}

/// Tells whether it was cancelled.
// @function Future:cancelled
// @see asyncio.Future.cancelled
static int l_cancelled(lua_State *L) {
  lua_pushboolean(L, check_self(L)->state == FUTURE_CANCELLED);
  return 1;
}

static Future *check_done(lua_State *L) {
  Future *f = check_self(L);
  if (!future_is_done(f))
    error_raise(L, "InvalidStateError", "the %s has no result yet",
                f->is_task ? "task" : "future");
  return f;
}

/// Gives the values that were set, or raises the error.
// @function Future:result
// @raise its error; InvalidStateError when not done; CancelledError
// @see asyncio.Future.result
static int l_result(lua_State *L) {
  check_done(L);
  return future_push_result(L, 1);
}

/// Gives the error, or nil. Alias `exception`.
// @function Future:error
// @raise InvalidStateError when it is not done; CancelledError when cancelled
// @see asyncio.Future.exception
static int l_error(lua_State *L) {
  Future *f = check_done(L);
  if (f->state == FUTURE_CANCELLED)
    return future_push_result(L, 1);
  future_take(L, 1);
  if (f->state != FUTURE_FAILED)
    return 0;
  lua_getiuservalue(L, 1, FUTURE_RESULT);
  return 1;
}

/// Waits until it is done. Awaits. A waiter that is cancelled stops waiting;
/// the Future is untouched.
// @function Future:await
// @return the values
// @raise its error; Error in the Task itself; see Awaiting functions
// @see asyncio.Future
static int l_await(lua_State *L) {
  Future *f = check_self(L);
  return future_await(f->rt, L);
}

// Whether it ended with an error or cancelled, without taking that.
static int l_has_failed(lua_State *L) {
  Future *f = check_self(L);
  lua_pushboolean(L, f->state > FUTURE_DONE);
  return 1;
}

// Marks the outcome as somebody's business: it will not be reported.
static int l_take(lua_State *L) {
  check_self(L);
  future_take(L, 1);
  return 0;
}

// Waits until it is done, and leaves the outcome for others to take. Awaits.
static int l_join(lua_State *L) {
  Future *f = check_self(L);
  if (future_is_done(f) && wait_may_complete(f->rt, L))
    return 0;
  moonloop_wait *w = wait_begin(f->rt, L, abort_join, f, describe_await);
  if (future_is_done(f))
    wait_wake_later(w, NULL, NULL);
  else
    wait_list_add(&f->waiters, f->rt->current);
  return moonloop_await(L, w);
}

static int l_tostring(lua_State *L) {
  static const char *const words[] = {"pending", "done", "failed", "cancelled"};
  Future *f = check_self(L);
  lua_pushfstring(L, "Future: %p (%s)", (void *)f, words[f->state]);
  return 1;
}

/// Makes a Future.
// @function Future
// @see asyncio.loop.create_future
static int l_future(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  Future *f = lua_newuserdatauv(L, sizeof *f, FUTURE_VALUES);
  memset(f, 0, sizeof *f);
  f->rt = rt;
  f->magic = FUTURE_MAGIC;
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->future_mt);
  lua_setmetatable(L, -2);
  return 1;
}

/// Tells whether a value is a Future (a Task is one).
// @function isfuture
// @param value any
// @see asyncio.isfuture
static int l_isfuture(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushboolean(L, future_test(runtime_upvalue(L), L, 1) != NULL);
  return 1;
}

static const luaL_Reg methods[] = {
    {"set_result",           l_set_result                 },
    {"set_error",            l_set_error                  },
    {"set_exception",        l_set_error                  },
    {"cancel",               l_cancel                     },
    {"done",                 l_done                       },
    {"cancelled",            l_cancelled                  },
    {"result",               l_result                     },
    {"error",                l_error                      },
    {"exception",            l_error                      },
    {"await",                l_await                      },
    {"add_done_callback",    future_l_add_done_callback   },
    {"remove_done_callback", future_l_remove_done_callback},
    {NULL,                   NULL                         },
};

static const luaL_Reg meta[] = {
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

static const luaL_Reg functions[] = {
    {"Future",     l_future        },
    {"isfuture",   l_isfuture      },
    {"join",       l_join          },
    {"has_failed", l_has_failed    },
    {"take",       l_take          },
    {"watch",      future_l_watch  },
    {"unwatch",    future_l_unwatch},
    {NULL,         NULL            },
};

void future_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  rt->future_mt = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
}
