// SPDX-License-Identifier: MIT
//
// Handles: call_soon, call_later, call_at. A Handle is one userdata: function,
// context and arguments in its user values, a ready node and a timer inside. It
// is anchored from the moment it is scheduled until it has run.
#include "handle.h"

#include <math.h>
#include <string.h>

#include "context.h"
#include "error.h"
#include "task.h"
#include "traceback.h"

typedef enum HandleState {
  HANDLE_IDLE,
  HANDLE_TIMED,
  HANDLE_QUEUED,
  HANDLE_OVER // has run, or was cancelled while it was not queued
} HandleState;

struct Handle {
  Runtime *rt;
  Ready ready;
  Timer timer;
  double when;
  int nargs;
  int anchor;
  int run_id; // the run whose end takes it back
  uint8_t state;
  uint8_t entered; // calls under way on behalf of a standing one
  bool cancelled;
  bool timed; // a TimerHandle
};

enum { ARGUMENTS_AT_MOST = 60000 }; // each is a user value

enum { VALUE_FN = 1, VALUE_CONTEXT, VALUE_SITE, VALUE_ARGS };

static const char CLASS[] = "moonloop.Handle";

static Handle *check_handle(lua_State *L) {
  return luaL_checkudata(L, 1, CLASS);
}

static void let_go(Handle *h, lua_State *L) {
  anchor_drop(h->rt, L, h->anchor);
  h->anchor = LUA_NOREF;
}

// Pushes function and arguments on S. Returns the number of arguments.
static int push_call(Handle *h, lua_State *S) {
  lua_checkstack(S, h->nargs + LUA_MINSTACK); // there is no way to refuse here
  anchor_push(h->rt, S, h->anchor);
  int self = lua_gettop(S);
  lua_getiuservalue(S, self, VALUE_FN);
  for (int i = 0; i < h->nargs; i++)
    lua_getiuservalue(S, self, VALUE_ARGS + i);
  return h->nargs;
}

static int call_main(lua_State *L) { // handle -> runs it, protected
  Handle *h = lua_touserdata(L, 1);
  lua_call(L, push_call(h, L), 0);
  return 0;
}

static void run_ready(Runtime *rt, Ready *r) {
  Handle *h = (Handle *)((char *)r - offsetof(Handle, ready));
  h->state = HANDLE_OVER;
  if (h->cancelled) {
    let_go(h, rt->scratch);
    return;
  }
  struct Handle *outer = rt->handle;
  rt->handle = h;
  lua_pushcfunction(rt->scratch, call_main);
  lua_pushlightuserdata(rt->scratch, h);
  runtime_call(rt, 1, "error in a callback");
  rt->handle = outer;
  let_go(h, rt->scratch);
}

// At once, so that callbacks and sleepers of equal times keep their order.
static void on_time(Runtime *rt, Timer *t) {
  Handle *h = (Handle *)((char *)t - offsetof(Handle, timer));
  h->state = HANDLE_QUEUED;
  rt->activity++;
  if (rt->in_lua > 0)
    ready_push(rt, &h->ready);
  else
    run_ready(rt, &h->ready);
}

static void remember_site(Runtime *rt, lua_State *L) { // handle
  if (!rt->debug && !rt->record_sites)
    return;
  traceback_push_caller(L);
  lua_setiuservalue(L, -2, VALUE_SITE);
}

int handle_run_id(Runtime *rt) {
  if (rt->current)
    return rt->current->run_id;
  return rt->handle ? rt->handle->run_id : rt->run_id;
}

Handle *handle_new(Runtime *rt, lua_State *L, int nargs) {
  if (nargs > ARGUMENTS_AT_MOST)
    luaL_error(L, "too many arguments (%d at most)", ARGUMENTS_AT_MOST);
  Handle *h = lua_newuserdatauv(L, sizeof *h, VALUE_ARGS - 1 + nargs);
  memset(h, 0, sizeof *h);
  h->rt = rt;
  h->nargs = nargs;
  h->run_id = handle_run_id(rt);
  h->anchor = LUA_NOREF;
  h->ready.run = run_ready;
  h->timer.fire = on_time;
  luaL_setmetatable(L, CLASS);
  lua_insert(L, -nargs - 2); // handle f args
  for (int i = nargs - 1; i >= 0; i--)
    lua_setiuservalue(L, -i - 3, VALUE_ARGS + i);
  lua_setiuservalue(L, -2, VALUE_FN);
  context_push_inherited(rt, L);
  lua_setiuservalue(L, -2, VALUE_CONTEXT);
  remember_site(rt, L);
  return h;
}

static int do_nothing(lua_State *L) {
  (void)L;
  return 0;
}

Handle *handle_new_standing(Runtime *rt, lua_State *L) {
  lua_pushcfunction(L, do_nothing);
  Handle *h = handle_new(rt, L, 0);
  h->state = HANDLE_OVER;
  h->anchor = anchor_take(rt, L);
  return h;
}

