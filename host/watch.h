// SPDX-License-Identifier: MIT
//
// add_reader and add_writer: callbacks on descriptors that somebody else owns.
#ifndef MOONLOOP_WATCH_H
#define MOONLOOP_WATCH_H

#include "runtime.h"

// The descriptor at `arg`: an integer, or an object with fileno() or getfd().
// Raises when it is neither.
int watch_check_fd(lua_State *L, int arg);

void watch_open(Runtime *rt, lua_State *L);

#endif
