// SPDX-License-Identifier: MIT
//
// What Lua sees of tasks: their methods beside the Future's, and the functions
// that find or await them.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "context.h"
#include "error.h"
#include "report.h"
#include "task.h"
#include "traceback.h"

static const char CLASS[] = "moonloop.Task";

Task *task_check(lua_State *L, int arg) {
  Future *f = future_test(runtime_upvalue(L), L, arg);
  if (!f || !f->is_task)
    luaL_typeerror(L, arg, "Task");
  return (Task *)f;
}

static const char *stored_name(lua_State *L, int self) { // -> name
  task_push_extras(L, self, false);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "name");
    lua_remove(L, -2);
  }
  return lua_tostring(L, -1);
}

void task_name(Runtime *rt, const Task *t, char *text, size_t size) {
  lua_State *R = rt->reporter; // has room: it never runs while this is asked
  const char *name = NULL;
  if (t->co) {
    task_push(rt, R, t);
    name = stored_name(R, -1);
  }
  if (name)
    snprintf(text, size, "%s", name);
  else
    snprintf(text, size, "Task-%llu", (unsigned long long)t->id);
  if (t->co)
    lua_pop(R, 2);
}

static void push_name(lua_State *L, int self) { // -> name
  Task *t = lua_touserdata(L, self);
  self = lua_absindex(L, self);
  if (stored_name(L, self))
    return;
  lua_pop(L, 1);
  lua_pushfstring(L, "Task-%I", (LUAI_UACINT)t->id);
}

void task_push_site(lua_State *L, int self) {
  Task *t = lua_touserdata(L, self);
  lua_getiuservalue(L, self, TASK_CREATOR);
  traceback_push_site(L, t->line);
}

// ---- methods ---------------------------------------------------------------

/// Requests cancellation: the await under way in the task, and every later one,
/// raises CancelledError. Does not wait for it.
// @function Task:cancel
// @param[opt] msg string, message of the CancelledError
// @return true while the task runs, false when it has ended
// @see asyncio.Task.cancel
int task_l_cancel(lua_State *L) {
  Task *t = task_check(L, 1);
  lua_settop(L, 2);
  bool running = !future_is_done(&t->future);
  if (running) {
    t->cancelling++;
    scope_cancel(t->future.rt, L, &t->root, 2);
  }
  lua_pushboolean(L, running);
  return 1;
}

/// Counts the cancellations that were requested and not taken back.
// @function Task:cancelling
// @return integer
// @see asyncio.Task.cancelling
static int l_cancelling(lua_State *L) {
  lua_pushinteger(L, task_check(L, 1)->cancelling);
  return 1;
}

/// Takes one request back; at 0 the task is free to wait again.
// @function Task:uncancel
// @return integer, how many are left
// @see asyncio.Task.uncancel
static int l_uncancel(lua_State *L) {
  Task *t = task_check(L, 1);
  bool running = !future_is_done(&t->future);
  if (running && t->cancelling > 0 && --t->cancelling == 0)
    scope_clear(t->future.rt, L, &t->root);
  lua_pushinteger(L, t->cancelling);
  return 1;
}

/// Gives the task's name, "Task-" and a number where it was given none.
// @function Task:get_name
// @return string
// @see asyncio.Task.get_name
static int l_get_name(lua_State *L) {
  task_check(L, 1);
  push_name(L, 1);
  return 1;
}

/// Names the task.
// @function Task:set_name
// @param name string
// @see asyncio.Task.set_name
static int l_set_name(lua_State *L) {
  task_check(L, 1);
  luaL_checkstring(L, 2);
  lua_settop(L, 2);
  lua_tostring(L, 2);
  task_push_extras(L, 1, true);
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, "name");
  return 0;
}

// The task's context as it is kept (nil, a table of values, or a Context).
static int l_context_of(lua_State *L) {
  task_check(L, 1);
  lua_getiuservalue(L, 1, TASK_CONTEXT);
  return 1;
}

/// Gives the Lua traceback of the task now, also while it is suspended.
// @function Task:get_stack
// @return string
// @see asyncio.Task.get_stack
static int l_get_stack(lua_State *L) {
  Task *t = task_check(L, 1);
  Runtime *rt = t->future.rt;
  if (t == rt->current)
    traceback_push(rt, L, 1);
  else
    traceback_push_task(rt, L, t);
  return 1;
}

