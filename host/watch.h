// SPDX-License-Identifier: MIT
//
// add_reader and add_writer: callbacks on descriptors that somebody else owns.
#ifndef MOONLOOP_WATCH_H
#define MOONLOOP_WATCH_H

#include "runtime.h"

void watch_open(Runtime *rt, lua_State *L);

#endif
