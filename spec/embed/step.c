// SPDX-License-Identifier: MIT
//
// A host that turns the loop by hand with moonloop_step, and one that stops a
// running moonloop_run from a task; turns made from a coroutine.
#include <ev.h>

#include "embed.h"

static void turn_by_hand(lua_State *L) {
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "moonloop.sleep(0.001)\n"
                 "moonloop.create_task(function()\n"
                 "  moonloop.sleep(0.001)\n"
                 "  print 'child'\n"
                 "end)\n"
                 "print 'parent'");
  int turns = 0;
  while (moonloop_step(L) > 0)
    turns++;
  CHECK(turns > 0);
  CHECK(lua_gettop(L) == 0);
}

// A turn may be asked for by a coroutine's state, which may be gone by the
// next.
static void turn_from_a_coroutine(struct ev_loop *loop) {
  lua_State *L = embed_state();
  moonloop_open(L, loop);
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "for i = 1, 3 do\n"
                 "  collectgarbage()\n"
                 "  moonloop.sleep(0.001)\n"
                 "end\n"
                 "print 'outlived it'");
  lua_State *co = lua_newthread(L);
  CHECK(moonloop_step(co) == 1);
  double timeout;
  CHECK(moonloop_poll(co, &timeout) == 1);
  lua_pop(L, 1);
  lua_gc(L, LUA_GCCOLLECT, 0);
  lua_gc(L, LUA_GCCOLLECT, 0);
  ev_run(loop, 0);
  lua_close(L);
}

static int l_stop(lua_State *L) {
  moonloop_stop(moonloop_runtime_of(L));
  return 0;
}

static void stop_and_go_on(lua_State *L) {
  lua_register(L, "stop", l_stop);
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "print 'before'\n"
                 "stop()\n"
                 "moonloop.sleep(0)\n"
                 "moonloop.sleep(0.001)\n"
                 "print 'after'");
  CHECK(moonloop_run(L) == LUA_OK);
  embed_say("stopped");
  CHECK(moonloop_run(L) == LUA_OK);
  embed_say("ended");
}

int main(void) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  turn_by_hand(L);
  stop_and_go_on(L);
  lua_close(L);
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  turn_from_a_coroutine(loop);
  ev_loop_destroy(loop);
  return 0;
}
