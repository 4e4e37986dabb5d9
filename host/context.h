// SPDX-License-Identifier: MIT
//
// Contexts: the values of context variables. A context is a Lua table that is
// never changed once shared (a set makes a new one), so a task's copy of its
// creator's costs one reference. lua/moonloop/context.lua has the policy.
#ifndef MOONLOOP_CONTEXT_H
#define MOONLOOP_CONTEXT_H

#include "runtime.h"

// Pushes the current context (nil: empty) of the task, the callback or, when
// neither runs, of the runtime. -> context
void context_push(Runtime *rt, lua_State *L);

// The same as a new task or handle inherits it: a Context object that somebody
// passed is read, not shared. -> table or nil
void context_push_inherited(Runtime *rt, lua_State *L);

void context_open(Runtime *rt, lua_State *L);

#endif
