// SPDX-License-Identifier: MIT
//
// Coroutines. First the pool: finished coroutines are kept and used again, each
// with a slot in one Lua table that holds it and its task. Then `resume`,
// `wrap`, `status` and `close` as the host has them: an inner coroutine that
// awaits is parked, and so is the one that resumed it, out to the task.
#include "coroutine.h"

#include <string.h>

#include "error.h"
#include "scope.h"
#include "task.h"
#include "wait.h"

// ---- the pool --------------------------------------------------------------

static int new_slot(Runtime *rt) {
  if (rt->free_slot_count > 0)
    return rt->free_slots[--rt->free_slot_count];
  return ++rt->slot_count;
}

static void set_thread(Runtime *rt, lua_State *L, int slot) { // value ->
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->slots_ref);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 2 * slot);
  lua_pop(L, 1);
}

lua_State *coroutine_acquire(Runtime *rt, lua_State *L, int *slot) {
  if (rt->pool_count > 0) {
    struct PooledCoroutine *p = &rt->pool[--rt->pool_count];
    *slot = p->slot;
    return p->co;
  }
  lua_State *co = lua_newthread(L);
  *slot = new_slot(rt);
  set_thread(rt, L, *slot);
  return co;
}

// Without memory for the list the slot is lost, which costs two nils.
static void free_slot(Runtime *rt, int slot) {
  if (rt->free_slot_count == rt->free_slot_capacity) {
    int capacity = rt->free_slot_capacity ? rt->free_slot_capacity * 2 : 64;
    int *slots = runtime_realloc(rt, rt->free_slots,
                                 (size_t)rt->free_slot_capacity * sizeof(int),
                                 (size_t)capacity * sizeof(int));
    if (!slots)
      return;
    rt->free_slots = slots;
    rt->free_slot_capacity = capacity;
  }
  rt->free_slots[rt->free_slot_count++] = slot;
}

void coroutine_release(Runtime *rt, lua_State *co, int slot, bool reusable) {
  if (lua_gethook(co))
    lua_sethook(co, NULL, 0, 0); // debug.sethook is for one task
  if (reusable && rt->pool_count < rt->pool_max) {
    lua_settop(co, 0);
    rt->pool[rt->pool_count++] = (struct PooledCoroutine){co, slot};
    return;
  }
  lua_pushboolean(rt->scratch, false);
  set_thread(rt, rt->scratch, slot);
  free_slot(rt, slot);
}

// ---- entering --------------------------------------------------------------

int coroutine_enter(Runtime *rt, lua_State *co, lua_State *from, int nargs,
                    int *nres) {
  rt->innermost = co;
  if (rt->hook_wanted)
    lua_sethook(co, rt->hook, LUA_MASKCOUNT, 1000);
  rt->parked = NULL;
  return lua_resume(co, from, nargs, nres);
}

lua_State *coroutine_inner(lua_State *co) {
  if (!wait_is_parked(co))
    return NULL;
  // A coroutine parked in `resume` or `wrap` has the inner one at index 1.
  lua_State *inner = lua_tothread(co, 1);
  return inner && inner != co && wait_is_parked(inner) ? inner : NULL;
}

static int reset(Runtime *rt, lua_State *co) {
  lua_State *outer = rt->innermost, *closing = rt->closing;
  rt->innermost = rt->closing = co;
  int status = lua_resetthread(co);
  rt->innermost = outer;
  rt->closing = closing;
  return status;
}

int coroutine_close_chain(Runtime *rt, lua_State *co) {
  lua_State *inner = coroutine_inner(co);
  if (inner) {
    coroutine_close_chain(rt, inner);
    lua_settop(inner, 0);
  }
  int status = reset(rt, co);
  scope_end_coroutine(rt, co);
  return status;
}

