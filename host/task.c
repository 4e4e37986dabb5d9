// SPDX-License-Identifier: MIT
//
// Tasks: creating them, entering them (in task_resume alone), what happens when
// they end. The body runs below lua_pcallk inside its coroutine, so `<close>`
// variables may await while an error unwinds. A task is held strongly by the
// slot of its coroutine until it ends.
#include "task.h"

#include <stdio.h>
#include <string.h>

#include "context.h"
#include "coroutine.h"
#include "error.h"
#include "handle.h"
#include "report.h"
#include "traceback.h"

enum { EAGER_DEPTH_AT_MOST = 50 };

// ---- slots -----------------------------------------------------------------

static void set_slot(Runtime *rt, lua_State *L, const Task *t) { // task
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->slots_ref);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, 2 * t->slot + 1);
  lua_pop(L, 1);
}

static void clear_slot(Runtime *rt, lua_State *L, int slot) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->slots_ref);
  lua_pushboolean(L, false); // and not nil: the place stays in the array
  lua_rawseti(L, -2, 2 * slot + 1);
  lua_pop(L, 1);
}

void task_push(Runtime *rt, lua_State *L, const Task *t) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->slots_ref);
  lua_rawgeti(L, -1, 2 * t->slot + 1);
  lua_remove(L, -2);
}

void task_push_extras(lua_State *L, int self, bool create) {
  self = lua_absindex(L, self);
  if (lua_getiuservalue(L, self, TASK_EXTRAS) != LUA_TNIL || !create)
    return;
  lua_pop(L, 1);
  lua_newtable(L);
  lua_pushvalue(L, -1);
  lua_setiuservalue(L, self, TASK_EXTRAS);
}

// ---- the list of unfinished tasks ------------------------------------------

static void link_task(Runtime *rt, Task *t) {
  t->prev = rt->tasks_tail;
  if (rt->tasks_tail)
    rt->tasks_tail->next = t;
  else
    rt->tasks = t;
  rt->tasks_tail = t;
  rt->task_count++;
}

static void unlink_task(Runtime *rt, Task *t) {
  if (t->prev)
    t->prev->next = t->next;
  else
    rt->tasks = t->next;
  if (t->next)
    t->next->prev = t->prev;
  else
    rt->tasks_tail = t->prev;
  rt->task_count--;
}

// ---- running ---------------------------------------------------------------

static FutureState outcome_of(lua_State *L, int status) {
  if (status <= LUA_YIELD)
    return FUTURE_DONE;
  return error_is(L, -1, "CancelledError") ? FUTURE_CANCELLED : FUTURE_FAILED;
}

static void complete(Runtime *rt, lua_State *L, int self, FutureState state,
                     int n) {
  future_complete(L, self, state, n);
  if (state == FUTURE_FAILED)
    report_watch(rt, L, self);
}

static int finish_body(lua_State *L, int status, lua_KContext ctx) {
  Task *t = (Task *)ctx; // task as light userdata, handler, results
  FutureState state = outcome_of(L, status);
  int n = state == FUTURE_DONE ? lua_gettop(L) - 2 : 1;
  task_push(t->future.rt, L, t);
  lua_replace(L, 1);
  complete(t->future.rt, L, 1, state, n);
  return 0;
}

static int task_main(lua_State *L) { // task, handler, function, arguments
  Task *t = lua_touserdata(L, 1);
  int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 2, (lua_KContext)t,
                          finish_body);
  return finish_body(L, status, (lua_KContext)t);
}

bool task_is_main_function(lua_CFunction f) { return f == task_main; }

static void stop_run(Runtime *rt, const Task *t) {
  if (rt->until != t && !(rt->until_no_task && rt->task_count == 0))
    return;
  if (rt->until == t)
    rt->until = NULL;
  ev_break(rt->loop, EVBREAK_ONE);
}

static void end(Runtime *rt, Task *t, bool reusable) {
  lua_State *co = t->co;
  int slot = t->slot;
  wait_drop(t);
  if (t->scope != &t->root)
    scope_end_coroutine(rt, co);
  unlink_task(rt, t);
  t->co = t->waiting = NULL;
  t->scope = NULL;
  scope_drop_message(rt, rt->scratch, &t->root);
  stop_run(rt, t);
  clear_slot(rt, rt->scratch, slot); // t may be gone from here on
  coroutine_release(rt, co, slot, reusable);
}

static int end_with_error(lua_State *L) { // error task
  Task *t = lua_touserdata(L, 2);
  task_push(t->future.rt, L, t);
  lua_insert(L, 1);
  lua_settop(L, 2);
  complete(t->future.rt, L, 1, outcome_of(L, LUA_ERRRUN), 1);
  return 0;
}

// Ends a task whose coroutine did not: the error is on top of it.
static void end_broken(Runtime *rt, Task *t) {
  lua_State *R = rt->reporter;
  if (!future_is_done(&t->future)) {
    lua_pushcfunction(R, end_with_error);
    lua_xmove(t->co, R, 1);
    lua_pushlightuserdata(R, t);
    if (lua_pcall(R, 2, 0, 0) != LUA_OK) {
      lua_pop(R, 1);
      t->future.state = FUTURE_FAILED; // no memory to say more
    }
  }
  end(rt, t, false);
}

