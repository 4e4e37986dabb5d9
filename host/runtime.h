// SPDX-License-Identifier: MIT
//
// The state of one runtime (one for each Lua universe) and the small calls by
// which the files of host/ reach it. Modules use it through moonloop.h and the
// headers named after what they need.
#ifndef MOONLOOP_RUNTIME_H
#define MOONLOOP_RUNTIME_H

#include <ev.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "moonloop.h"
#include "ready.h"
#include "timer.h"

typedef struct Task Task;
typedef struct Resource Resource;
typedef struct Untaken Untaken;

// Tasks that wait for one thing, linked through themselves, first in, first
// out.
typedef struct WaitList {
  Task *first;
  Task *last;
} WaitList;

typedef struct Post Post;

struct moonloop_runtime {
  lua_State *L;        // the state whose C function runs the loop
  lua_State *main_L;   // the universe's main thread
  lua_State *scratch;  // runs callbacks, never suspended
  lua_State *reporter; // runs reports, also of what failed in scratch
  struct ev_loop *loop;
  int holds; // references on it, taken back when the runtime closes
  bool owns_loop;
  bool closed;       // moonloop_close or __gc has been here
  bool loop_closed;  // loop:close() was called; a new run opens it again
  bool collecting;   // lua_close is under way
  bool close_wanted; // moonloop_close was called inside the loop
  bool running;      // a run_* call is under way
  bool stopping;     // loop:stop() was called
  bool debug;
  bool record_sites;      // remember where everything was made, not only tasks
  int in_lua;             // > 0 while Lua code runs below the loop
  lua_State *innermost;   // coroutine that runs now, of those the host drives
  struct Driver *drivers; // coroutines that resumed it, innermost first
  lua_State *barrier;     // one of those that cannot yield, or NULL
  Task *current;          // task that runs now
  bool undriven;          // somebody else resumed the coroutine that runs
  lua_State *closing;     // coroutine that is being closed, or NULL
  lua_State *parked;      // coroutine that an await has just parked
  Task *delivering;       // task whose wait is being ended by a resume
  Task *until;            // task whose end makes the run return
  bool until_no_task;     // the run returns when no task is left
  int budget;             // awaits that may complete at once in this step
  volatile sig_atomic_t hook_wanted; // set a hook on each coroutine entered
  lua_Hook hook;

  ReadyQueue ready;
  TimerHeap timers;
  uint64_t events;    // descriptor events seen so far
  uint64_t activity;  // wakes and queued things so far
  uint64_t idle_mark; // what that was when stillness was last looked for
  WaitList still;     // tasks that wait for stillness
  uint64_t iterations;
  uint64_t resumes;

  Task *tasks; // unfinished, oldest first
  Task *tasks_tail;
  uint32_t task_count;
  uint64_t task_id;
  int run_id; // innermost run; tasks belong to their creator's
  int pool_count;
  int pool_max;
  struct PooledCoroutine {
    lua_State *co;
    int slot;
  } * pool;
  int slot_count;  // slots ever made
  int *free_slots; // as many as slot_count at most
  int free_slot_count;
  int free_slot_capacity;

  Untaken *untaken;     // failed tasks whose error nobody took
  double untaken_delay; // seconds until such an error is reported
  Resource *resources;  // what is open, newest first
  uint64_t resource_seq;

  int slots_ref;   // registry: [2 slot] thread, [2 slot + 1] task
  int anchors_ref; // registry: luaL_ref'ed values that C holds
  int task_mt;     // registry: metatables
  int future_mt;
  int handle_mt;
  int waiters_mt;
  int handler_ref;         // exception handler or LUA_NOREF
  bool has_contexts;       // a context variable was ever set
  int context_ref;         // context outside any task or callback
  struct Handle *handle;   // callback that runs now
  int scopes_ref;          // coroutine -> its innermost CancelScope, weak keys
  int detached;            // coroutines that have yielded with scopes open
  int group_traceback_ref; // Lua function that makes an ErrorGroup's
  int unclosed_ref;        // Lua function that reports blocks never left
  int trace_ref; // the traceback of an error that passes through a pcall
  int wrap_ref;  // Lua function below which coroutine.wrap's bodies run

