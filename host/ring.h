// SPDX-License-Identifier: MIT
//
// The ring of a Queue, and its methods as far as they are in C.
#ifndef MOONLOOP_RING_H
#define MOONLOOP_RING_H

#include "runtime.h"

// Whether a C function is `Queue:put` or `get`, which an await passes through.
bool ring_is_method(lua_CFunction f);

void ring_open(Runtime *rt, lua_State *L); // -> adds to the table on top

#endif