static void raise_stray_yield(lua_State *L, lua_Debug *ar) {
  lua_sethook(L, NULL, 0, 0);
  lua_getinfo(L, "Sl", ar);
  error_raise(L, "Error",
              "%s:%d: coroutine.yield in the body of a task, which nobody "
              "resumes; to let others run use moonloop.sleep(0)",
              ar->short_src, ar->currentline);
}

// A yield came that is no await: the task is run on into an error there.
static void refuse_yield(Runtime *rt, Task *t) {
  t->stray = true;
  lua_settop(t->co, 0);
  lua_sethook(t->co, raise_stray_yield, LUA_MASKCOUNT, 1);
  ready_push(rt, &t->ready);
}

static void run_on(Runtime *rt, Task *t, lua_State *from, int nargs) {
  int nres;
  Running outer = runtime_enter(rt, t, t->co);
  rt->budget = AWAIT_BUDGET;
  rt->resumes++;
  int status = coroutine_enter(rt, t->co, from, nargs, &nres);
  runtime_leave(rt, outer);
  rt->delivering = NULL;
  if (status == LUA_YIELD) {
    if (rt->parked != t->co)
      refuse_yield(rt, t);
  } else if (status == LUA_OK) {
    end(rt, t, true);
  } else {
    end_broken(rt, t);
  }
}

// Stock Lua's coroutine.close or resume got hold of the task's coroutine.
static void end_closed(Runtime *rt, Task *t) {
  lua_settop(t->co, 0);
  lua_pushliteral(t->co, "the task's coroutine was closed from outside");
  end_broken(rt, t);
}

void task_resume(Runtime *rt, Task *t) {
  t->wait.flags &= (uint8_t)~WAIT_QUEUED;
  if (t->stray) { // somebody called coroutine.yield
    t->stray = false;
    run_on(rt, t, rt->L, 0);
    return;
  }
  if (!wait_is_parked(t->co)) {
    end_closed(rt, t);
    return;
  }
  wait_unpark(t->co);
  rt->delivering = t;
  run_on(rt, t, rt->L, 0);
}

static void start(Runtime *rt, Task *t, lua_State *from) {
  t->started = true;
  if (lua_tocfunction(t->co, 1) != task_main) {
    end_closed(rt, t);
    return;
  }
  run_on(rt, t, from, lua_gettop(t->co) - 1);
}

// Cancelled before its first turn: its function never runs.
static int end_unstarted(lua_State *L) { // task
  Task *t = lua_touserdata(L, 1);
  task_push(t->future.rt, L, t);
  lua_replace(L, 1);
  scope_push_error(t->future.rt, L, &t->root);
  complete(t->future.rt, L, 1, FUTURE_CANCELLED, 1);
  return 0;
}

static void skip(Runtime *rt, Task *t) {
  lua_State *R = rt->reporter;
  lua_pushcfunction(R, end_unstarted);
  lua_pushlightuserdata(R, t);
  if (lua_pcall(R, 1, 0, 0) != LUA_OK) {
    lua_pop(R, 1);
    t->future.state = FUTURE_CANCELLED;
  }
  lua_settop(t->co, 0);
  end(rt, t, true);
}

// ---- closing ---------------------------------------------------------------

static void do_nothing(Runtime *rt, Ready *r) { (void)rt, (void)r; }

static void unqueue(Runtime *rt, Task *t) {
  for (Ready **at = &rt->ready.head; *at; at = &(*at)->next) {
    if (*at != &t->ready)
      continue;
    *at = t->ready.next;
    rt->ready.count--;
    break;
  }
  rt->ready.tail = NULL;
  for (Ready *r = rt->ready.head; r; r = r->next)
    rt->ready.tail = r;
}

// The operation under way is given up. One that cannot be stopped still calls
// moonloop_wake; nobody is left to see it, so such a task is left alone.
static bool give_up_wait(Runtime *rt, Task *t) {
  moonloop_wait *w = &t->wait;
  if (w->state == WAIT_WOKEN && (w->flags & WAIT_TELLS))
    w->abort(w, w->abort_ud);
  if (w->state != WAIT_PARKED)
    return true;
  return wait_interrupt(rt, t, WAIT_CANCEL);
}

// Runs, or has begun another task eagerly, which runs.
static bool is_active(const Task *t) {
  return t->started && lua_status(t->co) != LUA_YIELD;
}

void task_close(Runtime *rt, Task *t) {
  if (is_active(t) || !give_up_wait(rt, t))
    return;
  t->ready.run = do_nothing;
  unqueue(rt, t);
  t->doomed = true;
  timer_stop(rt, &t->timer);
  Running outer = runtime_enter(rt, t, t->co);
  int status = coroutine_close_chain(rt, t->co);
  runtime_leave(rt, outer);
  if (status == LUA_OK) {
    lua_settop(t->co, 0);
    lua_pushcfunction(rt->reporter, end_unstarted);
    lua_pushlightuserdata(rt->reporter, t);
    if (lua_pcall(rt->reporter, 1, 0, 0) != LUA_OK)
      lua_pop(rt->reporter, 1);
    t->future.state = FUTURE_CANCELLED;
    end(rt, t, false);
    return;
  }
  end_broken(rt, t);
}