  ev_prepare prepare;
  ev_idle idle;
  ev_async async;
  pthread_mutex_t post_lock; // for the next three
  bool takes_posts;
  Post *posts;
  Post *posts_tail;
  int backend_fd; // -2 until looked for

  char *receive_buffer; // one for the loop; what is read lands here first
};

// A coroutine that has resumed another and waits for it; on the C stack.
typedef struct Driver {
  lua_State *L;
  struct Driver *outer;
} Driver;

enum { RECEIVE_BUFFER_SIZE = 65536, AWAIT_BUDGET = 128 };

// Registry: the table of what host/ and modules/ offer to the Lua files.
#define RUNTIME_CORE "moonloop.core"

// The runtime of L; raises where there is none.
Runtime *runtime_check(lua_State *L);

// The runtime that a host or module function carries as its first upvalue.
static inline Runtime *runtime_upvalue(lua_State *L) {
  return lua_touserdata(L, lua_upvalueindex(1));
}

// Sets functions into the table on top, each with the runtime as upvalue.
void runtime_set_functions(Runtime *rt, lua_State *L, const luaL_Reg *list);

// Pushes a new metatable with the methods; field `__index` is the table of
// methods, `__name` the name. -> metatable
void runtime_new_class(Runtime *rt, lua_State *L, const char *name,
                       const luaL_Reg *methods, const luaL_Reg *meta);

// Memory that counts against the Lua state's allocator. NULL when it is out.
void *runtime_realloc(Runtime *rt, void *p, size_t old_size, size_t new_size);
static inline void runtime_free(Runtime *rt, void *p, size_t size) {
  runtime_realloc(rt, p, size, 0);
}

// References on the libev loop: while there is one, ev_run does not return.
static inline void runtime_hold(Runtime *rt) {
  rt->holds++;
  ev_ref(rt->loop);
}

static inline void runtime_release(Runtime *rt) {
  rt->holds--;
  ev_unref(rt->loop);
}

// True inside a libev callback that no Lua code called: a task may be resumed.
static inline bool runtime_may_resume(Runtime *rt) {
  return rt->in_lua == 0 && ev_depth(rt->loop) > 0;
}

// What runs: saved while something else does.
typedef struct Running {
  Task *current;
  lua_State *innermost, *barrier;
  Driver *drivers;
  bool undriven;
} Running;

// Lua code will run now: in a task, or (NULL) in none. Returns what ran before.
static inline Running runtime_enter(Runtime *rt, Task *task, lua_State *L) {
  Running outer = {rt->current, rt->innermost, rt->barrier, rt->drivers,
                   rt->undriven};
  rt->current = task;
  rt->innermost = L;
  rt->barrier = NULL;
  rt->drivers = NULL;
  rt->undriven = false;
  rt->in_lua++;
  return outer;
}

static inline void runtime_leave(Runtime *rt, Running outer) {
  rt->in_lua--;
  rt->current = outer.current;
  rt->innermost = outer.innermost;
  rt->barrier = outer.barrier;
  rt->drivers = outer.drivers;
  rt->undriven = outer.undriven;
}

// Calls the function with nargs arguments on top of rt->scratch, protected.
// Its results are dropped; an error is reported with `message`.
void runtime_call(Runtime *rt, int nargs, const char *message);

// The same for a function that a message handler stands below, both at the
// bottom of rt->scratch. What it gives or raises is left there, for the caller
// to take away. Returns whether it went well.
bool runtime_try(Runtime *rt, int nargs, int nres);

// Raises InvalidStateError when moonloop_close has been here.
void runtime_check_open(Runtime *rt, lua_State *L);

// Runs the loop until it is stopped (then it returns true), `rt->until` ends or
// nothing can wake.
bool runtime_run(Runtime *rt, lua_State *L);

// Keeps the value on top of L where C can find it. Raises when memory is out.
int anchor_take(Runtime *rt, lua_State *L); // pops the value
void anchor_push(Runtime *rt, lua_State *L, int ref);
void anchor_drop(Runtime *rt, lua_State *L, int ref);

#endif
