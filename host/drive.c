// SPDX-License-Identifier: MIT
//
// The calls of moonloop.h that spawn tasks and drive the loop.
#include "runtime.h"
#include "task.h"
#include "timer.h"

enum { TURNS_PER_POLL = 16 };

// A moonloop_close that came inside the loop is carried out outside of it.
static void close_if_wanted(Runtime *rt, lua_State *L) {
  if (!rt->close_wanted || ev_depth(rt->loop) > 0)
    return;
  rt->close_wanted = rt->stopping = false;
  moonloop_close(L);
}

bool runtime_run(Runtime *rt, lua_State *L) {
  lua_State *outer = rt->L;
  rt->L = L;
  rt->running = true;
  ev_run(rt->loop, 0);
  bool stopped = rt->stopping;
  rt->running = rt->stopping = false;
  rt->L = outer;
  close_if_wanted(rt, L);
  return stopped;
}

void moonloop_stop(moonloop_runtime *rt) {
  rt->stopping = true;
  if (rt->loop && rt->running)
    ev_break(rt->loop, EVBREAK_ONE);
}

static int push_failure(lua_State *L, const char *message) {
  lua_pushstring(L, message);
  return LUA_ERRRUN;
}

static int spawn(lua_State *L) { // f args -> task
  Runtime *rt = runtime_check(L);
  runtime_check_open(rt, L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  task_new(rt, L, lua_gettop(L) - 1);
  return 1;
}

int moonloop_spawn(lua_State *L, int nargs) {
  lua_pushcfunction(L, spawn);
  lua_insert(L, -nargs - 2);
  return lua_pcall(L, nargs + 1, 1, 0);
}

int moonloop_run(lua_State *L) {
  Runtime *rt = moonloop_runtime_of(L);
  if (!rt || rt->closed)
    return push_failure(L, "moonloop_run: the runtime is not open");
  if (rt->running || rt->in_lua > 0)
    return push_failure(L, "moonloop_run: the loop is running already");
  if (rt->task_count == 0)
    return LUA_OK;
  rt->until_no_task = true;
  runtime_hold(rt); // what wakes them may come from another thread
  runtime_run(rt, L);
  if (rt->loop)
    runtime_release(rt);
  rt->until_no_task = false;
  return LUA_OK;
}

int moonloop_step(lua_State *L) {
  Runtime *rt = moonloop_runtime_of(L);
  if (!rt || rt->closed)
    return 0;
  lua_State *outer = rt->L;
  rt->L = L;
  ev_run(rt->loop, EVRUN_ONCE);
  rt->L = outer;
  close_if_wanted(rt, L);
  return (int)rt->task_count;
}

// libev tells the kernel of new watchers when it next looks at them, so turns
// are taken until one brought nothing: then its descriptor watches everything.
static bool poll_until_quiet(Runtime *rt) {
  for (int turn = 0; turn < TURNS_PER_POLL; turn++) {
    uint64_t before = rt->activity + rt->events;
    ev_run(rt->loop, EVRUN_NOWAIT);
    if (rt->activity + rt->events == before && !rt->still.first)
      return !rt->ready.head;
  }
  return false;
}

int moonloop_poll(lua_State *L, double *next_timeout) {
  Runtime *rt = moonloop_runtime_of(L);
  double timeout = -1;
  int left = 0;
  if (rt && !rt->closed) {
    lua_State *outer = rt->L;
    rt->L = L;
    bool quiet = poll_until_quiet(rt);
    rt->L = outer;
    left = (int)rt->task_count;
    timeout = quiet ? timer_next_timeout(rt) : 0;
    close_if_wanted(rt, L);
  }
  if (next_timeout)
    *next_timeout = timeout;
  return left;
}
