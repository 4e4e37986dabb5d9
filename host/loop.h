// SPDX-License-Identifier: MIT
//
// The loop's functions for Lua: clock, run, stop, debug mode.
#ifndef MOONLOOP_LOOP_H
#define MOONLOOP_LOOP_H

#include "runtime.h"

// Serves tasks that wait for stillness, before each poll. True when the next
// poll must not block.
bool loop_look_idle(Runtime *rt);

void loop_open(Runtime *rt, lua_State *L);

#endif
