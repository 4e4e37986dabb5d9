// SPDX-License-Identifier: MIT
//
// A host with a libev loop of its own, in which Moonloop is a guest: the host's
// ev_run runs the tasks, and returns when they have ended. Nothing else of the
// process is touched.
#include <signal.h>
#include <string.h>

#include <ev.h>

#include "embed.h"

static int ticks;

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events) {
  (void)events;
  if (++ticks == 3)
    ev_timer_stop(loop, timer);
}

enum { SIGNALS = 32 };

static struct sigaction found[SIGNALS];

static void note_signals(void) {
  for (int number = 1; number < SIGNALS; number++)
    sigaction(number, NULL, &found[number]);
}

// Every signal that nobody asked for stays as the host left it.
static void check_signals(void) {
  for (int number = 1; number < SIGNALS; number++) {
    struct sigaction action;
    if (sigaction(number, NULL, &action) == 0)
      CHECK(action.sa_handler == found[number].sa_handler);
  }
  sigset_t blocked;
  CHECK(sigprocmask(SIG_SETMASK, NULL, &blocked) == 0);
  CHECK(!sigismember(&blocked, SIGPIPE) && !sigismember(&blocked, SIGCHLD));
}

int main(void) {
  signal(SIGUSR1, SIG_IGN);
  signal(SIGCHLD, SIG_IGN);
  note_signals();
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  lua_State *L = embed_state();
  moonloop_runtime *rt = moonloop_open(L, loop);
  CHECK(moonloop_loop(rt) == loop);

  // Idle, the guest keeps the host's loop from nothing.
  ev_run(loop, 0);
  embed_say("idle");

  ev_timer timer;
  ev_timer_init(&timer, on_tick, 0.001, 0.001);
  ev_timer_start(loop, &timer);
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "local child = moonloop.create_task(function()\n"
                 "  for i = 1, 3 do moonloop.sleep(0) end\n"
                 "  return moonloop.sleep(0.005, 'child')\n"
                 "end)\n"
                 "print(moonloop.await(child))");
  ev_run(loop, 0);
  CHECK(ticks == 3);
  embed_say("both done");

  // A future set by a callback of the host's, between two runs.
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "gate = moonloop.Future()\n"
                 "print(gate:await())");
  ev_run(loop, EVRUN_NOWAIT);
  embed_do(L, "gate:set_result('set from outside')");
  ev_run(loop, 0);

  check_signals();
  moonloop_close(L);
  ev_run(loop, 0);
  lua_close(L);
  ev_timer_init(&timer, on_tick, 0.001, 0);
  ev_timer_start(loop, &timer);
  ev_run(loop, 0);
  CHECK(ticks == 4);
  ev_loop_destroy(loop);
  embed_say("the host's loop lives on");
  return 0;
}
