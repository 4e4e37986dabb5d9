// SPDX-License-Identifier: MIT
//
// The CancelScope: a userdata that opens a scope, around a function or (for the
// `<close>` forms that are in Lua) as a block that is entered and left. A
// deadline is a scope with a timer.
#include <math.h>
#include <string.h>

#include "error.h"
#include "handle.h"
#include "scope.h"
#include "task.h"
#include "traceback.h"
#include "wait.h"

static const char CLASS[] = "moonloop.CancelScope";

static CancelScope *check_scope(lua_State *L) {
  return luaL_checkudata(L, 1, CLASS);
}

static CancelScope *of_timer(Timer *t) {
  return (CancelScope *)((char *)t - offsetof(CancelScope, timer));
}

static void expire(Runtime *rt, CancelScope *cs) {
  cs->scope.flags |= SCOPE_EXPIRED;
  scope_cancel(rt, NULL, &cs->scope, 0);
}

static void on_deadline(Runtime *rt, Timer *timer) {
  expire(rt, of_timer(timer));
}

// Arms the timer of a scope that is in force.
static void start_deadline(Runtime *rt, lua_State *L, CancelScope *cs) {
  timer_stop(rt, &cs->timer);
  if ((cs->scope.flags & (SCOPE_ENTERED | SCOPE_LEFT)) != SCOPE_ENTERED)
    return;
  if (cs->deadline <= clock_now(rt))
    expire(rt, cs);
  else if (cs->deadline < INFINITY)
    timer_start(rt, L, &cs->timer, cs->deadline);
}

// self ... ->
static void enter(Runtime *rt, lua_State *L, CancelScope *cs) {
  if (!rt->current || L != rt->innermost)
    wait_raise_no_task(rt, L);
  if (cs->scope.flags & SCOPE_ENTERED)
    error_raise(L, "InvalidStateError", "a CancelScope can be run only once");
  scope_link(rt, L);
  start_deadline(rt, L, cs);
}

// Whether a CancelledError on top came from this scope and no outer one, which
// would have to carry it further.
static bool is_own(lua_State *L, const CancelScope *cs) {
  return (cs->scope.flags & SCOPE_CANCELLED) &&
         error_is(L, -1, "CancelledError") &&
         ((cs->scope.flags & SCOPE_SHIELD) || scope_is_quiet(cs->scope.parent));
}

static int finish_run(lua_State *L, int status, lua_KContext ctx) {
  CancelScope *cs = (CancelScope *)ctx;
  bool own = status > LUA_YIELD && is_own(L, cs);
  scope_unlink(cs->rt, L, cs);
  if (own) {
    cs->scope.flags |= SCOPE_CAUGHT;
    lua_pushboolean(L, false);
    return 1;
  }
  if (status > LUA_YIELD)
    return lua_error(L);
  lua_pushboolean(L, true); // scope, handler, results
  lua_replace(L, 2);
  return lua_gettop(L) - 1;
}

/// Runs `fn(...)` in this scope. Awaits if `fn` does.
// @function CancelScope:run
// @param fn function, or anything that can be called
// @param ... its arguments
// @return true and what `fn` returned, or false when this scope's own
// cancellation (or deadline) ended it
// @raise what `fn` raises; InvalidStateError when it was run before; Error
// outside a task
// @see trio.CancelScope
int scope_l_run(lua_State *L) {
  CancelScope *cs = check_scope(L);
  handle_check_callable(L, 2);
  enter(cs->rt, L, cs);
  lua_pushcfunction(L, error_handler);
  lua_insert(L, 2);
  int nargs = lua_gettop(L) - 3;
  int status =
      lua_pcallk(L, nargs, LUA_MULTRET, 2, (lua_KContext)cs, finish_run);
  return finish_run(L, status, (lua_KContext)cs);
}

/// Cancels what runs in the scope, from anywhere; does not wait.
// @function CancelScope:cancel
// @param[opt] msg string, message of the CancelledError
// @see trio.CancelScope.cancel
static int l_scope_cancel(lua_State *L) {
  CancelScope *cs = check_scope(L);
  scope_cancel(cs->rt, L, &cs->scope, 2);
  return 0;
}

// Opening and leaving without a function around it. `owner` is what the program
// holds, for who reports a block that was never left.
static int l_scope_enter(lua_State *L) { // self owner
  CancelScope *cs = check_scope(L);
  lua_settop(L, 2);
  lua_setiuservalue(L, 1, SCOPE_OWNER);
  cs->line = traceback_push_creator(L, true);
  lua_setiuservalue(L, 1, SCOPE_CREATOR);
  enter(cs->rt, L, cs);
  cs->scope.flags |= SCOPE_BLOCK;
  lua_settop(L, 1);
  return 1;
}

static int l_scope_leave(lua_State *L) {
  CancelScope *cs = check_scope(L);
  scope_unlink(cs->rt, L, cs);
  return 0;
}

// Where a block was entered, "script.lua:3", or nil.
static int l_scope_site(lua_State *L) {
  CancelScope *cs = check_scope(L);
  lua_getiuservalue(L, 1, SCOPE_CREATOR);
  traceback_push_site(L, cs->line);
  return 1;
}

