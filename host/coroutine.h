// SPDX-License-Identifier: MIT
//
// Coroutines: the pool from which tasks take theirs, and `coroutine.*`
// functions through which an await passes outward to the task that drives.
#ifndef MOONLOOP_COROUTINE_H
#define MOONLOOP_COROUTINE_H

#include "runtime.h"

// A coroutine to run something in, with its slot. Raises when memory is out.
lua_State *coroutine_acquire(Runtime *rt, lua_State *L, int *slot);

// Gives one back that has ended normally, or drops it.
void coroutine_release(Runtime *rt, lua_State *co, int slot, bool reusable);

// The next inner coroutine that the parked coroutine drives, or NULL.
lua_State *coroutine_inner(lua_State *co);

// Enters `co`: lua_resume with the host's books kept.
int coroutine_enter(Runtime *rt, lua_State *co, lua_State *from, int nargs,
                    int *nres);

// Closes the coroutines that a parked one drives, innermost first, then it.
int coroutine_close_chain(Runtime *rt, lua_State *co);

void coroutine_open(Runtime *rt, lua_State *L);

#endif
