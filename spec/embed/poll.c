// SPDX-License-Identifier: MIT
//
// A host whose own loop is poll(2): it waits for moonloop_fd or for the next
// timeout, and lets moonloop_poll do what is ready.
#include <math.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "embed.h"

static int pipe_ends[2];

static int l_pipe(lua_State *L) {
  lua_pushinteger(L, pipe_ends[0]);
  return 1;
}

// Waits as the runtime asks, at most `limit` seconds.
static int wait_for(moonloop_runtime *rt, double timeout, double limit) {
  if (timeout < 0 || timeout > limit)
    timeout = limit;
  struct pollfd fd = {.fd = moonloop_fd(rt), .events = POLLIN};
  return poll(&fd, 1, (int)ceil(timeout * 1000));
}

static int run_to_the_end(lua_State *L, moonloop_runtime *rt) {
  double timeout;
  int turns = 0;
  while (moonloop_poll(L, &timeout) > 0) {
    CHECK(++turns < 10000);
    wait_for(rt, timeout, 5);
  }
  return turns;
}

// A descriptor's data makes moonloop_fd readable while nothing else is due.
static void wait_for_data(lua_State *L, moonloop_runtime *rt) {
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "local loop, fd = moonloop.get_running_loop(), the_pipe()\n"
                 "local future = moonloop.Future()\n"
                 "loop:add_reader(fd, function()\n"
                 "  loop:remove_reader(fd)\n"
                 "  future:set_result 'readable'\n"
                 "end)\n"
                 "print(future:await())");
  double timeout;
  do
    CHECK(moonloop_poll(L, &timeout) == 1);
  while (timeout == 0);
  CHECK(timeout < 0 || timeout > 1);
  CHECK(wait_for(rt, 0, 0) == 0);
  CHECK(write(pipe_ends[1], "x", 1) == 1);
  CHECK(wait_for(rt, 5, 5) == 1);
  run_to_the_end(L, rt);
}

// Waiting until all tasks wait takes a look at the descriptors, which it gets.
static void wait_until_blocked(lua_State *L, moonloop_runtime *rt) {
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "local other = moonloop.create_task(moonloop.sleep_forever)\n"
                 "for i = 1, 3 do moonloop.testing.wait_all_blocked() end\n"
                 "other:cancel()\n"
                 "print 'blocked'");
  double timeout;
  for (int turns = 0; moonloop_poll(L, &timeout) > 0; turns++) {
    CHECK(turns < 1000);
    CHECK(wait_for(rt, timeout, 5) > 0 || timeout >= 0);
  }
}

int main(void) {
  CHECK(pipe(pipe_ends) == 0);
  lua_State *L = embed_state();
  moonloop_runtime *rt = moonloop_open(L, NULL);
  lua_register(L, "the_pipe", l_pipe);

  double timeout = 0;
  CHECK(moonloop_poll(L, &timeout) == 0);
  CHECK(timeout < 0);
  CHECK(moonloop_fd(rt) >= 0);

  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "for i = 1, 3 do moonloop.sleep(0) end\n"
                 "moonloop.sleep(0.01)\n"
                 "print 'slept'");
  run_to_the_end(L, rt);
  wait_for_data(L, rt);

  wait_until_blocked(L, rt);

  // It says how long it can be left alone.
  embed_spawn(L, "require 'moonloop'.sleep(3600)");
  CHECK(moonloop_poll(L, &timeout) == 1);
  while (timeout == 0)
    moonloop_poll(L, &timeout);
  CHECK(timeout > 3000 && timeout <= 3600);
  embed_say("an hour to go");

  lua_close(L);
  close(pipe_ends[0]);
  close(pipe_ends[1]);
  return 0;
}
