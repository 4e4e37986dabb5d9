// SPDX-License-Identifier: MIT
//
// What is called when a Future is done. Callbacks are the program's: handles
// that the loop runs later, never the setter. Observers are the library's own
// functions, called at once by whoever completes the Future; they must neither
// fail nor wait nor call the program. Both stand in one list in the order they
// were added; a lone observer stands there by itself.
#include "error.h"
#include "future.h"
#include "handle.h"
#include "report.h"

static Future *check_self(lua_State *L) {
  return future_check(runtime_upvalue(L), L, 1);
}

// ---- running ---------------------------------------------------------------

static void call_observer(Runtime *rt, lua_State *L, int self) { // observer
  lua_pushvalue(L, self);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK)
    return;
  report_failure(rt, L, "an observer of a future failed");
  lua_pop(L, 1);
}

void future_run_callbacks(lua_State *L, int self) {
  Future *f = lua_touserdata(L, self);
  int type = lua_getiuservalue(L, self, FUTURE_CALLBACKS);
  lua_pushnil(L);
  lua_setiuservalue(L, self, FUTURE_CALLBACKS);
  if (type == LUA_TFUNCTION) {
    call_observer(f->rt, L, self);
    return;
  }
  lua_Integer n = luaL_len(L, -1);
  for (lua_Integer i = 1; i <= n; i++) {
    if (lua_rawgeti(L, -1, i) == LUA_TFUNCTION) {
      call_observer(f->rt, L, self);
    } else {
      f->taken = true;
      handle_schedule(f->rt, L);
    }
  }
  lua_pop(L, 1);
}

// ---- adding ----------------------------------------------------------------

// Appends the value on top to what the Future at index 1 calls; pops it.
static void append(lua_State *L, Future *f) {
  f->has_callbacks = true;
  int type = lua_getiuservalue(L, 1, FUTURE_CALLBACKS);
  if (type == LUA_TNIL && lua_isfunction(L, -2)) {
    lua_pop(L, 1);
    lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
    return;
  }
  if (type != LUA_TTABLE) {
    lua_createtable(L, 2, 0); // value, observer or nil, list
    lua_insert(L, -2);
    if (type == LUA_TFUNCTION)
      lua_rawseti(L, -2, 1);
    else
      lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
  }
  lua_insert(L, -2);
  lua_rawseti(L, -2, luaL_len(L, -2) + 1);
  lua_pop(L, 1);
}

/// Has the loop call `fn(future)` once it is done, or on its next turn where it
/// is; in a copy of the caller's context. `fn` cannot await.
// @function Future:add_done_callback
// @param fn function, or anything that can be called
// @raise InvalidStateError when the loop is closed
// @see asyncio.Future.add_done_callback
int future_l_add_done_callback(lua_State *L) {
  Future *f = check_self(L);
  handle_check_callable(L, 2);
  lua_settop(L, 2);
  runtime_check_open(f->rt, L);
  lua_pushvalue(L, 1);
  handle_new(f->rt, L, 1); // self handle
  if (future_is_done(f)) {
    future_take(L, 1);
    handle_schedule(f->rt, L);
  } else {
    append(L, f);
  }
  return 0;
}

// Has `fn(future)` called as soon as it is done; where it is, at once.
int future_l_watch(lua_State *L) { // future fn
  Future *f = check_self(L);
  luaL_checktype(L, 2, LUA_TFUNCTION);
  lua_settop(L, 2);
  if (future_is_done(f))
    call_observer(f->rt, L, 1);
  else
    append(L, f);
  return 0;
}

// ---- taking back -----------------------------------------------------------

// Whether the value at `entry` calls the function at `fn`: an observer is that
// function, a callback's handle holds it.
static bool calls(lua_State *L, int entry, int fn, bool observer) {
  if (lua_isfunction(L, entry))
    return observer && lua_rawequal(L, entry, fn);
  if (observer)
    return false;
  lua_getiuservalue(L, entry, 1);
  bool same = lua_rawequal(L, -1, fn);
  lua_pop(L, 1);
  return same;
}

// Takes the function at index 2 out of what the Future at 1 calls and answers
// how often it stood there.
static lua_Integer take_out(lua_State *L, bool observer) {
  int type = lua_getiuservalue(L, 1, FUTURE_CALLBACKS);
  if (type == LUA_TFUNCTION && calls(L, 3, 2, observer)) {
    lua_pushnil(L);
    lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
    ((Future *)lua_touserdata(L, 1))->has_callbacks = false;
    return 1;
  }
  if (type != LUA_TTABLE)
    return 0;
  lua_Integer n = luaL_len(L, 3), kept = 0;
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 3, i);
    if (calls(L, 4, 2, observer))
      lua_pop(L, 1);
    else
      lua_rawseti(L, 3, ++kept);
  }
  for (lua_Integer i = kept + 1; i <= n; i++) {
    lua_pushnil(L);
    lua_rawseti(L, 3, i);
  }
  return n - kept;
}

/// Takes `fn` out of the callbacks.
// @function Future:remove_done_callback
// @param fn what was given to `add_done_callback`
// @return how often it stood there
// @see asyncio.Future.remove_done_callback
int future_l_remove_done_callback(lua_State *L) {
  check_self(L);
  lua_settop(L, 2);
  lua_pushinteger(L, take_out(L, false));
  return 1;
}

int future_l_unwatch(lua_State *L) { // future fn
  check_self(L);
  lua_settop(L, 2);
  take_out(L, true);
  return 0;
}