// A coroutine with scopes open has stopped running: it waits (in the task, and
// they stay in force), has yielded, has failed (and may still be closed), or it
// has returned without leaving them.
static void take_out_of_force(Runtime *rt, lua_State *co, int status) {
  if (status == LUA_OK)
    scope_end_coroutine(rt, co);
  else if (status != LUA_YIELD || rt->parked != co)
    scope_detach(rt, co);
}

// Enters an inner coroutine from L, scopes and books kept. Values to hand over
// are on top of `co`.
static int enter_inner(Runtime *rt, lua_State *L, lua_State *co, int nargs,
                       int *nres) {
  lua_State *outer = rt->innermost, *barrier = rt->barrier;
  Task *t = rt->current;
  bool driven = outer == L && !rt->undriven, undriven = rt->undriven;
  Driver driver = {L, rt->drivers};
  if (driven && !barrier && !lua_isyieldable(L))
    rt->barrier = L;
  if (rt->detached > 0 && driven && lua_status(co) == LUA_YIELD)
    scope_attach(rt, L, co);
  rt->drivers = &driver;
  rt->undriven = !driven; // an await that L could not carry on is refused
  int status = coroutine_enter(rt, co, L, nargs, nres);
  rt->drivers = driver.outer;
  rt->undriven = undriven;
  rt->innermost = outer;
  rt->barrier = barrier;
  if (rt->hook_wanted)
    lua_sethook(L, rt->hook, LUA_MASKCOUNT, 1000);
  if (t && t->scope->co == co)
    take_out_of_force(rt, co, status);
  return status;
}

// ---- resume ----------------------------------------------------------------

static lua_State *check_co(lua_State *L) {
  lua_State *co = lua_tothread(L, 1);
  luaL_argexpected(L, co, 1, "thread"); // in stock Lua's words
  return co;
}

static Task *unstarted_task(lua_State *co) {
  if (lua_status(co) != LUA_OK || lua_gettop(co) < 2)
    return NULL;
  lua_CFunction f = lua_tocfunction(co, 1);
  return f && task_is_main_function(f) ? lua_touserdata(co, 2) : NULL;
}

// The task that drives a coroutine which nobody else may touch, or NULL.
static Task *driver_of(lua_State *co) {
  return wait_is_parked(co) ? wait_parked_task(co) : unstarted_task(co);
}

static int raise_driven(lua_State *L, const Task *t, const char *what) {
  char name[64];
  task_name(t->future.rt, t, name, sizeof name);
  return error_raise(L, "Error", "cannot %s a coroutine that task '%s' drives",
                     what, name);
}

// Runs, or has resumed another: not to be entered.
static bool is_active(lua_State *co) {
  lua_Debug ar;
  return lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar);
}

static int push_failure(lua_State *L, const char *message) {
  lua_pushboolean(L, false);
  lua_pushstring(L, message);
  return 2;
}

static int finish_resume(lua_State *L, lua_State *co, int status, int nres) {
  if (status != LUA_OK && status != LUA_YIELD) {
    lua_xmove(co, L, 1); // first, for co may be L itself
    lua_pushboolean(L, false);
    lua_insert(L, -2);
    return 2;
  }
  if (!lua_checkstack(L, nres + 1)) {
    lua_pop(co, nres);
    return push_failure(L, "too many results to resume");
  }
  lua_pushboolean(L, true);
  lua_xmove(co, L, nres);
  return nres + 1;
}

static int resume_k(lua_State *L, int status, lua_KContext ctx);

static int resume(Runtime *rt, lua_State *L, lua_State *co, int nargs) {
  int nres;
  int status = enter_inner(rt, L, co, nargs, &nres);
  if (status == LUA_YIELD && rt->parked == co)
    return wait_park_around(L, wait_parked_task(co), resume_k);
  return finish_resume(L, co, status, nres);
}

