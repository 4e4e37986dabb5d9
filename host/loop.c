// SPDX-License-Identifier: MIT
//
// What Lua needs to drive the loop: its clock, running it until a task ends,
// stopping, closing, debug mode. The policy of `run` (what is cancelled and
// awaited on the way out) is in lua/moonloop/run.lua.
#include "loop.h"

#include <stdio.h>

#include "error.h"
#include "task.h"

/// Gives the time now: monotonic, read fresh (the virtual clock's while that is
/// on).
// @function time
// @return number, seconds since some point in the past
// @see asyncio.loop.time
static int l_time(lua_State *L) {
  lua_pushnumber(L, clock_now(runtime_upvalue(L)));
  return 1;
}

static void check_may_run(Runtime *rt, lua_State *L) {
  runtime_check_open(rt, L);
  if (rt->in_lua > 0 || rt->running)
    error_raise(L, "InvalidStateError", "the loop is running already");
}

// Runs the loop until the task ends (nil: until it is stopped). Returns "done",
// "stopped", or "idle" when nothing can wake what is left; with `forever` it
// waits on instead, for what a thread or a signal may bring.
static int l_run_until(lua_State *L) { // task or nil, forever
  Runtime *rt = runtime_upvalue(L);
  Task *task = lua_isnoneornil(L, 1) ? NULL : task_check(L, 1);
  bool forever = lua_toboolean(L, 2);
  check_may_run(rt, L);
  if (task && !task->co) {
    lua_pushliteral(L, "done");
    return 1;
  }
  rt->until = task;
  if (forever)
    runtime_hold(rt);
  bool stopped = runtime_run(rt, L);
  if (forever)
    runtime_release(rt);
  bool done = task && !task->co;
  rt->until = NULL;
  lua_pushstring(L, done ? "done" : stopped ? "stopped" : "idle");
  return 1;
}

/// Makes the run that is under way return after this turn; where none is, the
/// next one after its first. `moonloop.run` then cancels the main task.
// @function Loop:stop
// @see asyncio.loop.stop
static int l_stop(lua_State *L) {
  moonloop_stop(runtime_upvalue(L));
  return 0;
}

/// Tells whether the loop runs.
// @function Loop:is_running
// @see asyncio.loop.is_running
static int l_is_running(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_pushboolean(L, rt->running || rt->in_lua > 0);
  return 1;
}

/// Tells whether the loop was closed and no run has opened it again.
// @function Loop:is_closed
// @see asyncio.loop.is_closed
static int l_is_closed(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_pushboolean(L, rt->closed || rt->loop_closed);
  return 1;
}

// Forgets a stop() that came when nothing ran.
static int l_forget_stop(lua_State *L) {
  runtime_upvalue(L)->stopping = false;
  return 0;
}

static int l_set_closed(lua_State *L) {
  runtime_upvalue(L)->loop_closed = lua_toboolean(L, 1);
  return 0;
}

/// Switches debug mode.
// @function Loop:set_debug
// @param on boolean
// @see asyncio.loop.set_debug
static int l_set_debug(lua_State *L) { // loop, on
  runtime_upvalue(L)->debug = lua_toboolean(L, 2);
  return 0;
}

/// Tells whether debug mode is on.
// @function Loop:get_debug
// @see asyncio.loop.get_debug
static int l_get_debug(lua_State *L) {
  lua_pushboolean(L, runtime_upvalue(L)->debug);
  return 1;
}

static int l_record_sites(lua_State *L) {
  runtime_upvalue(L)->record_sites = lua_toboolean(L, 1);
  return 0;
}

static int l_untaken_delay(lua_State *L) { // [seconds]
  Runtime *rt = runtime_upvalue(L);
  if (!lua_isnoneornil(L, 1))
    rt->untaken_delay = luaL_checknumber(L, 1);
  lua_pushnumber(L, rt->untaken_delay);
  return 1;
}

// Makes number `run` the one that new tasks made outside any belong to; without
// an argument answers the present one.
static int l_run_id(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (!lua_isnoneornil(L, 1))
    rt->run_id = (int)luaL_checkinteger(L, 1);
  lua_pushinteger(L, rt->run_id);
  return 1;
}

static int l_set_virtual_clock(lua_State *L) { // on, threshold
  Runtime *rt = runtime_upvalue(L);
  clock_set_virtual(rt, lua_toboolean(L, 1), luaL_optnumber(L, 2, 0.01));
  return 0;
}

static int l_timer_mark(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)runtime_upvalue(L)->timers.seq);
  return 1;
}

static int l_last_task_id(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)runtime_upvalue(L)->task_id);
  return 1;
}

// ---- waiting for stillness -------------------------------------------------

static int abort_idle(moonloop_wait *w, void *ud) {
  wait_list_remove(&((Runtime *)ud)->still, task_of_wait(w));
  return 1;
}

static void describe_idle(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  (void)rt, (void)w;
  snprintf(text, size, "all others to wait");
}

// Waits until nothing is ready and a look at the descriptors brought nothing.
static int l_wait_idle(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  moonloop_wait *w = wait_begin_io(rt, L, abort_idle, rt, describe_idle);
  wait_list_add(&rt->still, task_of_wait(w));
  rt->idle_mark = 0;
  return moonloop_await(L, w);
}

bool loop_look_idle(Runtime *rt) {
  if (!rt->still.first || rt->ready.head)
    return false;
  if (rt->idle_mark != rt->activity) { // look once more
    rt->idle_mark = rt->activity;
    return true;
  }
  while (rt->still.first) {
    Task *t = rt->still.first;
    wait_list_remove(&rt->still, t);
    wait_wake_later(&t->wait, NULL, NULL);
  }
  return true;
}

static const luaL_Reg functions[] = {
    {"time",              l_time             },
    {"run_until",         l_run_until        },
    {"stop",              l_stop             },
    {"is_running",        l_is_running       },
    {"is_closed",         l_is_closed        },
    {"set_closed",        l_set_closed       },
    {"forget_stop",       l_forget_stop      },
    {"set_debug",         l_set_debug        },
    {"get_debug",         l_get_debug        },
    {"record_sites",      l_record_sites     },
    {"untaken_delay",     l_untaken_delay    },
    {"run_id",            l_run_id           },
    {"set_virtual_clock", l_set_virtual_clock},
    {"timer_mark",        l_timer_mark       },
    {"last_task_id",      l_last_task_id     },
    {"wait_idle",         l_wait_idle        },
    {NULL,                NULL               },
};

void loop_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