void handle_let_go(Handle *h) {
  h->cancelled = true;
  if (h->entered == 0)
    let_go(h, h->rt->scratch);
}

Handle *handle_enter(Handle *h) {
  Handle *outer = h->rt->handle;
  h->rt->handle = h;
  h->entered++;
  return outer;
}

void handle_leave(Handle *h, Handle *outer) {
  h->rt->handle = outer;
  if (--h->entered == 0 && h->cancelled)
    let_go(h, h->rt->scratch);
}

void handle_schedule(Runtime *rt, lua_State *L) {
  Handle *h = lua_touserdata(L, -1);
  h->anchor = anchor_take(rt, L);
  h->state = HANDLE_QUEUED;
  ready_push(rt, &h->ready);
}

void handle_push_running(Runtime *rt, lua_State *L) {
  anchor_push(rt, L, rt->handle->anchor);
}

void handle_push_context(Runtime *rt, lua_State *L) {
  if (!rt->handle) {
    lua_pushnil(L);
    return;
  }
  handle_push_running(rt, L);
  lua_getiuservalue(L, -1, VALUE_CONTEXT);
  lua_remove(L, -2);
}

void handle_set_context(Runtime *rt, lua_State *L) {
  handle_push_running(rt, L);
  lua_insert(L, -2);
  lua_setiuservalue(L, -2, VALUE_CONTEXT);
  lua_pop(L, 1);
}

// ---- methods ---------------------------------------------------------------

/// Takes the call back, unless it has run. Twice is fine.
// @function Handle:cancel
// @see asyncio.Handle.cancel
static int l_cancel(lua_State *L) {
  Handle *h = check_handle(L);
  if (h->state == HANDLE_OVER || h->cancelled)
    return 0;
  h->cancelled = true;
  if (h->state != HANDLE_TIMED)
    return 0; // it stands in the ready queue, which passes it over
  timer_stop(h->rt, &h->timer);
  h->state = HANDLE_OVER;
  let_go(h, L);
  return 0;
}

/// Tells whether it was cancelled.
// @function Handle:cancelled
// @see asyncio.Handle.cancelled
static int l_cancelled(lua_State *L) {
  lua_pushboolean(L, check_handle(L)->cancelled);
  return 1;
}

/// Gives the time at which it is due; a TimerHandle only.
// @function TimerHandle:when
// @return seconds as `moonloop.time()` counts them
// @raise InvalidStateError for a Handle of `call_soon`
// @see asyncio.TimerHandle.when
static int l_when(lua_State *L) {
  Handle *h = check_handle(L);
  if (!h->timed)
    return error_raise(L, "InvalidStateError",
                       "a handle of call_soon has no time");
  lua_pushnumber(L, h->when);
  return 1;
}

static int l_tostring(lua_State *L) {
  static const char *const words[] = {"idle", "waiting", "queued", "over"};
  Handle *h = check_handle(L);
  lua_pushfstring(L, "%s: %p (%s)", h->timed ? "TimerHandle" : "Handle",
                  (void *)h, h->cancelled ? "cancelled" : words[h->state]);
  return 1;
}

void handle_check_callable(lua_State *L, int arg) {
  if (lua_isfunction(L, arg))
    return;
  if (luaL_getmetafield(L, arg, "__call") == LUA_TNIL)
    luaL_typeerror(L, arg, "function");
  lua_pop(L, 1);
}

/// Has the loop call `fn(...)` on its next turn, after what was queued before,
/// in a copy of the caller's context. `fn` cannot await; its error goes to the
/// exception handler.
// @function Loop:call_soon
// @param fn function, or anything that can be called
// @param ... its arguments
// @return Handle
// @raise InvalidStateError when the loop is closed
// @see asyncio.loop.call_soon
static int l_call_soon(lua_State *L) { // loop fn args
  Runtime *rt = runtime_upvalue(L);
  handle_check_callable(L, 2);
  runtime_check_open(rt, L);
  handle_new(rt, L, lua_gettop(L) - 2);
  lua_pushvalue(L, -1);
  handle_schedule(rt, L);
  return 1;
}

static int call_at(Runtime *rt, lua_State *L, double when) {
  handle_check_callable(L, 3);
  runtime_check_open(rt, L);
  Handle *h = handle_new(rt, L, lua_gettop(L) - 3);
  h->timed = true;
  h->when = when;
  lua_pushvalue(L, -1);
  h->anchor = anchor_take(rt, L);
  timer_start(rt, L, &h->timer, when);
  h->state = HANDLE_TIMED;
  return 1;
}

static double check_time(lua_State *L, int arg) {
  double seconds = luaL_checknumber(L, arg);
  luaL_argcheck(L, !isnan(seconds), arg, "not a number of seconds (nan)");
  return seconds;
}