static int resume_k(lua_State *L, int status, lua_KContext ctx) {
  Task *t = (Task *)ctx;
  Runtime *rt = t->future.rt;
  (void)status;
  if (rt->delivering != t)
    return wait_park_around(L, t, resume_k);
  lua_settop(L, 1);
  lua_State *co = lua_tothread(L, 1);
  wait_unpark(co);
  return resume(rt, L, co, 0);
}

static int l_resume(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_State *co = check_co(L);
  int nargs = lua_gettop(L) - 1;
  Task *driver = driver_of(co);
  if (driver)
    return raise_driven(L, driver, "resume");
  if (is_active(co))
    return push_failure(L, "cannot resume non-suspended coroutine");
  if (!lua_checkstack(co, nargs))
    return push_failure(L, "too many arguments to resume");
  lua_xmove(L, co, nargs);
  return resume(rt, L, co, nargs);
}

// ---- wrap ------------------------------------------------------------------
//
// The body runs below a pcall in its own coroutine, so that its <close>
// variables may await while an error unwinds. Entered straight away, that pcall
// would cost a C level and halve the depth to which generators nest; so the
// coroutine is led to a yield inside a Lua function below the pcall when it is
// made, and goes on from there as a Lua call.

static int wrap_finish(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status > LUA_YIELD)
    return lua_error(L);
  return lua_gettop(L) - 1; // handler, results
}

static int wrap_main(lua_State *L) { // starter, function
  lua_pushcfunction(L, error_handler);
  lua_insert(L, 1);
  return wrap_finish(L, lua_pcallk(L, 1, LUA_MULTRET, 1, 0, wrap_finish), 0);
}

static int prime_yield(lua_State *L) { return lua_yield(L, 0); }

// An error goes on in the caller, with the caller's position as in stock Lua.
static int raise_wrapped(Runtime *rt, lua_State *L, lua_State *co) {
  int status = lua_status(co);
  if (status != LUA_OK && status != LUA_YIELD) {
    status = lua_resetthread(co);
    if (rt->detached > 0)
      scope_end_coroutine(rt, co);
    lua_xmove(co, L, 1);
  } else {
    lua_xmove(co, L, 1);
  }
  if (status == LUA_ERRMEM || lua_type(L, -1) != LUA_TSTRING)
    return lua_error(L);
  luaL_where(L, 1);
  lua_insert(L, -2);
  lua_concat(L, 2);
  error_keep_traceback(rt, L);
  return lua_error(L);
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx);

static int run_wrapped(Runtime *rt, lua_State *L, lua_State *co, int nargs) {
  int nres;
  int status = enter_inner(rt, L, co, nargs, &nres);
  if (status == LUA_YIELD && rt->parked == co)
    return wait_park_around(L, wait_parked_task(co), wrap_k);
  if (status != LUA_OK && status != LUA_YIELD)
    return raise_wrapped(rt, L, co);
  luaL_checkstack(L, nres, "too many results");
  lua_xmove(co, L, nres);
  return nres;
}

static int wrap_k(lua_State *L, int status, lua_KContext ctx) {
  Task *t = (Task *)ctx;
  Runtime *rt = t->future.rt;
  (void)status;
  if (rt->delivering != t)
    return wait_park_around(L, t, wrap_k);
  lua_settop(L, 1);
  lua_State *co = lua_tothread(L, 1);
  wait_unpark(co);
  return run_wrapped(rt, L, co, 0);
}

static int call_wrapped(lua_State *L) { // arguments; upvalues: runtime, co
  Runtime *rt = runtime_upvalue(L);
  lua_State *co = lua_tothread(L, lua_upvalueindex(2));
  int nargs = lua_gettop(L);
  Task *driver = driver_of(co);
  if (driver)
    return raise_driven(L, driver, "resume");
  if (is_active(co))
    return luaL_error(L, "cannot resume non-suspended coroutine");
  if (!lua_checkstack(co, nargs))
    return luaL_error(L, "too many arguments to resume");
  lua_xmove(L, co, nargs);
  lua_pushvalue(L, lua_upvalueindex(2)); // at index 1, where others look for it
  return run_wrapped(rt, L, co, nargs);
}

