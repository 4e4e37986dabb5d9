// SPDX-License-Identifier: MIT
//
// A host without a loop of its own: it opens Moonloop with NULL, spawns tasks
// and lets moonloop_run run them to their end.
#include <string.h>

#include "embed.h"

static void spawn_with_arguments(lua_State *L) {
  embed_load(L, "local moonloop = require 'moonloop'\n"
                "local a, b, c = ...\n"
                "moonloop.sleep(0.001)\n"
                "print('task', a, b, c)\n"
                "return a, 'result'");
  lua_pushinteger(L, 1);
  lua_pushnil(L);
  lua_pushliteral(L, "three");
  CHECK(moonloop_spawn(L, 3) == LUA_OK);
  CHECK(lua_gettop(L) == 1);
}

static void result_of(lua_State *L) {
  luaL_loadstring(L, "print('result', (...):result())");
  lua_insert(L, 1);
  CHECK(lua_pcall(L, 1, 0, 0) == LUA_OK);
}

static void refused_spawn(lua_State *L) {
  lua_pushinteger(L, 5);
  CHECK(moonloop_spawn(L, 0) != LUA_OK);
  CHECK(lua_gettop(L) == 1);
  CHECK(strstr(luaL_tolstring(L, -1, NULL), "function expected") != NULL);
  lua_settop(L, 0);
  embed_say("refused");
}

int main(void) {
  lua_State *L = embed_state();
  CHECK(moonloop_runtime_of(L) == NULL);
  moonloop_runtime *rt = moonloop_open(L, NULL);
  CHECK(rt != NULL && moonloop_open(L, NULL) == rt);
  CHECK(moonloop_runtime_of(L) == rt);
  CHECK(moonloop_loop(rt) != NULL);
  CHECK(lua_gettop(L) == 0);
  CHECK(strcmp(moonloop_version(), "0.1.0") == 0);
  CHECK(MOONLOOP_VERSION_NUM == 100);

  spawn_with_arguments(L);
  CHECK(moonloop_run(L) == LUA_OK);
  result_of(L);
  refused_spawn(L);

  // Nothing to do: it returns at once, and can be run again.
  CHECK(moonloop_run(L) == LUA_OK);
  embed_spawn(L, "require 'moonloop'.sleep(0) print 'again'");
  CHECK(moonloop_run(L) == LUA_OK);

  // moonloop.run works in the embedding program as in stock Lua.
  embed_do(L, "local m = require 'moonloop' print(m.run(m.sleep, 0, 'run'))");
  CHECK(lua_gettop(L) == 0);
  moonloop_close(L);
  embed_do(L, "print 'still a state'");
  lua_close(L);
  return 0;
}
