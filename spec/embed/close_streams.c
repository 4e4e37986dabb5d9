// SPDX-License-Identifier: MIT
//
// The end of a state whose streams, sockets, servers and transports are all at
// work, inside a loop of the host's that lives on; also of one whose tasks wait
// in sendfile for a pipe, which speaks afterwards.
#include <unistd.h>

#include <ev.h>

#include "embed.h"

static int pipe_ends[2];

static int l_pipe(lua_State *L) {
  lua_pushinteger(L, pipe_ends[0]);
  return 1;
}

static const char busy[] =
    "local moonloop = require 'moonloop'\n"
    "local loop = moonloop.get_event_loop()\n"
    "keep = {}\n"
    "loop:set_exception_handler(function() end)\n"
    "moonloop.create_task(function()\n"
    "  local function task(fn, ...) moonloop.create_task(fn, ...) end\n"
    "  local a, b = moonloop.socketpair()\n"
    "  task(function() a:sendfile(the_pipe()) end)\n"
    "  local c, d = moonloop.socketpair()\n"
    "  task(function() c:write(('x'):rep(1000000)) c:write('y') end)\n"
    "  task(c.read, c)\n"
    "  local one, other = moonloop.socket.socketpair()\n"
    "  local transport = loop:connect_accepted_socket(moonloop.Protocol, one)\n"
    "  transport:write(('x'):rep(1000000))\n"
    "  task(loop.sendfile, loop, transport, the_pipe())\n"
    "  local near, far = moonloop.socket.socketpair()\n"
    "  local third = loop:connect_accepted_socket(moonloop.Protocol, near)\n"
    "  task(loop.sendfile, loop, third, the_pipe())\n"
    "  local server = moonloop.start_server(function(stream)\n"
    "    stream:read()\n"
    "  end, '127.0.0.1', 0)\n"
    "  local client = moonloop.connect('127.0.0.1', server:port())\n"
    "  local e, f = moonloop.socket.socketpair()\n"
    "  task(e.recv, e)\n"
    "  task(e.sendall, e, ('x'):rep(1000000))\n"
    "  local datagrams = loop:create_datagram_endpoint(\n"
    "    moonloop.DatagramProtocol, {local_addr = {host = '127.0.0.1'}})\n"
    "  local master, slave = moonloop.open_pty()\n"
    "  io.open(slave, 'r+'):close()\n"
    "  task(function()\n"
    "    for _ = 1, 100 do master:write(('x'):rep(99) .. '\\n') end\n"
    "    for _ = 1, 1000 do master:write(('x'):rep(999) .. '\\n') end\n"
    "  end)\n"
    "  keep = {b, d, other, far, f, client, datagrams, master}\n"
    "  moonloop.testing.wait_all_blocked()\n"
    "  waiting()\n"
    "  moonloop.sleep_forever()\n"
    "end)\n";

static int l_waiting(lua_State *L) {
  ev_break(moonloop_loop(moonloop_runtime_of(L)), EVBREAK_ALL);
  return 0;
}

static lua_State *busy_state(struct ev_loop *loop) {
  lua_State *L = embed_state();
  moonloop_open(L, loop);
  lua_register(L, "the_pipe", l_pipe);
  lua_register(L, "waiting", l_waiting);
  embed_do(L, busy);
  ev_run(loop, 0);
  return L;
}

static void stop(struct ev_loop *loop, ev_timer *timer, int revents) {
  (void)timer;
  (void)revents;
  ev_break(loop, EVBREAK_ALL);
}

// What the pipe says reaches nobody: nothing is watched any more.
static void speak(struct ev_loop *loop) {
  ev_timer timer;
  CHECK(write(pipe_ends[1], "x", 1) == 1);
  ev_timer_init(&timer, stop, 0.1, 0);
  ev_timer_start(loop, &timer);
  ev_run(loop, 0);
  ev_timer_stop(loop, &timer);
  CHECK(!ev_run(loop, EVRUN_NOWAIT));
}

int main(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  CHECK(pipe(pipe_ends) == 0);
  lua_State *L = busy_state(loop);
  lua_close(L);
  speak(loop);
  embed_say("lua_close");
  L = busy_state(loop);
  moonloop_close(L);
  speak(loop);
  embed_do(L, "keep = nil collectgarbage() collectgarbage()");
  lua_close(L);
  speak(loop);
  embed_say("moonloop_close");
  ev_loop_destroy(loop);
  return 0;
}
