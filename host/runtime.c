// SPDX-License-Identifier: MIT
//
// The runtime of one Lua universe: opening and closing, and the watchers by
// which it lives inside a libev loop, its own or somebody else's.
#include "runtime.h"

#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "context.h"
#include "coroutine.h"
#include "error.h"
#include "future.h"
#include "handle.h"
#include "loop.h"
#include "method.h"
#include "report.h"
#include "resource.h"
#include "ring.h"
#include "scope.h"
#include "sleep.h"
#include "task.h"
#include "traceback.h"
#include "waiters.h"
#include "watch.h"

enum { CLOSE_TIMEOUT = 1 };

struct Post {
  Post *next;
  void (*fn)(lua_State *L, void *ud);
  void *ud;
};

static const char RUNTIME_KEY; // its address is the registry key

moonloop_runtime *moonloop_runtime_of(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &RUNTIME_KEY);
  Runtime *rt = lua_touserdata(L, -1);
  lua_pop(L, 1);
  return rt;
}

Runtime *runtime_check(lua_State *L) {
  Runtime *rt = moonloop_runtime_of(L);
  if (!rt)
    luaL_error(L, "moonloop_open was not called for this Lua state");
  return rt;
}

void runtime_check_open(Runtime *rt, lua_State *L) {
  if (rt->closed || rt->loop_closed)
    error_raise(L, "InvalidStateError", "the loop is closed");
}

struct ev_loop *moonloop_loop(moonloop_runtime *rt) {
  return rt->loop;
}

const char *moonloop_version(void) { return "0.1.0"; }

void *runtime_realloc(Runtime *rt, void *p, size_t old_size, size_t new_size) {
  void *ud;
  lua_Alloc alloc = lua_getallocf(rt->main_L, &ud);
  return alloc(ud, p, p ? old_size : 0, new_size);
}

void runtime_set_functions(Runtime *rt, lua_State *L, const luaL_Reg *list) {
  lua_pushlightuserdata(L, rt);
  luaL_setfuncs(L, list, 1);
}

void runtime_new_class(Runtime *rt, lua_State *L, const char *name,
                       const luaL_Reg *methods, const luaL_Reg *meta) {
  luaL_newmetatable(L, name);
  lua_newtable(L);
  runtime_set_functions(rt, L, methods);
  lua_setfield(L, -2, "__index");
  if (meta)
    runtime_set_functions(rt, L, meta);
}

int anchor_take(Runtime *rt, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->anchors_ref);
  lua_insert(L, -2);
  int ref = luaL_ref(L, -2);
  lua_pop(L, 1);
  return ref;
}

void anchor_push(Runtime *rt, lua_State *L, int ref) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->anchors_ref);
  lua_rawgeti(L, -1, ref);
  lua_remove(L, -2);
}

void anchor_drop(Runtime *rt, lua_State *L, int ref) {
  if (ref < 0 || rt->collecting)
    return;
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->anchors_ref);
  luaL_unref(L, -1, ref);
  lua_pop(L, 1);
}

// ---- protected calls -------------------------------------------------------

void runtime_call(Runtime *rt, int nargs, const char *message) {
  lua_State *S = rt->scratch;
  int nres;
  Running outer = runtime_enter(rt, NULL, S);
  int status = coroutine_enter(rt, S, rt->L, nargs, &nres);
  runtime_leave(rt, outer);
  if (status == LUA_YIELD) {
    lua_resetthread(S);
    lua_pushliteral(S, "attempt to yield in a callback of the loop");
    status = LUA_ERRRUN;
  }
  if (status != LUA_OK) {
    report_failure(rt, S, message);
    lua_resetthread(S);
  }
  lua_settop(S, 0);
}

bool runtime_try(Runtime *rt, int nargs, int nres) {
  lua_State *S = rt->scratch;
  Running outer = runtime_enter(rt, NULL, S);
  if (rt->hook_wanted)
    lua_sethook(S, rt->hook, LUA_MASKCOUNT, 1000);
  int status = lua_pcall(S, nargs, nres, 1);
  runtime_leave(rt, outer);
  return status == LUA_OK;
}

static int run_post(lua_State *L) { // post
  Post *post = lua_touserdata(L, 1);
  lua_settop(L, 0);
  post->fn(L, post->ud);
  return 0;
}

static Post *take_posts(Runtime *rt) {
  pthread_mutex_lock(&rt->post_lock);
  Post *list = rt->posts;
  rt->posts = rt->posts_tail = NULL;
  pthread_mutex_unlock(&rt->post_lock);
  return list;
}

static void free_posts(Post *list) {
  while (list) {
    Post *next = list->next;
    free(list);
    list = next;
  }
}

