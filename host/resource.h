// SPDX-License-Identifier: MIT
//
// What is open: descriptors and the like, in one list, so that a run can close
// what it leaves over and `testing.leaks` can name it.
#ifndef MOONLOOP_RESOURCE_H
#define MOONLOOP_RESOURCE_H

#include "runtime.h"

struct Resource {
  Resource *next;
  Resource *prev;
  uint64_t seq; // 0 when it is not in the list
  int run_id;
  int site_ref; // anchored text: where it was made; or LUA_NOREF
  void (*describe)(Resource *self, char *text, size_t size);
  // Lets go of it now; unsent data may be lost. Never raises.
  void (*abort)(Resource *self);
};

// Adds to the list; `level` is the Lua level of who made it.
void resource_add(Runtime *rt, lua_State *L, Resource *r);
void resource_remove(Runtime *rt, Resource *r);

// Lets go of everything that is open.
void resource_abort_all(Runtime *rt);

void resource_open(Runtime *rt, lua_State *L);

#endif
