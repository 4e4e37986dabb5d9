// SPDX-License-Identifier: MIT
//
// Cancel scopes: the chain that says whether a task may still wait, and the
// CancelScope userdata that opens one around a function. Deadlines are scopes
// with a timer. A scope belongs to the coroutine that opened it.
#include "scope.h"

#include <math.h>
#include <string.h>

#include "error.h"
#include "task.h"
#include "wait.h"

typedef struct CancelScope {
  Scope scope;
  Timer timer;
  double deadline; // on the loop's clock, INFINITY for none
  Runtime *rt;
} CancelScope;

static const char CLASS[] = "moonloop.CancelScope";

void scope_init(Scope *s, Task *task) {
  memset(s, 0, sizeof *s);
  s->task = task;
  s->message_ref = LUA_NOREF;
}

Scope *scope_cause(Scope *s) {
  Scope *cause = NULL;
  for (; s; s = s->parent) {
    if (s->flags & SCOPE_CANCELLED)
      cause = s;
    if (s->flags & SCOPE_SHIELD)
      break;
  }
  return cause;
}

static void drop_message(Runtime *rt, lua_State *L, Scope *s) {
  anchor_drop(rt, L, s->message_ref);
  s->message_ref = LUA_NOREF;
}

void scope_cancel(Runtime *rt, lua_State *L, Scope *s, int message) {
  if (message && !lua_isnoneornil(L, message)) {
    drop_message(rt, L, s);
    lua_pushvalue(L, message);
    s->message_ref = anchor_take(rt, L);
  }
  if (s->flags & SCOPE_CANCELLED)
    return;
  s->flags |= SCOPE_CANCELLED;
  s->delivered = 0;
  Task *t = s->task;
  if (t && t->scope && !scope_is_quiet(t->scope))
    wait_interrupt(rt, t, WAIT_CANCEL);
}

void scope_clear(Runtime *rt, lua_State *L, Scope *s) {
  s->flags &= ~(uint32_t)SCOPE_CANCELLED;
  s->delivered = 0;
  drop_message(rt, L, s);
}

void scope_push_error(Runtime *rt, lua_State *L, Scope *s) {
  s->delivered++;
  if (s->message_ref != LUA_NOREF)
    anchor_push(rt, L, s->message_ref);
  else
    lua_pushliteral(L, "cancelled");
  error_wrap(L, "CancelledError");
}

// ---- scopes of inner coroutines --------------------------------------------

static void push_detached(Runtime *rt, lua_State *L, lua_State *co) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->detached_ref);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
}

