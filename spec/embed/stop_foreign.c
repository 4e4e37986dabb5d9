// SPDX-License-Identifier: MIT
//
// loop:stop() and moonloop_stop where no moonloop_run is under way: the turn in
// which they come ends as any other, timers fire afterwards, and a host's own
// ev_run does not hear of them.
#include <math.h>
#include <poll.h>
#include <unistd.h>

#include <ev.h>

#include "embed.h"

static const char stopping[] = "local moonloop = require 'moonloop'\n"
                               "local loop = moonloop.get_running_loop()\n"
                               "for i = 1, 3 do\n"
                               "  loop:stop()\n"
                               "  moonloop.sleep(0.001)\n"
                               "end\n"
                               "print 'woke'\n";

static void under_poll(void) {
  lua_State *L = embed_state();
  moonloop_runtime *rt = moonloop_open(L, NULL);
  embed_spawn(L, stopping);
  moonloop_stop(rt);
  double timeout;
  for (int turns = 0; moonloop_poll(L, &timeout) > 0; turns++) {
    CHECK(turns < 1000);
    CHECK(timeout >= 0);
    struct pollfd fd = {.fd = moonloop_fd(rt), .events = POLLIN};
    poll(&fd, 1, (int)ceil(timeout * 1000));
  }
  lua_close(L);
  embed_say("poll");
}

static void under_step(void) {
  lua_State *L = embed_state();
  moonloop_runtime *rt = moonloop_open(L, NULL);
  embed_spawn(L, stopping);
  moonloop_stop(rt);
  for (int turns = 0; moonloop_step(L) > 0; turns++)
    CHECK(turns < 1000);
  lua_close(L);
  embed_say("step");
}

static int ticks;

static void on_tick(struct ev_loop *loop, ev_timer *timer, int events) {
  (void)events;
  if (++ticks == 20)
    ev_timer_stop(loop, timer);
}

// One ev_run sees both the host's timer and the tasks to their end.
static void under_ev_run(void) {
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  lua_State *L = embed_state();
  moonloop_runtime *rt = moonloop_open(L, loop);
  ev_timer timer;
  ev_timer_init(&timer, on_tick, 0.001, 0.001);
  ev_timer_start(loop, &timer);
  embed_spawn(L, stopping);
  moonloop_stop(rt);
  ev_run(loop, 0);
  CHECK(ticks == 20);
  lua_close(L);
  ev_loop_destroy(loop);
  embed_say("ev_run");
}

// What stopped nothing then stops no later run.
static void before_run(void) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  embed_spawn(L, stopping);
  while (moonloop_step(L) > 0)
    ;
  embed_spawn(L, "require 'moonloop'.sleep(0.001) print 'ran'");
  CHECK(moonloop_run(L) == LUA_OK);
  lua_close(L);
}

int main(void) {
  alarm(60); // what does not return is a failure too
  under_poll();
  under_step();
  under_ev_run();
  before_run();
  return 0;
}
