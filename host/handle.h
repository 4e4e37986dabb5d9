// SPDX-License-Identifier: MIT
//
// Handles: functions that the loop will call (call_soon, call_later, call_at,
// done callbacks), with their arguments and context.
#ifndef MOONLOOP_HANDLE_H
#define MOONLOOP_HANDLE_H

#include "runtime.h"

typedef struct Handle Handle;

// The number of the run that the task or callback that runs belongs to.
int handle_run_id(Runtime *rt);

// Raises unless the value at `arg` can be called.
void handle_check_callable(lua_State *L, int arg);

// Makes a Handle of the function and nargs arguments on top. f args -> handle
Handle *handle_new(Runtime *rt, lua_State *L, int nargs);

// Makes a Handle that is never queued, but stands for calls that a module
// makes: these have the context and the run of who makes it. It is kept until
// it is let go.
Handle *handle_new_standing(Runtime *rt, lua_State *L);
void handle_let_go(Handle *h); // also from within such a call

// Around such a call. `enter` gives what `leave` restores.
Handle *handle_enter(Handle *h);
void handle_leave(Handle *h, Handle *outer);

// Queues the Handle on top of the stack. handle ->
void handle_schedule(Runtime *rt, lua_State *L);

// Pushes the Handle whose callback runs.
void handle_push_running(Runtime *rt, lua_State *L);

// Pushes the context of the callback that runs, or nil.
void handle_push_context(Runtime *rt, lua_State *L);

// Replaces it by the value on top. context ->
void handle_set_context(Runtime *rt, lua_State *L);

void handle_open(Runtime *rt, lua_State *L);

#endif