void scope_detach(Runtime *rt, lua_State *L, lua_State *co) {
  Task *t = rt->current;
  Scope *inner = t->scope, *bottom = inner;
  for (;; bottom = bottom->parent) {
    bottom->task = NULL;
    if (!bottom->parent || bottom->parent->co != co)
      break;
  }
  t->scope = bottom->parent;
  bottom->parent = NULL;
  inner->flags |= SCOPE_DETACHED;
  rt->detached++;
  push_detached(rt, L, co);
  lua_pushlightuserdata(L, inner);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

// Takes the innermost scope of `co` out of the table; NULL when it has none.
static Scope *take_detached(Runtime *rt, lua_State *L, lua_State *co) {
  push_detached(rt, L, co);
  lua_pushvalue(L, -1);
  lua_rawget(L, -3);
  Scope *inner = lua_touserdata(L, -1);
  lua_pop(L, 1);
  if (!inner) {
    lua_pop(L, 2);
    return NULL;
  }
  lua_pushnil(L);
  lua_rawset(L, -3);
  lua_pop(L, 1);
  inner->flags &= ~(uint32_t)SCOPE_DETACHED;
  rt->detached--;
  return inner;
}

void scope_forget(Runtime *rt, lua_State *L, lua_State *co) {
  if (rt->detached > 0)
    scope_abandon(rt, take_detached(rt, L, co));
}

void scope_attach(Runtime *rt, lua_State *L, lua_State *co) {
  Task *t = rt->current;
  Scope *inner = take_detached(rt, L, co);
  if (!t) // resumed in a callback: its scopes are in force nowhere any more
    scope_abandon(rt, inner);
  if (!inner || !t)
    return;
  Scope *bottom = inner;
  for (;; bottom = bottom->parent) {
    bottom->task = t;
    if (!bottom->parent)
      break;
  }
  bottom->parent = t->scope;
  t->scope = inner;
}

// ---- CancelScope -----------------------------------------------------------

static CancelScope *check_scope(lua_State *L) {
  return luaL_checkudata(L, 1, CLASS);
}

static CancelScope *of_timer(Timer *t) {
  return (CancelScope *)((char *)t - offsetof(CancelScope, timer));
}

static void on_deadline(Runtime *rt, Timer *timer) {
  CancelScope *cs = of_timer(timer);
  cs->scope.flags |= SCOPE_EXPIRED;
  scope_cancel(rt, NULL, &cs->scope, 0);
}

void scope_abandon(Runtime *rt, Scope *s) {
  for (; s; s = s->parent) {
    if (s->flags & SCOPE_ENTERED) // only a CancelScope is
      timer_stop(rt, &((CancelScope *)s)->timer);
    s->task = NULL;
  }
}

static void start_deadline(Runtime *rt, lua_State *L, CancelScope *cs) {
  timer_stop(rt, &cs->timer);
  if (!(cs->scope.flags & SCOPE_ENTERED) || !(cs->deadline < INFINITY))
    return;
  timer_start(rt, L, &cs->timer, cs->deadline);
}

static void enter(Runtime *rt, lua_State *L, CancelScope *cs) {
  Task *t = rt->current;
  if (!t || L != rt->innermost)
    error_raise(L, "Error",
                "no running task: a scope belongs into a task, use "
                "moonloop.run");
  if (cs->scope.flags & SCOPE_ENTERED)
    error_raise(L, "InvalidStateError", "a CancelScope can be run only once");
  cs->scope.flags |= SCOPE_ENTERED;
  cs->scope.parent = t->scope;
  cs->scope.task = t;
  cs->scope.co = L;
  start_deadline(rt, L, cs);
  t->scope = &cs->scope;
  if (cs->deadline <= clock_now(rt)) {
    timer_stop(rt, &cs->timer);
    cs->scope.flags |= SCOPE_EXPIRED | SCOPE_CANCELLED;
  }
}

static void leave(Runtime *rt, lua_State *L, CancelScope *cs) {
  timer_stop(rt, &cs->timer);
  if (cs->scope.task && cs->scope.task->scope == &cs->scope)
    cs->scope.task->scope = cs->scope.parent;
  drop_message(rt, L, &cs->scope);
  cs->scope.task = NULL;
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
  leave(cs->rt, L, cs);
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
// @param fn function
// @param ... its arguments
// @return true and what `fn` returned, or false when this scope's own
// cancellation (or deadline) ended it
// @raise what `fn` raises; InvalidStateError when it was run before; Error
// outside a task
// @see trio.CancelScope
static int l_scope_run(lua_State *L) {
  CancelScope *cs = check_scope(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
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

// Opening and leaving without a function around it, for `<close>` forms.
static int l_scope_enter(lua_State *L) {
  CancelScope *cs = check_scope(L);
  enter(cs->rt, L, cs);
  lua_settop(L, 1);
  return 1;
}

static int l_scope_leave(lua_State *L) {
  CancelScope *cs = check_scope(L);
  leave(cs->rt, L, cs);
  return 0;
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
  cs->deadline = luaL_optnumber(L, 3, INFINITY);
  start_deadline(cs->rt, L, cs);
  return 0;
}

static int l_scope_gc(lua_State *L) {
  CancelScope *cs = check_scope(L);
  if (cs->rt->collecting || cs->rt->closed)
    return 0;
  timer_stop(cs->rt, &cs->timer);
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
  CancelScope *cs = lua_newuserdatauv(L, sizeof *cs, 0);
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
    {"run",     l_scope_run    },
    {"cancel",  l_scope_cancel },
    {"enter",   l_scope_enter  },
    {"leave",   l_scope_leave  },
    {"expired", l_scope_expired},
    {NULL,      NULL           },
};

static const luaL_Reg meta[] = {
    {"__newindex", l_scope_newindex},
    {"__gc",       l_scope_gc      },
    {NULL,         NULL            },
};

static const luaL_Reg functions[] = {
    {"cancel_scope", l_cancel_scope},
    {NULL,           NULL          },
};

void scope_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  lua_pushlightuserdata(L, rt);
  lua_getfield(L, -2, "__index");
  lua_pushcclosure(L, l_scope_index, 2);
  lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  rt->detached_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
}