// Whether `err` is this scope's own cancellation, and none that has to be
// carried further.
static int l_scope_owns(lua_State *L) { // self err
  CancelScope *cs = check_scope(L);
  lua_settop(L, 2);
  lua_pushboolean(L, is_own(L, cs));
  return 1;
}

static int l_scope_expired(lua_State *L) {
  CancelScope *cs = check_scope(L);
  lua_pushboolean(L, (cs->scope.flags & SCOPE_EXPIRED) != 0);
  return 1;
}

static int l_scope_index(lua_State *L) {
  CancelScope *cs = check_scope(L);
  const char *key = lua_tostring(L, 2);
  if (!key)
    return 0;
  if (strcmp(key, "deadline") == 0)
    cs->deadline < INFINITY ? lua_pushnumber(L, cs->deadline) : lua_pushnil(L);
  else if (strcmp(key, "cancel_called") == 0)
    lua_pushboolean(L, (cs->scope.flags & SCOPE_CANCELLED) != 0);
  else if (strcmp(key, "cancelled_caught") == 0)
    lua_pushboolean(L, (cs->scope.flags & SCOPE_CAUGHT) != 0);
  else if (strcmp(key, "shield") == 0)
    lua_pushboolean(L, (cs->scope.flags & SCOPE_SHIELD) != 0);
  else
    lua_getfield(L, lua_upvalueindex(2), key);
  return 1;
}

static int l_scope_newindex(lua_State *L) {
  CancelScope *cs = check_scope(L);
  const char *key = luaL_checkstring(L, 2);
  if (strcmp(key, "deadline") != 0)
    return luaL_error(L, "field '%s' of a CancelScope cannot be set", key);
  double deadline = luaL_optnumber(L, 3, INFINITY);
  if (isnan(deadline))
    return luaL_error(L, "field 'deadline' is not a time (nan)");
  cs->deadline = deadline;
  start_deadline(cs->rt, L, cs);
  return 0;
}

static int l_scope_tostring(lua_State *L) {
  CancelScope *cs = check_scope(L);
  uint32_t flags = cs->scope.flags;
  const char *state = !(flags & SCOPE_ENTERED) ? "not entered"
                      : flags & SCOPE_LEFT     ? "left"
                                               : "entered";
  lua_pushfstring(L, "CancelScope: (%s%s%s)", state,
                  flags & SCOPE_EXPIRED     ? ", expired"
                  : flags & SCOPE_CANCELLED ? ", cancelled"
                                            : "",
                  flags & SCOPE_SHIELD ? ", shield" : "");
  return 1;
}

static int l_scope_gc(lua_State *L) {
  CancelScope *cs = check_scope(L);
  if (cs->rt->collecting || cs->rt->closed)
    return 0;
  timer_stop(cs->rt, &cs->timer);
  scope_drop_message(cs->rt, L, &cs->scope);
  if (cs->scope.flags & SCOPE_DETACHED) // with its generator
    cs->rt->detached--;
  return 0;
}

/// Makes a scope that can be cancelled. Its fields: `deadline` (may be set),
/// `shield`, `cancel_called`, `cancelled_caught`.
// @function core.cancel_scope
// @param[opt] deadline number, seconds as `moonloop.time()` counts them
// @param[opt] shield boolean: whether cancellation from outside is held back
// @return CancelScope
// @see trio.CancelScope
static int l_cancel_scope(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  double deadline = luaL_optnumber(L, 1, INFINITY);
  bool shield = lua_toboolean(L, 2);
  CancelScope *cs = lua_newuserdatauv(L, sizeof *cs, SCOPE_VALUES);
  memset(cs, 0, sizeof *cs);
  scope_init(&cs->scope, NULL);
  cs->rt = rt;
  cs->deadline = deadline;
  cs->scope.flags = shield ? SCOPE_SHIELD : 0;
  cs->timer.fire = on_deadline;
  luaL_setmetatable(L, CLASS);
  return 1;
}

static const luaL_Reg methods[] = {
    {"run",    scope_l_run   },
    {"cancel", l_scope_cancel},
    {NULL,     NULL          },
};

static const luaL_Reg meta[] = {
    {"__tostring", l_scope_tostring},
    {"__newindex", l_scope_newindex},
    {"__gc",       l_scope_gc      },
    {NULL,         NULL            },
};

// Sets what is called with a block that was never left, and its owner.
static int l_on_unclosed(lua_State *L) { // function(scope, owner)
  Runtime *rt = runtime_upvalue(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, rt->unclosed_ref);
  rt->unclosed_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static const luaL_Reg functions[] = {
    {"cancel_scope",  l_cancel_scope },
    {"enter_scope",   l_scope_enter  },
    {"leave_scope",   l_scope_leave  },
    {"scope_expired", l_scope_expired},
    {"scope_site",    l_scope_site   },
    {"scope_owns",    l_scope_owns   },
    {"on_unclosed",   l_on_unclosed  },
    {NULL,            NULL           },
};

void scope_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  lua_pushlightuserdata(L, rt);
  lua_getfield(L, -2, "__index");
  lua_pushcclosure(L, l_scope_index, 2);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  scope_open_coroutines(rt, L);
  runtime_set_functions(rt, L, functions);
}
