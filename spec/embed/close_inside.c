// SPDX-License-Identifier: MIT
//
// moonloop_close called inside the loop: by a task, a callback, a timer, a
// watched descriptor, a posted function. Nothing is closed under the loop's
// feet: the call that drives it closes the runtime before it returns.
#include <stdbool.h>
#include <unistd.h>

#include <ev.h>

#include "embed.h"

typedef void (*Drive)(lua_State *L);

static int unwound;

static int l_close(lua_State *L) {
  moonloop_close(L);
  moonloop_close(L);
  return 0;
}

static int l_unwound(lua_State *L) {
  (void)L;
  unwound++;
  return 0;
}

static void close_posted(lua_State *L, void *ud) {
  (void)ud;
  moonloop_close(L);
}

static int pipe_ends[2];

static int l_pipe(lua_State *L) {
  lua_pushinteger(L, pipe_ends[1]);
  return 1;
}

static const char busy[] =
    "local moonloop = require 'moonloop'\n"
    "local _ <close> = setmetatable({}, {__close = unwound})\n"
    "local server <close> = moonloop.start_server(function(s)\n"
    "  local _ <close> = setmetatable({}, {__close = unwound})\n"
    "  serving = true\n"
    "  s:read()\n"
    "end, '127.0.0.1', 0)\n"
    "kept = moonloop.connect('127.0.0.1', server:port())\n"
    "kept:read()\n";

static void drive_run(lua_State *L) { CHECK(moonloop_run(L) == LUA_OK); }

static void drive_step(lua_State *L) {
  while (moonloop_step(L) > 0)
    ;
}

static void drive_poll(lua_State *L) {
  double timeout;
  while (moonloop_poll(L, &timeout) > 0)
    ;
}

static const char *const closers[] = {
    "require 'moonloop'.sleep(0.001) close()",
    "require 'moonloop'.get_running_loop():call_soon(close)",
    "require 'moonloop'.get_running_loop():call_later(0.001, close)",
    "require 'moonloop'.get_running_loop():add_writer(the_pipe(), close)",
};

static lua_State *busy_state(struct ev_loop *loop) {
  lua_State *L = embed_state();
  moonloop_open(L, loop);
  lua_register(L, "close", l_close);
  lua_register(L, "unwound", l_unwound);
  lua_register(L, "the_pipe", l_pipe);
  unwound = 0;
  embed_spawn(L, busy);
  double timeout;
  for (bool ready = false; !ready;) {
    CHECK(moonloop_poll(L, &timeout) > 0);
    lua_getglobal(L, "serving");
    ready = lua_toboolean(L, -1);
    lua_pop(L, 1);
  }
  return L;
}

// The runtime is closed now: its tasks have unwound, and it says so.
static void check_closed(lua_State *L) {
  CHECK(unwound == 2);
  embed_do(L, "local m = require 'moonloop'\n"
              "local ok, err = pcall(m.create_task, print)\n"
              "assert(not ok and m.is_error(err, 'InvalidStateError'))\n"
              "assert(m.get_event_loop():is_closed())");
  CHECK(moonloop_post(moonloop_runtime_of(L), close_posted, NULL) != 0);
  CHECK(moonloop_step(L) == 0);
  embed_do(L, "collectgarbage() collectgarbage()");
  lua_close(L);
}

static void close_in(struct ev_loop *loop, Drive drive) {
  for (size_t i = 0; i < sizeof closers / sizeof *closers; i++) {
    lua_State *L = busy_state(loop);
    embed_spawn(L, closers[i]);
    drive(L);
    check_closed(L);
  }
  lua_State *L = busy_state(loop);
  CHECK(moonloop_post(moonloop_runtime_of(L), close_posted, NULL) == 0);
  drive(L);
  check_closed(L);
}

static void close_everywhere(Drive drive, const char *what) {
  close_in(NULL, drive);
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  close_in(loop, drive);
  // No watcher is left in the host's loop that could run or keep it going.
  ev_run(loop, 0);
  CHECK(ev_pending_count(loop) == 0);
  ev_loop_destroy(loop);
  embed_say(what);
}

int main(void) {
  alarm(60); // what does not return is a failure too
  CHECK(pipe(pipe_ends) == 0);
  close_everywhere(drive_run, "run");
  close_everywhere(drive_step, "step");
  close_everywhere(drive_poll, "poll");
  return 0;
}