static void close_swallower(Runtime *rt, Task *t) {
  report_task(rt, t,
              "swallowed 1000 cancellations in one cancelled scope and was "
              "closed");
  task_close(rt, t);
}

static void run_ready(Runtime *rt, Ready *r) {
  Task *t = task_of_ready(r);
  if (t->doomed)
    close_swallower(rt, t);
  else if (t->started)
    task_resume(rt, t);
  else if (t->root.flags & SCOPE_CANCELLED)
    skip(rt, t);
  else
    start(rt, t, rt->L);
}

// ---- creating --------------------------------------------------------------

static void inherit_context(Runtime *rt, lua_State *L) { // task
  if (!rt->has_contexts)
    return;
  context_push_inherited(rt, L);
  if (lua_isnil(L, -1))
    lua_pop(L, 1);
  else
    lua_setiuservalue(L, -2, TASK_CONTEXT);
}

static void init(Runtime *rt, Task *t, lua_State *co) {
  memset(t, 0, sizeof *t);
  t->future.rt = rt;
  t->future.magic = FUTURE_MAGIC;
  t->future.is_task = true;
  t->ready.run = run_ready;
  t->id = ++rt->task_id;
  t->run_id = handle_run_id(rt);
  scope_init(&t->root, t);
  t->scope = &t->root;
  t->root.co = co;
  t->co = co;
}

// Pops function and arguments, pushes the Task; it is not linked or queued yet.
static Task *create(Runtime *rt, lua_State *L, int nargs, bool from_library) {
  int slot;
  lua_State *co = coroutine_acquire(rt, L, &slot);
  luaL_checkstack(co, nargs + LUA_MINSTACK, "too many arguments");
  Task *t = lua_newuserdatauv(L, sizeof *t, TASK_VALUES);
  init(rt, t, co);
  t->slot = slot;
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->task_mt);
  lua_setmetatable(L, -2);
  set_slot(rt, L, t);
  t->line = traceback_push_creator(L, from_library);
  lua_setiuservalue(L, -2, TASK_CREATOR);
  inherit_context(rt, L);
  lua_pushcfunction(co, task_main);
  lua_pushlightuserdata(co, t);
  lua_pushcfunction(co, error_handler);
  lua_insert(L, -nargs - 2); // task f args
  lua_xmove(L, co, nargs + 1);
  return t;
}

Task *task_new(Runtime *rt, lua_State *L, int nargs) {
  Task *t = create(rt, L, nargs, false);
  link_task(rt, t);
  ready_push(rt, &t->ready);
  return t;
}

// Runs the new task up to its first wait, inside the one that creates it.
static void start_eagerly(Runtime *rt, lua_State *L, Task *t) {
  Task *outer = rt->current;
  int budget = rt->budget, depth = outer ? outer->eager_depth + 1 : 1;
  if (!outer || depth > EAGER_DEPTH_AT_MOST) {
    ready_push(rt, &t->ready);
    return;
  }
  t->eager_depth = (uint8_t)depth;
  start(rt, t, L);
  rt->budget = budget;
}

// Gives the new task on top, which is not linked yet, the name at 1 and the
// context at 2, where they are not nil.
static void apply_options(Runtime *rt, lua_State *L) {
  if (!lua_isnil(L, 2)) {
    rt->has_contexts = true;
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, TASK_CONTEXT);
  }
  if (!lua_isnil(L, 1)) {
    task_push_extras(L, -1, true);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "name");
    lua_pop(L, 1);
  }
}

// Makes a task of a function and its arguments, with checked options. -> task
int task_l_new(lua_State *L) { // name context eager_start f args
  Runtime *rt = runtime_upvalue(L);
  runtime_check_open(rt, L);
  Task *t = create(rt, L, lua_gettop(L) - 4, true);
  apply_options(rt, L);
  link_task(rt, t);
  if (lua_toboolean(L, 3))
    start_eagerly(rt, L, t);
  else
    ready_push(rt, &t->ready);
  return 1;
}

/// Makes a task of `fn(...)`. It first runs when its creator waits.
// @function create_task
// @param[opt] opts table: `name` (string), `context` (Context, used itself, not
// copied), `eager_start` (boolean: run at once up to the first wait, where a
// task creates it)
// @param fn function, or anything that can be called
// @param ... its arguments
// @return Task
// @raise bad argument for an option that does not exist or of another type;
// InvalidStateError when the loop is closed
// @see asyncio.create_task
int task_l_create(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (lua_type(L, 1) != LUA_TFUNCTION) {
    lua_pushvalue(L, lua_upvalueindex(2)); // the door with options, in Lua
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
  }
  runtime_check_open(rt, L);
  task_new(rt, L, lua_gettop(L) - 1);
  return 1;
}
