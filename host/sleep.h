// SPDX-License-Identifier: MIT
//
// sleep, sleep_until, sleep_forever.
#ifndef MOONLOOP_SLEEP_H
#define MOONLOOP_SLEEP_H

#include "runtime.h"

void sleep_open(Runtime *rt, lua_State *L);

#endif
