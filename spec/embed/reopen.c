// SPDX-License-Identifier: MIT
//
// A state whose runtime is closed and opened again: the standard streams stand
// for the state, and go on.
#include "embed.h"

static void run(lua_State *L, const char *code) {
  embed_spawn(L, code);
  if (moonloop_run(L) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "run", luaL_tolstring(L, -1, NULL));
}

int main(void) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  run(L, "local moonloop = require 'moonloop'\n"
         "assert(tostring(moonloop.stdin):find('open'))\n"
         "moonloop.stdout:write('one\\n')\n"
         "moonloop.stderr:write('said ')\n");
  moonloop_close(L);
  moonloop_open(L, NULL);
  run(L, "local moonloop = require 'moonloop'\n"
         "moonloop.stdout:write(moonloop.stdin:readline())\n"
         "moonloop.stderr:write('said\\n')\n");
  lua_close(L);
  return 0;
}