/// Writes the task's traceback to stderr.
// @function Task:print_stack
// @see asyncio.Task.print_stack
static int l_print_stack(lua_State *L) {
  l_get_stack(L);
  push_name(L, 1);
  fprintf(stderr, "task '%s': %s\n", lua_tostring(L, -1), lua_tostring(L, -2));
  return 0;
}

/// Says what the task waits for: "sleep 0.8s", "read tcp 127.0.0.1:80".
// @function Task:awaiting
// @return string: "running" and "ended" where it waits for nothing
// @see asyncio.capture_call_graph
static int l_awaiting(lua_State *L) {
  Task *t = task_check(L, 1);
  char text[128];
  wait_describe(t->future.rt, t, text, sizeof text);
  lua_pushstring(L, text);
  return 1;
}

static int l_tostring(lua_State *L) {
  static const char *const words[] = {"running", "done", "failed", "cancelled"};
  Task *t = task_check(L, 1);
  push_name(L, 1);
  lua_pushfstring(L, "Task: '%s' (%s)", lua_tostring(L, -1),
                  words[t->future.state]);
  return 1;
}

// ---- functions -------------------------------------------------------------

/// Gives the task that runs now.
// @function current_task
// @return Task, nil outside any
// @see asyncio.current_task
static int l_current_task(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (!rt->current)
    return 0;
  task_push(rt, L, rt->current);
  return 1;
}

/// Lists the unfinished tasks.
// @function all_tasks
// @return list of Tasks, oldest first
// @see asyncio.all_tasks
static int l_all_tasks(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_createtable(L, (int)rt->task_count, 0);
  int i = 0;
  for (Task *t = rt->tasks; t; t = t->next) {
    task_push(rt, L, t);
    lua_rawseti(L, -2, ++i);
  }
  return 1;
}

// The awaitable at index 1 becomes a Future: a function is made a task.
static void check_awaitable(Runtime *rt, lua_State *L) {
  if (future_test(rt, L, 1))
    return;
  if (!lua_isfunction(L, 1))
    luaL_typeerror(L, 1, "Future, Task or function");
  runtime_check_open(rt, L);
  lua_pushvalue(L, 1);
  task_new(rt, L, 0);
  lua_replace(L, 1);
}

/// Gives back a Future as it is, and makes a task of a function.
// @function ensure_future
// @param aw Future, Task or function
// @return Future or Task
// @raise bad argument for anything else; InvalidStateError for a function when
// the loop is closed
// @see asyncio.ensure_future
static int l_ensure_future(lua_State *L) {
  check_awaitable(runtime_upvalue(L), L);
  lua_settop(L, 1);
  return 1;
}

// Makes `create_task` of the function that takes a call with options.
static int l_make_create_task(lua_State *L) { // door
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_pushvalue(L, 1);
  lua_pushcclosure(L, task_l_create, 2);
  return 1;
}

// A function given to `await` is a task that belongs to this call: cancelling
// the call cancels that task and waits for it. Policy, so it is in Lua.
static int l_await(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (!future_test(rt, L, 1))
    luaL_typeerror(L, 1, "Future, Task or function");
  return future_await(rt, L);
}

// Raises what an await would raise here and now.
static int l_check(lua_State *L) {
  wait_check(runtime_upvalue(L), L);
  return 0;
}

// Raises `err` inside a task that waits. Returns whether it could.
static int l_throw(lua_State *L) { // task err
  Task *t = task_check(L, 1);
  lua_settop(L, 2);
  if (!t->co || t->wait.state != WAIT_PARKED) {
    lua_pushboolean(L, false);
    return 1;
  }
  task_push_extras(L, 1, true);
  lua_pushvalue(L, 2);
  lua_setfield(L, -2, "thrown");
  lua_pushboolean(L, wait_interrupt(t->future.rt, t, WAIT_THROW));
  return 1;
}

// Closes a task from outside; its <close> variables cannot await.
static int l_close(lua_State *L) {
  Task *t = task_check(L, 1);
  if (t->co)
    task_close(t->future.rt, t);
  lua_pushboolean(L, t->co == NULL);
  return 1;
}

// The number of the run that a task belongs to.
static int l_run_of(lua_State *L) {
  lua_pushinteger(L, task_check(L, 1)->run_id);
  return 1;
}

