// SPDX-License-Identifier: MIT
//
// Cancel scopes. Each task has a root scope; blocks open more below it. A
// cancelled scope makes every await inside it raise CancelledError until the
// scope is left; a shield keeps what lies outside it from reaching inside.
#ifndef MOONLOOP_SCOPE_H
#define MOONLOOP_SCOPE_H

#include "runtime.h"

typedef struct Scope Scope;

enum {
  SCOPE_CANCELLED = 1, // stays until the scope is left (or uncancelled)
  SCOPE_SHIELD = 2,    // cancellation from outside stops here
  SCOPE_ENTERED = 4,
  SCOPE_CAUGHT = 8,    // its own cancellation ended its block
  SCOPE_EXPIRED = 16,  // cancelled by its deadline
  SCOPE_DETACHED = 32, // the innermost of those of a generator that has yielded
  SCOPE_LEFT = 64,     // over: nothing reaches it any more
  SCOPE_BLOCK = 128    // entered without a function: somebody has to leave it
};

struct Scope {
  Scope *parent; // the next outer one of the same task, NULL at its root
  Task *task;    // the task inside, NULL while nobody is
  lua_State *co; // the coroutine that opened it; compared, never followed
  uint32_t flags;
  uint32_t delivered; // CancelledErrors raised since it was cancelled
  int message_ref;    // anchored message of the cancellation, or LUA_NOREF
};

// Every scope but the root of a task is one of these.
typedef struct CancelScope {
  Scope scope;
  Timer timer;
  double deadline; // on the loop's clock, INFINITY for none
  int line; // where a block was entered, in the function of SCOPE_CREATOR
  Runtime *rt;
} CancelScope;

enum {             // user values of a CancelScope
  SCOPE_OUTER = 1, // the next outer one of the same coroutine
  SCOPE_CREATOR,   // of a block: the function that entered it
  SCOPE_OWNER,     // of a block: what the program holds
  SCOPE_VALUES = SCOPE_OWNER
};

// The outermost cancelled scope that reaches `s`, or NULL.
Scope *scope_cause(Scope *s);

static inline bool scope_is_quiet(const Scope *s) {
  for (; s; s = s->parent) {
    if (s->flags & SCOPE_LEFT)
      continue;
    if (s->flags & SCOPE_CANCELLED)
      return false;
    if (s->flags & SCOPE_SHIELD)
      return true;
  }
  return true;
}

void scope_init(Scope *s, Task *task);

// Marks it cancelled and ends the wait under way inside it. `message` is a
// stack index or 0.
void scope_cancel(Runtime *rt, lua_State *L, Scope *s, int message);

// Takes a cancellation back.
void scope_clear(Runtime *rt, lua_State *L, Scope *s);

// Pushes the CancelledError of a scope. -> error
void scope_push_error(Runtime *rt, lua_State *L, Scope *s);

void scope_drop_message(Runtime *rt, lua_State *L, Scope *s);

// ---- what is open in which coroutine ----

// Puts the CancelScope at index 1 in force, innermost in the coroutine L.
void scope_link(Runtime *rt, lua_State *L);

// Takes it out of force. Blocks inside it that were never left are reported.
void scope_unlink(Runtime *rt, lua_State *L, CancelScope *cs);

// Scopes belong to the coroutine that opened them. `detach` takes those of `co`
// out of force while it has yielded to its consumer, `attach` puts them back
// when it is resumed.
void scope_detach(Runtime *rt, lua_State *co);
void scope_attach(Runtime *rt, lua_State *L, lua_State *co);

// The coroutine has ended: what it still has open leads nowhere from now on;
// blocks are reported.
void scope_end_coroutine(Runtime *rt, lua_State *co);

void scope_open_coroutines(Runtime *rt, lua_State *L);

// `CancelScope:run`, which an await passes through.
int scope_l_run(lua_State *L);

// -> adds to the table on top
void scope_open(Runtime *rt, lua_State *L);

#endif
