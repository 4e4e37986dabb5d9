// SPDX-License-Identifier: MIT
//
// The Task: a Future whose value a coroutine makes. One userdata holds all of
// it, so that spawning allocates once and sleeping, waiting and yielding not at
// all.
#ifndef MOONLOOP_TASK_H
#define MOONLOOP_TASK_H

#include <stddef.h>

#include "future.h"
#include "runtime.h"
#include "scope.h"
#include "wait.h"

struct Task {
  Future future;
  moonloop_wait wait;
  Ready ready;
  Timer timer;        // for sleeping
  lua_State *co;      // NULL when it has ended
  lua_State *waiting; // coroutine whose C function waits: the innermost
  Task *next_waiter;  // in the waiters of what it waits for
  Task *prev_waiter;
  Scope *scope; // innermost in force
  Scope root;
  Task *next; // among the runtime's unfinished tasks
  Task *prev;
  uint64_t id;
  int slot;
  int line;   // where it was created, in the function of TASK_CREATOR
  int run_id; // the run it belongs to
  uint32_t cancelling;
  uint8_t eager_depth;
  bool started;
  bool doomed;   // to be closed from the loop
  bool internal; // the library's own: no leak
  bool stray;    // stands in a coroutine.yield that reaches nobody
};

enum { // user values, after the Future's
  TASK_CONTEXT = FUTURE_VALUES + 1,
  TASK_CREATOR, // function that created it
  TASK_EXTRAS,  // nil or a table: name, traceback, thrown, untaken, site
  TASK_VALUES = TASK_EXTRAS
};

static inline Task *task_of_wait(moonloop_wait *w) {
  return (Task *)((char *)w - offsetof(Task, wait));
}

static inline Task *task_of_ready(Ready *r) {
  return (Task *)((char *)r - offsetof(Task, ready));
}

// The Task at `arg` of a host function; raises when it is none.
Task *task_check(lua_State *L, int arg);

// Makes a task of the function and nargs arguments on top and queues it.
// Pops them, pushes the Task.
Task *task_new(Runtime *rt, lua_State *L, int nargs);

// Pushes the Task's userdata; only while it has not ended.
void task_push(Runtime *rt, lua_State *L, const Task *t);

// Pushes its extras (nil when there are none; made with `create`).
void task_push_extras(lua_State *L, int self, bool create);

// Pushes the traceback of its error where that is no Error object, or nil.
void task_push_traceback(Runtime *rt, lua_State *L, int self);

// Enters the task: runs it until it waits or ends.
void task_resume(Runtime *rt, Task *t);

// Ends a task from outside: its <close> variables run but cannot await.
void task_close(Runtime *rt, Task *t);

// Writes its name.
void task_name(Runtime *rt, const Task *t, char *text, size_t size);

// Pushes "script.lua:3", where it was created, or nil. -> site
void task_push_site(lua_State *L, int self);

// Whether a C function is the main function of tasks' coroutines.
bool task_is_main_function(lua_CFunction f);

// `create_task`, and what it is when options are given: called from Lua.
int task_l_create(lua_State *L);
int task_l_new(lua_State *L);

// `Task:cancel`.
int task_l_cancel(lua_State *L);

void task_open(Runtime *rt, lua_State *L);

#endif