static int l_wrap(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  int nres;
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_pushlightuserdata(L, rt);
  lua_State *co = lua_newthread(L);
  lua_pushcfunction(co, wrap_main);
  lua_rawgeti(co, LUA_REGISTRYINDEX, rt->wrap_ref);
  lua_pushvalue(L, 1);
  lua_xmove(L, co, 1);
  int status = lua_resume(co, L, 2, &nres);
  if (status != LUA_YIELD)
    return luaL_error(L, "cannot start a coroutine: %s", lua_tostring(co, -1));
  lua_pushcclosure(L, call_wrapped, 2);
  return 1;
}

// ---- status, close ---------------------------------------------------------

static const char *status_of(lua_State *L, lua_State *co) {
  lua_Debug ar;
  if (L == co)
    return "running";
  if (driver_of(co))
    return "normal";
  if (lua_status(co) == LUA_YIELD)
    return "suspended";
  if (lua_status(co) != LUA_OK)
    return "dead";
  if (lua_getstack(co, 0, &ar))
    return "normal";
  return lua_gettop(co) == 0 ? "dead" : "suspended";
}

static int l_status(lua_State *L) {
  lua_pushstring(L, status_of(L, check_co(L)));
  return 1;
}

static int close_inner(Runtime *rt, lua_State *L, lua_State *co) {
  lua_State *barrier = rt->barrier;
  rt->barrier = L; // what is closed from here cannot await
  int status = reset(rt, co);
  rt->barrier = barrier;
  if (rt->detached > 0)
    scope_end_coroutine(rt, co);
  return status;
}

static int l_close(lua_State *L) {
  lua_State *co = check_co(L);
  Task *driver = driver_of(co);
  if (driver)
    return raise_driven(L, driver, "close");
  const char *status = status_of(L, co);
  if (strcmp(status, "dead") != 0 && strcmp(status, "suspended") != 0)
    return luaL_error(L, "cannot close a %s coroutine", status);
  if (close_inner(runtime_upvalue(L), L, co) == LUA_OK) {
    lua_pushboolean(L, true);
    return 1;
  }
  lua_pushboolean(L, false);
  lua_xmove(co, L, 1);
  return 2;
}

// A yield in a task's own body would reach nobody: refused where it stands.
static int l_yield(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (rt->current && rt->current->co == L)
    return error_raise(L, "Error",
                       "coroutine.yield in the body of a task, which nobody "
                       "resumes; to let others run use moonloop.sleep(0)");
  return lua_yield(L, lua_gettop(L));
}

static const luaL_Reg replacements[] = {
    {"yield",  l_yield },
    {"resume", l_resume},
    {"wrap",   l_wrap  },
    {"status", l_status},
    {"close",  l_close },
    {NULL,     NULL    },
};

/// Replaces `coroutine.resume`, `wrap`, `status` and `close` by ones through
/// which an await passes, and `yield` by one that raises in a task's own body.
/// The command has done so already.
// @function patch_coroutines
// @see coroutine.resume
static int l_patch_coroutines(lua_State *L) {
  lua_getglobal(L, LUA_COLIBNAME);
  luaL_checktype(L, -1, LUA_TTABLE);
  runtime_set_functions(runtime_upvalue(L), L, replacements);
  return 0;
}

static const luaL_Reg functions[] = {
    {"patch_coroutines", l_patch_coroutines},
    {NULL,               NULL              },
};

static const char STARTER[] =
    "local yield = ... return function(f) return f(yield()) end";

void coroutine_open(Runtime *rt, lua_State *L) {
  if (luaL_loadbuffer(L, STARTER, sizeof STARTER - 1, "=(wrap)") != LUA_OK)
    lua_error(L);
  lua_pushcfunction(L, prime_yield);
  lua_call(L, 1, 1);
  rt->wrap_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
}
