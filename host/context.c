// SPDX-License-Identifier: MIT
//
// Where the current context is kept: in the task, in the handle whose callback
// runs, or in the runtime. Lua's side makes a new table for each change, so
// inheriting is taking a reference.
#include "context.h"

#include "handle.h"
#include "task.h"

void context_push(Runtime *rt, lua_State *L) {
  if (rt->current) {
    task_push(rt, L, rt->current);
    lua_getiuservalue(L, -1, TASK_CONTEXT);
    lua_remove(L, -2);
  } else if (rt->handle) {
    handle_push_context(rt, L);
  } else if (rt->context_ref != LUA_NOREF) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, rt->context_ref);
  } else {
    lua_pushnil(L);
  }
}

void context_push_inherited(Runtime *rt, lua_State *L) {
  if (!rt->has_contexts) {
    lua_pushnil(L);
    return;
  }
  context_push(rt, L);
  if (!lua_istable(L, -1) || !lua_getmetatable(L, -1))
    return;
  lua_pop(L, 1);
  lua_getfield(L, -1, "values"); // a Context object: what it holds now
  lua_remove(L, -2);
}

// Makes the value on top the current context. context ->
static void set_current(Runtime *rt, lua_State *L) {
  if (rt->current) {
    task_push(rt, L, rt->current);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, TASK_CONTEXT);
    lua_pop(L, 1);
  } else if (rt->handle) {
    handle_set_context(rt, L);
  } else {
    luaL_unref(L, LUA_REGISTRYINDEX, rt->context_ref);
    rt->context_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  }
}

static int l_get_context(lua_State *L) {
  context_push(runtime_upvalue(L), L);
  return 1;
}

static int l_set_context(lua_State *L) {
  lua_settop(L, 1);
  runtime_upvalue(L)->has_contexts = true;
  set_current(runtime_upvalue(L), L);
  return 0;
}

// Who the current context belongs to, as a number to compare: a token is good
// only where it was made.
static int l_get_context_owner(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  context_push(rt, L);
  if (lua_istable(L, -1) && lua_getmetatable(L, -1)) { // a Context object
    lua_pushfstring(L, "%p", lua_topointer(L, -2));
    return 1;
  }
  lua_pushinteger(L, rt->current ? (lua_Integer)rt->current->id : 0);
  return 1;
}

static const luaL_Reg functions[] = {
    {"get_context",       l_get_context      },
    {"set_context",       l_set_context      },
    {"get_context_owner", l_get_context_owner},
    {NULL,                NULL               },
};

void context_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
