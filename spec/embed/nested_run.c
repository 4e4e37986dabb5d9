// SPDX-License-Identifier: MIT
//
// A task whose C function turns the loop: who waited for a socket is woken but
// cannot go on yet, and keeps its place before others.
#include <ev.h>

#include "embed.h"

static int l_turn(lua_State *L) {
  struct ev_loop *loop = moonloop_loop(moonloop_runtime_of(L));
  for (int i = 0; i < 3; i++)
    ev_run(loop, EVRUN_NOWAIT);
  return 0;
}

static const char code[] =
    "local moonloop = require 'moonloop'\n"
    "local near, far = moonloop.socket.socketpair()\n"
    "local text = ('a'):rep(1000000)\n"
    "local first = moonloop.create_task(near.sendall, near, text)\n"
    "moonloop.testing.wait_all_blocked()\n"
    "for _ = 1, 4 do far:recv() end\n"
    "local second = moonloop.create_task(function()\n"
    "  local ok, err = pcall(near.sendall, near, text)\n"
    "  print(ok, ok or err.kind)\n"
    "end)\n"
    "turn()\n"
    "moonloop.create_task(function()\n"
    "  while far:recv() do end\n"
    "end)\n"
    "second:await()\n"
    "first:await()\n"
    "print('both ended')\n"
    "near:close()\n";

int main(void) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  lua_register(L, "turn", l_turn);
  embed_spawn(L, code);
  if (moonloop_run(L) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "run", luaL_tolstring(L, -1, NULL));
  moonloop_close(L);
  lua_close(L);
  return 0;
}