// ---- watchers --------------------------------------------------------------

static void on_prepare(struct ev_loop *loop, ev_prepare *w, int revents) {
  Runtime *rt = w->data;
  bool must_look = false;
  (void)revents;
  if (rt->in_lua == 0) {
    rt->iterations++;
    ready_drain(rt);
    must_look = loop_look_idle(rt);
    timer_arm(rt);
  }
  if (rt->stopping && rt->running) // also when loop:stop() came before the run
    ev_break(loop, EVBREAK_ONE);
  else
    rt->stopping = false; // a turn that nobody's run asked for
  bool wanted = (rt->ready.head || must_look) && !rt->stopping;
  if (wanted == (bool)ev_is_active(&rt->idle))
    return;
  if (wanted)
    ev_idle_start(loop, &rt->idle);
  else
    ev_idle_stop(loop, &rt->idle);
}

static void on_idle(struct ev_loop *loop, ev_idle *w, int revents) {
  (void)loop, (void)w, (void)revents; // being active is all it is for
}

static void on_async(struct ev_loop *loop, ev_async *w, int revents) {
  Runtime *rt = w->data;
  (void)loop, (void)revents;
  rt->events++;
  for (Post *post = take_posts(rt); post;) {
    Post *next = post->next;
    lua_pushcfunction(rt->scratch, run_post);
    lua_pushlightuserdata(rt->scratch, post);
    runtime_call(rt, 1, "error in a function posted to the loop");
    free(post);
    post = next;
  }
}

static void start_watchers(Runtime *rt) {
  ev_prepare_init(&rt->prepare, on_prepare);
  rt->prepare.data = rt;
  ev_prepare_start(rt->loop, &rt->prepare);
  ev_unref(rt->loop);
  ev_idle_init(&rt->idle, on_idle);
  ev_async_init(&rt->async, on_async);
  rt->async.data = rt;
  ev_async_start(rt->loop, &rt->async);
  ev_unref(rt->loop);
}

static void stop_watchers(Runtime *rt) {
  pthread_mutex_lock(&rt->post_lock);
  rt->takes_posts = false;
  pthread_mutex_unlock(&rt->post_lock);
  timer_close(rt);
  ready_clear(rt);
  ev_ref(rt->loop);
  ev_prepare_stop(rt->loop, &rt->prepare);
  ev_ref(rt->loop);
  ev_async_stop(rt->loop, &rt->async);
  ev_idle_stop(rt->loop, &rt->idle);
  while (rt->holds > 0) // of waits that nobody will end
    runtime_release(rt);
  if (rt->owns_loop)
    ev_loop_destroy(rt->loop);
  rt->loop = NULL;
}

// ---- opening and closing ---------------------------------------------------

static void attach_loop(Runtime *rt, lua_State *L, struct ev_loop *loop) {
  rt->owns_loop = loop == NULL;
  rt->loop = loop ? loop : ev_loop_new(EVFLAG_AUTO);
  if (!rt->loop)
    luaL_error(L, "libev could not make a loop (out of descriptors?)");
  rt->closed = rt->loop_closed = false;
  rt->backend_fd = -2;
  timer_open(rt);
  start_watchers(rt);
  rt->takes_posts = true;
}

// What C memory is left when everything else is closed.
static void free_memory(Runtime *rt) {
  runtime_free(rt, rt->pool, (size_t)rt->pool_max * sizeof *rt->pool);
  runtime_free(rt, rt->free_slots,
               (size_t)rt->free_slot_capacity * sizeof(int));
  runtime_free(rt, rt->receive_buffer, RECEIVE_BUFFER_SIZE);
  rt->pool = NULL;
  rt->free_slots = NULL;
  rt->receive_buffer = NULL;
}

// The Lua state goes, with tasks that will never end: what they have in C.
static void drop_waits(Runtime *rt) {
  for (Task *t = rt->tasks; t; t = t->next) {
    t->wait.abort = NULL; // whose it was is gone already
    wait_drop(t);
  }
}

static int runtime_gc(lua_State *L) {
  Runtime *rt = lua_touserdata(L, 1);
  drop_waits(rt);
  rt->collecting = rt->closed = true;
  if (rt->loop)
    stop_watchers(rt);
  free_posts(take_posts(rt));
  pthread_mutex_destroy(&rt->post_lock);
  free_memory(rt);
  return 0;
}

static lua_State *new_thread(lua_State *L) {
  lua_State *co = lua_newthread(L);
  luaL_ref(L, LUA_REGISTRYINDEX);
  return co;
}

