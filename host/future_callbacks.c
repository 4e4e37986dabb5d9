// SPDX-License-Identifier: MIT
//
// What is called when a Future is done. Callbacks are the program's: handles
// that the loop runs later, never the setter. Observers are the library's own
// functions, called at once by whoever completes the Future; they must neither
// fail nor wait nor call the program. Both stand in one list in the order they
// were added, which also leads from an observer to its place; what was taken
// out leaves a false, until half of the list is that. A lone observer stands
// there by itself, without a list.
#include "error.h"
#include "future.h"
#include "handle.h"
#include "report.h"

static Future *check_self(lua_State *L) {
  return future_check(runtime_upvalue(L), L, 1);
}

// ---- running ---------------------------------------------------------------

// Not on L, which may be at the end of its stack or of its C levels.
static void call_observer(Runtime *rt, lua_State *L, int self) { // observer
  lua_State *S = rt->scratch;
  lua_pushvalue(L, self);
  lua_xmove(L, S, 2);
  if (lua_pcall(S, 1, 0, 0) == LUA_OK)
    return;
  report_failure(rt, S, "an observer of a future failed");
  lua_pop(S, 1);
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
    int entry = lua_rawgeti(L, -1, i);
    if (entry == LUA_TFUNCTION) {
      call_observer(f->rt, L, self);
    } else if (entry == LUA_TUSERDATA) {
      f->taken = true;
      handle_schedule(f->rt, L);
    } else {
      lua_pop(L, 1);
    }
  }
  lua_pop(L, 1);
}

// ---- adding ----------------------------------------------------------------

// list, value -> list
static void add(lua_State *L) {
  lua_Integer place = luaL_len(L, -2) + 1;
  if (lua_isfunction(L, -1)) {
    lua_pushvalue(L, -1);
    lua_pushinteger(L, place);
    lua_rawset(L, -4);
  }
  lua_rawseti(L, -2, place);
}

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
      add(L);
    else
      lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
  }
  lua_insert(L, -2);
  add(L);
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

// The Future at index 1 gets a list without what was taken out of the one on
// top; pops that.
static void compact(lua_State *L) {
  lua_Integer n = luaL_len(L, -1);
  lua_newtable(L); // old new
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, -2, i);
    if (lua_toboolean(L, -1))
      add(L);
    else
      lua_pop(L, 1);
  }
  lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
  lua_pop(L, 1);
}

// Counts `n` more places of the list on top as empty; pops it.
static void count_empty(lua_State *L, lua_Integer n) {
  lua_pushliteral(L, "empty");
  lua_rawget(L, -2);
  n += lua_tointeger(L, -1);
  lua_pop(L, 1);
  if (2 * n > luaL_len(L, -1)) {
    compact(L);
    return;
  }
  lua_pushliteral(L, "empty");
  lua_pushinteger(L, n);
  lua_rawset(L, -3);
  lua_pop(L, 1);
}

// Takes an observer out again.
int future_l_unwatch(lua_State *L) { // future fn
  Future *f = check_self(L);
  lua_settop(L, 2);
  int type = lua_getiuservalue(L, 1, FUTURE_CALLBACKS);
  if (type == LUA_TFUNCTION && lua_rawequal(L, 2, 3)) {
    f->has_callbacks = false;
    lua_pushnil(L);
    lua_setiuservalue(L, 1, FUTURE_CALLBACKS);
  }
  if (type != LUA_TTABLE)
    return 0;
  lua_pushvalue(L, 2);
  if (lua_rawget(L, 3) == LUA_TNIL)
    return 0;
  lua_pushboolean(L, false);
  lua_rawseti(L, 3, lua_tointeger(L, -2));
  lua_settop(L, 3);
  lua_pushvalue(L, 2);
  lua_pushnil(L);
  lua_rawset(L, 3);
  count_empty(L, 1);
  return 0;
}

// Whether the value on top is a callback's handle that calls the function at 2.
static bool is_callback(lua_State *L) {
  if (!lua_isuserdata(L, -1))
    return false;
  lua_getiuservalue(L, -1, 1);
  bool same = lua_rawequal(L, -1, 2);
  lua_pop(L, 1);
  return same;
}

/// Takes `fn` out of the callbacks.
// @function Future:remove_done_callback
// @param fn what was given to `add_done_callback`
// @return how often it stood there
// @see asyncio.Future.remove_done_callback
int future_l_remove_done_callback(lua_State *L) {
  check_self(L);
  lua_settop(L, 2);
  lua_Integer found = 0;
  if (lua_getiuservalue(L, 1, FUTURE_CALLBACKS) == LUA_TTABLE) {
    lua_Integer n = luaL_len(L, 3);
    for (lua_Integer i = 1; i <= n; i++, lua_settop(L, 3)) {
      lua_rawgeti(L, 3, i);
      if (!is_callback(L))
        continue;
      found++;
      lua_pushboolean(L, false);
      lua_rawseti(L, 3, i);
    }
    count_empty(L, found);
  }
  lua_pushinteger(L, found);
  return 1;
}
