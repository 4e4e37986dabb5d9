// SPDX-License-Identifier: MIT
//
// Waits that come to nothing: one that is begun and, for an error comes
// between, never awaited must not keep the host's loop alive; one that is
// pending with a label when the state ends must leave no memory behind.
#include <ev.h>

#include "embed.h"

static int l_begin_and_fail(lua_State *L) {
  moonloop_await_begin(L, NULL, NULL);
  return luaL_error(L, "came between");
}

static int l_labelled(lua_State *L) {
  moonloop_wait *w = moonloop_await_begin(L, NULL, NULL);
  moonloop_wait_label(w, "number %d", 7);
  return moonloop_await(L, w);
}

int main(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  lua_State *L = embed_state();
  moonloop_open(L, loop);
  lua_register(L, "begin_and_fail", l_begin_and_fail);
  lua_register(L, "labelled", l_labelled);
  embed_spawn(L, "print(pcall(begin_and_fail))\n"
                 "print(require 'moonloop'.sleep(0, 'still waits'))");
  embed_spawn(L, "begin_and_fail()");
  embed_do(L, "require 'moonloop'.get_event_loop()"
              ":set_exception_handler(function() end)");
  ev_run(loop, 0);
  embed_say("the loop has ended");

  embed_spawn(L, "labelled()");
  double timeout;
  CHECK(moonloop_poll(L, &timeout) == 1);
  lua_close(L);
  ev_run(loop, 0);
  ev_loop_destroy(loop);
  embed_say("closed");
  return 0;
}
