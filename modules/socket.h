// SPDX-License-Identifier: MIT
//
// Sockets: listening, accepting, connecting. What has a stream of bytes to say
// is detached and becomes a Stream.
#ifndef MOONLOOP_SOCKET_H
#define MOONLOOP_SOCKET_H

#include "host/runtime.h"

// Takes the descriptor out of the Socket at `arg`, which is closed then.
int socket_detach(lua_State *L, int arg);

void socket_open(Runtime *rt, lua_State *L);

#endif
