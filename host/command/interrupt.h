// SPDX-License-Identifier: MIT
//
// Ctrl-C for the command: the first one cancels the main task, the second one
// ends the process.
#ifndef MOONLOOP_INTERRUPT_H
#define MOONLOOP_INTERRUPT_H

#include <lua.h>

void interrupt_open(lua_State *L);
void interrupt_close(lua_State *L);

// How often Ctrl-C was pressed.
int interrupt_count(void);

#endif
