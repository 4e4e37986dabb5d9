// SPDX-License-Identifier: MIT
//
// Sleeping: the timer that each task has in itself, and taking turns.
#include "sleep.h"

#include <math.h>
#include <stdio.h>

#include "task.h"

static int abort_sleep(moonloop_wait *w, void *ud) {
  timer_stop(ud, &task_of_wait(w)->timer);
  return 1;
}

static void describe_sleep(Runtime *rt, moonloop_wait *w, char *text,
                           size_t size) {
  Task *t = task_of_wait(w);
  if (!timer_is_active(&t->timer)) {
    snprintf(text, size, "sleep");
    return;
  }
  double left = timer_when(rt, &t->timer) - clock_now(rt);
  snprintf(text, size, "sleep %.3gs", left > 0 ? left : 0);
}

static int push_slept(lua_State *L, void *ud) { // seconds [result]
  (void)ud;
  lua_settop(L, 2);
  return 1;
}

static void on_slept(Runtime *rt, Timer *timer) {
  Task *t = (Task *)((char *)timer - offsetof(Task, timer));
  (void)rt;
  moonloop_wake(&t->wait, push_slept, NULL);
}

static int sleep_until(Runtime *rt, lua_State *L, double when) {
  moonloop_wait *w = wait_begin(rt, L, abort_sleep, rt, describe_sleep);
  Task *t = rt->current;
  t->timer.fire = on_slept;
  timer_start(rt, L, &t->timer, when);
  return moonloop_await(L, w);
}

static double check_seconds(lua_State *L, int arg) {
  double seconds = luaL_checknumber(L, arg);
  luaL_argcheck(L, !isnan(seconds), arg, "not a number of seconds (nan)");
  return seconds;
}

/// Suspends the task. Awaits. `sleep(0)` lets every ready task run once.
// @function sleep
// @param seconds number; negative is 0
// @param[opt] result value to return
// @return result
// @raise see Awaiting functions
// @see asyncio.sleep
static int l_sleep(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  double seconds = check_seconds(L, 1);
  if (seconds <= 0)
    return wait_take_turn(rt, L, push_slept);
  return sleep_until(rt, L, clock_now(rt) + seconds);
}

/// Suspends the task until the loop's clock shows `when`. Awaits, also where
/// that is past: then every ready task runs once.
// @function sleep_until
// @param when number, seconds as `moonloop.time()` counts them
// @raise see Awaiting functions
// @see trio.sleep_until
static int l_sleep_until(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  double when = check_seconds(L, 1);
  if (when <= clock_now(rt)) {
    lua_settop(L, 1);
    return wait_take_turn(rt, L, push_slept);
  }
  lua_settop(L, 1);
  return sleep_until(rt, L, when);
}

static int abort_forever(moonloop_wait *w, void *ud) {
  (void)w, (void)ud;
  return 1;
}

static void describe_forever(Runtime *rt, moonloop_wait *w, char *text,
                             size_t size) {
  (void)rt, (void)w;
  snprintf(text, size, "sleep forever");
}

/// Suspends the task until it is cancelled. Awaits, and is no deadlock.
// @function sleep_forever
// @raise see Awaiting functions
// @see trio.sleep_forever
static int l_sleep_forever(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  return moonloop_await(
      L, wait_begin_io(rt, L, abort_forever, NULL, describe_forever));
}

static const luaL_Reg functions[] = {
    {"sleep",         l_sleep        },
    {"sleep_until",   l_sleep_until  },
    {"sleep_forever", l_sleep_forever},
    {NULL,            NULL           },
};

void sleep_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
