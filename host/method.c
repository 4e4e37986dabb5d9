// SPDX-License-Identifier: MIT
//
// How awaiting methods of classes that are in Lua begin.
#include "method.h"

#include "traceback.h"
#include "wait.h"

// Pushes the name under which the function at `level` stands among the methods
// of the class or one below it, or nil.
static void push_method_name(lua_State *L, int level) {
  lua_Debug ar;
  lua_getstack(L, level, &ar);
  lua_getinfo(L, "f", &ar);
  int method = lua_gettop(L);
  lua_pushnil(L);
  while (lua_next(L, lua_upvalueindex(METHOD_KINDS))) {
    lua_pop(L, 1);
    lua_getfield(L, -1, "methods");
    lua_pushnil(L); // method class methods key
    while (lua_istable(L, -2) && lua_next(L, -2)) {
      bool found = lua_rawequal(L, -1, method);
      lua_pop(L, 1);
      if (found)
        return;
    }
    lua_settop(L, method + 1);
  }
  lua_pushnil(L);
}

static int raise_bad_self(lua_State *L, int level) {
  lua_settop(L, 1);
  traceback_push_caller(L);
  push_method_name(L, level);
  lua_pushfstring(L, "%s: bad argument #1 to '%s' (%s expected, got %s)",
                  luaL_optstring(L, 2, "?"), luaL_optstring(L, -1, "?"),
                  lua_tostring(L, lua_upvalueindex(METHOD_NAME)),
                  luaL_typename(L, 1));
  return lua_error(L);
}

// Whether self is of the class (the address is compared first, for that is
// cheaper) or of one below it.
static bool is_of_class(lua_State *L) {
  if (!lua_getmetatable(L, 1))
    return false;
  if (lua_topointer(L, -1) == lua_touserdata(L, lua_upvalueindex(METHOD_CLASS)))
    return true;
  return lua_rawget(L, lua_upvalueindex(METHOD_KINDS)) != LUA_TNIL;
}

void method_check_self(lua_State *L) {
  if (!is_of_class(L))
    raise_bad_self(L, 0);
}

// How each awaiting method that is in Lua begins: it checks its self, then as
// `checkpoint_if_due`. In one call, for calls cost.
static int begin_method(lua_State *L) { // self
  Runtime *rt = runtime_upvalue(L);
  if (!is_of_class(L))
    return raise_bad_self(L, 1);
  if (wait_may_complete(rt, L))
    return 0;
  return wait_take_turn(rt, L, NULL);
}

void method_push_upvalues(lua_State *L) {
  luaL_checkstring(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  luaL_checktype(L, 3, LUA_TTABLE);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  lua_pushvalue(L, 3);
  lua_pushlightuserdata(L, (void *)lua_topointer(L, 2));
}

// Makes the function by which awaiting methods begin.
static int l_method_beginning(lua_State *L) { // name class kinds
  method_push_upvalues(L);
  lua_pushcclosure(L, begin_method, METHOD_UPVALUES);
  return 1;
}

static const luaL_Reg functions[] = {
    {"method_beginning", l_method_beginning},
    {NULL,               NULL              },
};

void method_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