static void init_fields(Runtime *rt, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
  rt->main_L = rt->L = lua_tothread(L, -1);
  lua_pop(L, 1);
  rt->pool_max = 2048;
  rt->untaken_delay = 5;
  rt->handler_ref = rt->context_ref = rt->unclosed_ref = LUA_NOREF;
  rt->group_traceback_ref = LUA_NOREF;
  lua_newtable(L);
  rt->slots_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  lua_newtable(L);
  rt->anchors_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  rt->scratch = new_thread(L);
  rt->reporter = new_thread(L);
}

static void allocate_buffers(Runtime *rt, lua_State *L) {
  rt->pool =
      runtime_realloc(rt, NULL, 0, (size_t)rt->pool_max * sizeof *rt->pool);
  rt->receive_buffer = runtime_realloc(rt, NULL, 0, RECEIVE_BUFFER_SIZE);
  if (!rt->pool || !rt->receive_buffer)
    luaL_error(L, "not enough memory");
}

static Runtime *new_runtime(lua_State *L) {
  Runtime *rt = lua_newuserdatauv(L, sizeof *rt, 0);
  memset(rt, 0, sizeof *rt);
  rt->closed = true;
  pthread_mutex_init(&rt->post_lock, NULL);
  init_fields(rt, L);
  lua_createtable(L, 0, 1);
  lua_pushcfunction(L, runtime_gc);
  lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  allocate_buffers(rt, L);
  return rt;
}

static void preload(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushcfunction(L, luaopen_moonloop);
  lua_setfield(L, -2, "moonloop");
  lua_pop(L, 1);
}

// The table of everything that host/ offers to Lua: `require "moonloop.core"`.
static void open_core(Runtime *rt, lua_State *L) {
  static void (*const openers[])(Runtime *, lua_State *) = {
      error_open, report_open,    future_open,   task_open,
      scope_open, handle_open,    watch_open,    context_open,
      loop_open,  coroutine_open, resource_open, traceback_open,
      sleep_open, waiters_open,   method_open,   ring_open,
  };
  lua_newtable(L);
  for (size_t i = 0; i < sizeof openers / sizeof *openers; i++)
    openers[i](rt, L);
  lua_setfield(L, LUA_REGISTRYINDEX, RUNTIME_CORE);
}

moonloop_runtime *moonloop_open(lua_State *L, struct ev_loop *loop) {
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  Runtime *rt = moonloop_runtime_of(L);
  if (rt && !rt->closed)
    return rt;
  if (rt) {
    attach_loop(rt, L, loop);
    return rt;
  }
  rt = new_runtime(L);
  attach_loop(rt, L, loop);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &RUNTIME_KEY);
  open_core(rt, L);
  preload(L);
  return rt;
}

static int shut_down(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonloop.run");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "shut_down");
  lua_pushnumber(L, CLOSE_TIMEOUT);
  lua_call(L, 1, 0);
  return 0;
}

// A task whose wait cannot be stopped stays as it is; its wake comes to
// nothing.
static void close_tasks(Runtime *rt) {
  for (Task *t = rt->tasks, *next; t; t = next) {
    next = t->next;
    task_close(rt, t);
  }
}

void moonloop_close(lua_State *L) {
  Runtime *rt = moonloop_runtime_of(L);
  if (!rt || rt->closed)
    return;
  if (rt->in_lua > 0 || ev_depth(rt->loop) > 0) {
    rt->close_wanted = true;
    ev_break(rt->loop, EVBREAK_ONE); // also out of a moonloop_step
    return;
  }
  if (rt->task_count > 0 || rt->resources) {
    lua_pushcfunction(L, shut_down);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK)
      lua_pop(L, 1);
  }
  close_tasks(rt);
  resource_abort_all(rt);
  rt->closed = true;
  stop_watchers(rt);
}

// ---- other threads ---------------------------------------------------------

// With the lock held, so that the loop is there.
static void append_post(Runtime *rt, Post *post) {
  if (rt->posts_tail)
    rt->posts_tail->next = post;
  else
    rt->posts = post;
  rt->posts_tail = post;
  ev_async_send(rt->loop, &rt->async);
}

int moonloop_post(moonloop_runtime *rt, void (*fn)(lua_State *L, void *ud),
                  void *ud) {
  // malloc and not the state's allocator, which is not for other threads.
  Post *post = malloc(sizeof *post);
  if (!post)
    return -1;
  *post = (Post){NULL, fn, ud};
  pthread_mutex_lock(&rt->post_lock);
  bool open = rt->takes_posts;
  if (open)
    append_post(rt, post);
  pthread_mutex_unlock(&rt->post_lock);
  if (!open)
    free(post);
  return open ? 0 : -1;
}
