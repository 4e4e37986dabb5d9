// SPDX-License-Identifier: MIT
//
// The loop's functions for Lua: clock, run, stop, debug mode.
#ifndef MOONLOOP_LOOP_H
#define MOONLOOP_LOOP_H

#include "runtime.h"

void loop_open(Runtime *rt, lua_State *L);

#endif
