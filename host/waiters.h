// SPDX-License-Identifier: MIT
//
// Lists of waiting tasks for the Lua files, which build locks and queues on it.
#ifndef MOONLOOP_WAITERS_H
#define MOONLOOP_WAITERS_H

#include "runtime.h"

// Of Lua: `core.unyieldable(what, fn, ...)`. An await below it names `what`.
int waiters_l_unyieldable(lua_State *L);

void waiters_open(Runtime *rt, lua_State *L); // -> adds to the table on top

#endif