static int l_set_run(lua_State *L) {
  task_check(L, 1)->run_id = (int)luaL_checkinteger(L, 2);
  return 0;
}

static int l_set_internal(lua_State *L) {
  task_check(L, 1)->internal = true;
  lua_settop(L, 1);
  return 1;
}

static int l_is_internal(lua_State *L) {
  lua_pushboolean(L, task_check(L, 1)->internal);
  return 1;
}

// Whether a coroutine that the task drives runs, and not its own.
static int l_in_generator(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_pushboolean(L, rt->current && rt->current->co != L);
  return 1;
}

// Whether a CancelledError was raised in a task that was cancelled, and has not
// been taken back: what it failed with came after that.
static int l_has_met_cancellation(lua_State *L) { // future
  Future *f = future_check(runtime_upvalue(L), L, 1);
  lua_pushboolean(L, f->is_task && ((Task *)f)->root.delivered > 0);
  return 1;
}

static int l_id_of(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)task_check(L, 1)->id);
  return 1;
}

static int l_site_of(lua_State *L) {
  task_check(L, 1);
  task_push_site(L, 1);
  return 1;
}

void task_push_traceback(Runtime *rt, lua_State *L, int self) {
  (void)rt;
  task_push_extras(L, self, false);
  if (!lua_istable(L, -1))
    return;
  lua_getfield(L, -1, "traceback");
  lua_remove(L, -2);
}

// The traceback of the error that ended a task; nil of a plain Future.
static int l_traceback_of(lua_State *L) {
  Future *f = future_check(runtime_upvalue(L), L, 1);
  if (!f->is_task)
    return 0;
  task_push_traceback(f->rt, L, 1);
  if (!lua_isnil(L, -1))
    return 1;
  lua_getiuservalue(L, 1, FUTURE_RESULT);
  if (!error_is(L, -1, "Error"))
    return 0;
  error_push_traceback(f->rt, L, -1);
  return 1;
}

// ---- opening ---------------------------------------------------------------

static const luaL_Reg methods[] = {
    {"cancel",      task_l_cancel},
    {"cancelling",  l_cancelling },
    {"uncancel",    l_uncancel   },
    {"get_name",    l_get_name   },
    {"set_name",    l_set_name   },
    {"get_stack",   l_get_stack  },
    {"print_stack", l_print_stack},
    {"awaiting",    l_awaiting   },
    {NULL,          NULL         },
};

static const luaL_Reg meta[] = {
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

static const luaL_Reg functions[] = {
    {"task_new",             task_l_new            },
    {"make_create_task",     l_make_create_task    },
    {"current_task",         l_current_task        },
    {"all_tasks",            l_all_tasks           },
    {"ensure_future",        l_ensure_future       },
    {"await_future",         l_await               },
    {"throw",                l_throw               },
    {"check",                l_check               },
    {"close_task",           l_close               },
    {"run_of",               l_run_of              },
    {"set_run",              l_set_run             },
    {"set_internal",         l_set_internal        },
    {"is_internal",          l_is_internal         },
    {"in_generator",         l_in_generator        },
    {"has_met_cancellation", l_has_met_cancellation},
    {"id_of",                l_id_of               },
    {"site_of",              l_site_of             },
    {"context_of",           l_context_of          },
    {"traceback_of",         l_traceback_of        },
    {NULL,                   NULL                  },
};

// The Future's methods that a Task does not replace are copied into its own.
static void inherit_methods(Runtime *rt, lua_State *L) { // mt
  lua_getfield(L, -1, "__index");
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->future_mt);
  lua_getfield(L, -1, "__index");
  lua_remove(L, -2); // mt own future's
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    lua_pushvalue(L, -2); // mt own future's key value key
    if (lua_rawget(L, -5) == LUA_TNIL) {
      lua_pop(L, 1);
      lua_pushvalue(L, -2);
      lua_insert(L, -2);
      lua_rawset(L, -5);
    } else {
      lua_pop(L, 2);
    }
  }
  lua_pop(L, 2);
}

void task_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  inherit_methods(rt, L);
  lua_getfield(L, -1, "__index"); // for methods that are in Lua
  lua_setfield(L, -3, "task_methods");
  rt->task_mt = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
}