/// Has the loop call `fn(...)` in `delay` seconds, not earlier; else as
/// `call_soon`.
// @function Loop:call_later
// @param delay number, seconds; negative is 0
// @param fn function, or anything that can be called
// @param ... its arguments
// @return TimerHandle
// @raise InvalidStateError when the loop is closed
// @see asyncio.loop.call_later
static int l_call_later(lua_State *L) { // loop delay fn args
  Runtime *rt = runtime_upvalue(L);
  return call_at(rt, L, clock_now(rt) + check_time(L, 2));
}

/// Has the loop call `fn(...)` at `when`; calls at equal times run in the order
/// they were made. Else as `call_soon`.
// @function Loop:call_at
// @param when number, seconds as `moonloop.time()` counts them
// @param fn function, or anything that can be called
// @param ... its arguments
// @return TimerHandle
// @raise InvalidStateError when the loop is closed
// @see asyncio.loop.call_at
static int l_call_at(lua_State *L) { // loop when fn args
  return call_at(runtime_upvalue(L), L, check_time(L, 2));
}

// The timers of handles that were started after `mark` and wait: a list of
// {handle=, site=}.
static int l_open_timers(lua_State *L) { // mark
  Runtime *rt = runtime_upvalue(L);
  uint64_t mark = (uint64_t)luaL_checkinteger(L, 1);
  int n = 0;
  lua_newtable(L);
  for (uint32_t i = 1; i <= rt->timers.count; i++) {
    TimerEntry *e = &rt->timers.entries[i];
    if (e->seq <= mark || e->timer->fire != on_time)
      continue;
    Handle *h = (Handle *)((char *)e->timer - offsetof(Handle, timer));
    lua_createtable(L, 0, 2);
    anchor_push(rt, L, h->anchor);
    lua_getiuservalue(L, -1, VALUE_SITE);
    lua_setfield(L, -3, "site");
    lua_setfield(L, -2, "handle");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const luaL_Reg methods[] = {
    {"cancel",    l_cancel   },
    {"cancelled", l_cancelled},
    {"when",      l_when     },
    {NULL,        NULL       },
};

static const luaL_Reg meta[] = {
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

static bool is_of_run(const Handle *h, lua_Integer first, lua_Integer last) {
  return h->run_id >= first && h->run_id <= last;
}

static void drop_queued(Runtime *rt, lua_Integer first, lua_Integer last) {
  for (Ready *r = rt->ready.head; r; r = r->next) {
    if (r->run != run_ready)
      continue;
    Handle *h = (Handle *)((char *)r - offsetof(Handle, ready));
    h->cancelled = h->cancelled || is_of_run(h, first, last);
  }
}

static Handle *find_timed(Runtime *rt, lua_Integer first, lua_Integer last) {
  for (uint32_t i = rt->timers.count; i > 0; i--) {
    Timer *t = rt->timers.entries[i].timer;
    Handle *h = (Handle *)((char *)t - offsetof(Handle, timer));
    if (t->fire == on_time && is_of_run(h, first, last))
      return h;
  }
  return NULL;
}

// Takes back the calls of some runs that wait for their turn or time.
static int l_drop_handles(lua_State *L) { // first last
  Runtime *rt = runtime_upvalue(L);
  lua_Integer first = luaL_checkinteger(L, 1), last = luaL_checkinteger(L, 2);
  drop_queued(rt, first, last);
  for (Handle *h; (h = find_timed(rt, first, last));) {
    timer_stop(rt, &h->timer);
    h->cancelled = true;
    h->state = HANDLE_OVER;
    let_go(h, L);
  }
  return 0;
}

// Calls `fn(...)` as the loop does: in no task. -> true, or false and the error
static int l_call_outside(lua_State *L) { // fn ...
  Runtime *rt = runtime_upvalue(L);
  lua_pushcfunction(L, error_handler);
  lua_insert(L, 1);
  Running outer = runtime_enter(rt, NULL, L);
  int status = lua_pcall(L, lua_gettop(L) - 2, 0, 1);
  runtime_leave(rt, outer);
  lua_pushboolean(L, status == LUA_OK);
  lua_replace(L, 1);
  return lua_gettop(L);
}

static int l_traceback_of_error(lua_State *L) {
  error_push_traceback(runtime_upvalue(L), L, 1);
  return 1;
}

static const luaL_Reg functions[] = {
    {"call_outside",       l_call_outside      },
    {"traceback_of_error", l_traceback_of_error},
    {"drop_handles",       l_drop_handles      },
    {"call_soon",          l_call_soon         },
    {"call_later",         l_call_later        },
    {"call_at",            l_call_at           },
    {"open_timers",        l_open_timers       },
    {NULL,                 NULL                },
};

void handle_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  lua_pop(L, 1);
  runtime_set_functions(rt, L, functions);
}
