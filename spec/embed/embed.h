// SPDX-License-Identifier: MIT
//
// What the embedding programs share: a state with Lua's libraries, a check that
// ends the program with the line that failed, a call of Lua code by its text.
#ifndef EMBED_H
#define EMBED_H

#include <stdio.h>
#include <stdlib.h>

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include <moonloop.h>

#define CHECK(what)                                                            \
  ((what) ? (void)0 : embed_fail(__FILE__, __LINE__, #what, NULL))

static inline void embed_fail(const char *file, int line, const char *what,
                              const char *message) {
  fprintf(stderr, "%s:%d: %s%s%s\n", file, line, what, message ? ": " : "",
          message ? message : "");
  exit(1);
}

static inline lua_State *embed_state(void) {
  lua_State *L = luaL_newstate();
  CHECK(L != NULL);
  luaL_openlibs(L);
  return L;
}

// Loads `code` as a function. // -> function
static inline void embed_load(lua_State *L, const char *code) {
  if (luaL_loadstring(L, code) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "load", lua_tostring(L, -1));
}

// Runs `code` outside any task.
static inline void embed_do(lua_State *L, const char *code) {
  embed_load(L, code);
  if (lua_pcall(L, 0, 0, 0) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "call", luaL_tolstring(L, -1, NULL));
}

// Makes `code` a task and leaves the Task on no stack.
static inline void embed_spawn(lua_State *L, const char *code) {
  embed_load(L, code);
  if (moonloop_spawn(L, 0) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "spawn", luaL_tolstring(L, -1, NULL));
  lua_pop(L, 1);
}

static inline void embed_say(const char *what) {
  puts(what);
  fflush(stdout);
}

#endif
