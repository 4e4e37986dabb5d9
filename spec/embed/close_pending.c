// SPDX-License-Identifier: MIT
//
// The end of a state with everything pending: tasks asleep, awaiting, never
// begun, timers, callbacks, watched descriptors, waits of the host's own. Each
// way to end is tried in a state of its own; nothing may be left or run late.
#include <string.h>
#include <unistd.h>

#include <ev.h>

#include "embed.h"

static int pipe_ends[2];

static int l_pipe(lua_State *L) {
  lua_pushinteger(L, pipe_ends[0]);
  return 1;
}

static int abort_undone(moonloop_wait *w, void *ud) {
  (void)w;
  (void)ud;
  return 1;
}

// Waits for what never comes, and can be undone.
static int l_undone(lua_State *L) {
  return moonloop_await(L, moonloop_await_begin(L, abort_undone, NULL));
}

static moonloop_wait *stuck;

// Waits for what never comes, and cannot be undone.
static int l_stuck(lua_State *L) {
  stuck = moonloop_await_begin(L, NULL, NULL);
  return moonloop_await(L, stuck);
}

static const char pending[] =
    "local moonloop = require 'moonloop'\n"
    "moonloop.patch_coroutines()\n"
    "local loop = moonloop.get_event_loop()\n"
    "local function closing(what)\n"
    "  return setmetatable({}, {__close = function() closed(what) end})\n"
    "end\n"
    "local future = moonloop.Future()\n"
    "local function task(what, fn, ...)\n"
    "  return moonloop.create_task({name = what}, function(...)\n"
    "    local _ <close> = closing(what)\n"
    "    fn(...)\n"
    "  end, ...)\n"
    "end\n"
    "task('sleeping', moonloop.sleep, 60)\n"
    "task('forever', moonloop.sleep_forever)\n"
    "task('future', moonloop.await, future)\n"
    "local awaited = task('awaiting', moonloop.await, "
    "task('awaited', moonloop.sleep_forever))\n"
    "task('undone', undone)\n"
    "task('generator', coroutine.wrap(function()\n"
    "  local _ <close> = closing('inner')\n"
    "  moonloop.sleep_forever()\n"
    "end))\n"
    "task('deferring', function()\n"
    "  local _ <close> = moonloop.defer(function() moonloop.sleep(0.05) end)\n"
    "end)\n"
    "task('function', moonloop.await, moonloop.sleep_forever)\n"
    "failed = moonloop.create_task(error, 'untaken')\n"
    "future:add_done_callback(print)\n"
    "future:add_done_callback(print)\n"
    "loop:call_later(60, print)\n"
    "loop:add_reader(the_pipe(), print)\n"
    "setmetatable({}, {__gc = function() pcall(moonloop.sleep, 0) end})\n"
    "keep = {future, loop, loop:call_soon(function() end), awaited}\n";

static int closed;

static int l_closed(lua_State *L) {
  (void)L;
  closed++;
  return 0;
}

static lua_State *busy_state(struct ev_loop *loop, int turns, int with_stuck) {
  lua_State *L = embed_state();
  moonloop_open(L, loop);
  lua_register(L, "the_pipe", l_pipe);
  lua_register(L, "undone", l_undone);
  lua_register(L, "stuck", l_stuck);
  lua_register(L, "closed", l_closed);
  embed_do(L, "local m = require 'moonloop'\n"
              "m.get_event_loop():set_exception_handler(function() end)");
  embed_do(L, pending);
  if (with_stuck)
    embed_do(L, "local m = require 'moonloop'\n"
                "m.create_task(stuck)\n"
                "m.create_task(function()\n"
                "  local _ <close> = m.defer(m.sleep_forever)\n"
                "end)\n");
  for (int i = 0; i < turns; i++) {
    double timeout;
    CHECK(moonloop_poll(L, &timeout) > 0);
  }
  return L;
}

// Made last, such a task has not begun when the state ends.
static void spawn_unstarted(lua_State *L) { embed_spawn(L, "print 'never'"); }

static void end_with_lua_close(struct ev_loop *loop, int turns) {
  lua_State *L = busy_state(loop, turns, 1);
  spawn_unstarted(L);
  lua_close(L);
}

static void end_with_close_first(struct ev_loop *loop) {
  lua_State *L = busy_state(loop, 3, 0);
  spawn_unstarted(L);
  closed = 0;
  moonloop_close(L);
  CHECK(closed == 10);
  moonloop_close(L);
  CHECK(closed == 10);
  embed_do(L, "keep = nil collectgarbage() collectgarbage()");
  lua_close(L);
}

// Tasks that do not end: moonloop_close does not wait for them for ever, and
// what cannot be stopped may still wake its task, which is nobody's by then.
static void end_with_stuck_tasks(void) {
  lua_State *L = busy_state(NULL, 3, 1);
  spawn_unstarted(L);
  moonloop_close(L);
  moonloop_wake(stuck, NULL, NULL);
  embed_do(L, "collectgarbage() collectgarbage()");
  lua_close(L);
}

static void use_after_close(void) {
  lua_State *L = busy_state(NULL, 3, 0);
  spawn_unstarted(L);
  moonloop_close(L);
  embed_do(L, "local m = require 'moonloop'\n"
              "assert(not pcall(m.sleep, 0))\n"
              "assert(not pcall(keep[2].call_soon, keep[2], print))\n"
              "assert(tostring(keep[1]) and tostring(keep[4]))");
  lua_close(L);
}

// lua_close while a task runs, as os.exit(true, true) does.
static void end_from_inside(void) {
  lua_State *L = busy_state(NULL, 3, 1);
  embed_spawn(L, "local m = require 'moonloop'\n"
                 "m.sleep(0)\n"
                 "print 'leaving'\n"
                 "io.stdout:flush()\n"
                 "os.exit(0, true)");
  moonloop_run(L);
  CHECK(!"os.exit returned");
}

int main(void) {
  CHECK(pipe(pipe_ends) == 0);
  for (int turns = 0; turns < 4; turns++)
    end_with_lua_close(NULL, turns);
  embed_say("lua_close");

  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  end_with_lua_close(loop, 3);
  end_with_close_first(loop);
  // No watcher of theirs is left that could run or keep the loop alive.
  CHECK(write(pipe_ends[1], "x", 1) == 1);
  ev_run(loop, 0);
  CHECK(ev_pending_count(loop) == 0);
  char byte;
  CHECK(read(pipe_ends[0], &byte, 1) == 1);
  ev_loop_destroy(loop);
  embed_say("the host's loop is empty");

  end_with_close_first(NULL);
  use_after_close();
  end_with_stuck_tasks();
  embed_say("moonloop_close");

  // A state in which nothing was ever done, and one without Moonloop.
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  lua_close(L);
  L = embed_state();
  moonloop_close(L);
  lua_close(L);
  embed_say("empty");
  end_from_inside();
  return 1;
}
