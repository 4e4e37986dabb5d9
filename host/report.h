// SPDX-License-Identifier: MIT
//
// Errors that belong to nobody: the exception handler, and failed tasks whose
// error nobody took.
#ifndef MOONLOOP_REPORT_H
#define MOONLOOP_REPORT_H

#include "runtime.h"

// Calls the exception handler with the context on top of L. context ->
// May be called from Lua or from the loop; never raises.
void report_context(Runtime *rt, lua_State *L);

// Reports the error on top of `failed`, which stopped in the middle of what it
// did: its frames are still there for the traceback. Leaves `failed` as it is.
void report_failure(Runtime *rt, lua_State *failed, const char *message);

// Reports something about an unfinished task, with its traceback: "task 'x' "
// and the message.
void report_task(Runtime *rt, Task *t, const char *message);

// A task failed: keeps its traceback and, when nobody waits, remembers it (its
// userdata is at `self`).
void report_watch(Runtime *rt, lua_State *L, int self);

// Somebody took its error after all.
void report_forget(Runtime *rt, lua_State *L, int self);

void report_open(Runtime *rt, lua_State *L);

#endif
