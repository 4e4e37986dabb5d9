// SPDX-License-Identifier: MIT
//
// Tracebacks through a task and the coroutines it drives, without the frames
// of the scheduler, and names for the functions in them.
#ifndef MOONLOOP_TRACEBACK_H
#define MOONLOOP_TRACEBACK_H

#include "runtime.h"

// Pushes the traceback of the running task as seen from L, beginning at
// `level` of L. -> string
void traceback_push(Runtime *rt, lua_State *L, int level);

// Pushes the traceback of a suspended task, its innermost coroutine first.
void traceback_push_task(Runtime *rt, lua_State *L, Task *t);

// Pushes the traceback of a coroutine that an error stopped.
void traceback_push_state(Runtime *rt, lua_State *L, lua_State *co);

// Pushes "script.lua:3", the first frame that is not the library's, or nil.
void traceback_push_caller(lua_State *L);

// Pushes the function of the first frame that has lines and is not the
// library's (where that is not to be looked at: of any), or nil, and returns
// its line: cheaper than text, which few will ask for. `traceback_push_site`
// makes "script.lua:3" (or nil) of both. function -> site
int traceback_push_creator(lua_State *L, bool skip_library);
void traceback_push_site(lua_State *L, int line);

// Whether a frame ("S" asked for) is of the library's own Lua files.
bool traceback_is_library(const lua_Debug *ar);

// Pushes on L the name of the first C function of `co`, from `level` outward,
// that cannot be suspended: "table.sort". -> string; false, and nothing, when
// there is none
bool traceback_push_barrier(lua_State *L, lua_State *co, int level);

void traceback_open(Runtime *rt, lua_State *L);

#endif
