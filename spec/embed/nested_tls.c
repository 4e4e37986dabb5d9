// SPDX-License-Identifier: MIT
//
// A protocol over TLS inside whose callback a C function turns the loop: what
// the session still holds then, the peer's end, is told afterwards. Called with
// the files of authority, certificate and key.
#include <ev.h>

#include "embed.h"

static int l_turn(lua_State *L) {
  struct ev_loop *loop = moonloop_loop(moonloop_runtime_of(L));
  for (int i = 0; i < 5; i++)
    ev_run(loop, EVRUN_NOWAIT);
  return 0;
}

static const char code[] =
    "local moonloop = require 'moonloop'\n"
    "local loop = moonloop.get_running_loop()\n"
    "local client = moonloop.tls.client_context{ca_file = files[1]}\n"
    "local server = moonloop.tls.server_context{cert = files[2], key = "
    "files[3]}\n"
    "local own, other = moonloop.socket.socketpair()\n"
    "local stream = moonloop.connect(nil, nil, {sock = other})\n"
    "local ended, lost = moonloop.Future(), moonloop.Future()\n"
    "local protocol = {\n"
    "  data_received = function(_, data)\n"
    "    print(data)\n"
    "    loop:call_soon(turn)\n"
    "  end,\n"
    "  eof_received = function() ended:set_result() end,\n"
    "  connection_lost = function() lost:set_result() end,\n"
    "}\n"
    "local there = moonloop.create_task(stream.start_tls, stream, client,\n"
    "  {server_hostname = 'localhost'})\n"
    "local transport = loop:connect_accepted_socket(function() return protocol "
    "end, own,\n"
    "  {tls = server})\n"
    "there:await()\n"
    "transport:pause_reading()\n"
    "stream:write('data')\n"
    "stream:write_eof()\n"
    "transport:resume_reading()\n"
    "local ok = moonloop.move_on_after(20, ended.await, ended)\n"
    "print(ok and 'end' or 'no end')\n"
    "transport:abort()\n"
    "lost:await()\n"
    "stream:abort()\n";

int main(int argc, char **argv) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  lua_register(L, "turn", l_turn);
  lua_newtable(L);
  for (int i = 1; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i);
  }
  lua_setglobal(L, "files");
  embed_spawn(L, code);
  if (moonloop_run(L) != LUA_OK)
    embed_fail(__FILE__, __LINE__, "run", luaL_tolstring(L, -1, NULL));
  moonloop_close(L);
  lua_close(L);
  return 0;
}
