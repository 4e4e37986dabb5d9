// SPDX-License-Identifier: MIT
//
// Lists of waiting tasks for the Lua files, which build locks and queues on it.
#ifndef MOONLOOP_WAITERS_H
#define MOONLOOP_WAITERS_H

#include "runtime.h"

void waiters_open(Runtime *rt, lua_State *L); // -> adds to the table on top

#endif
