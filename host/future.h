// SPDX-License-Identifier: MIT
//
// The Future: a value that will be there later, its waiters and callbacks.
// A Task begins with one.
#ifndef MOONLOOP_FUTURE_H
#define MOONLOOP_FUTURE_H

#include "runtime.h"

typedef enum FutureState {
  FUTURE_PENDING,
  FUTURE_DONE,
  FUTURE_FAILED,
  FUTURE_CANCELLED
} FutureState;

typedef struct Future {
  Runtime *rt;
  uint32_t magic; // FUTURE_MAGIC: with rt it tells a Future from any userdata
  WaitList waiters;
  int result_count;
  uint8_t state;
  bool is_task;
  bool taken; // somebody looked at the outcome
  bool has_callbacks;
} Future;

enum { FUTURE_MAGIC = 0x66757475 };

enum {               // user values of the userdata
  FUTURE_RESULT = 1, // the value, a table of several, or the error
  FUTURE_CALLBACKS,  // nil, an observer, or a list: see future_callbacks.c
  FUTURE_VALUES = FUTURE_CALLBACKS
};

// The Future (or Task) at `arg`; NULL when it is none / raises.
Future *future_test(Runtime *rt, lua_State *L, int arg);
Future *future_check(Runtime *rt, lua_State *L, int arg);

static inline bool future_is_done(const Future *f) {
  return f->state != FUTURE_PENDING;
}

// Stores the outcome on top of the stack (n values, or one error) into the
// Future at index `self` and pops it; then wakes waiters, queues callbacks.
void future_complete(lua_State *L, int self, FutureState state, int n);

// Pushes the results, or raises the error; asks that it is done.
int future_push_result(lua_State *L, int self);

// Awaits the Future at index 1 of the calling C function's frame.
int future_await(Runtime *rt, lua_State *L);

// Calls the observers of the Future at `self`, which is done, and has the loop
// call its callbacks.
void future_run_callbacks(lua_State *L, int self);

// Of Lua: `add_done_callback`, `remove_done_callback`, `core.watch`, `unwatch`.
int future_l_add_done_callback(lua_State *L);
int future_l_remove_done_callback(lua_State *L);
int future_l_watch(lua_State *L);
int future_l_unwatch(lua_State *L);

// Marks the outcome as seen: it will not be reported.
void future_take(lua_State *L, int self);

void future_open(Runtime *rt, lua_State *L);

#endif
