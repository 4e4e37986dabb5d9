// SPDX-License-Identifier: MIT
//
// What is open: descriptors and the like, in one list, so that a run can close
// what it leaves over and `testing.leaks` can name it.
#ifndef MOONLOOP_RESOURCE_H
#define MOONLOOP_RESOURCE_H

#include <limits.h>

#include "runtime.h"

// What a module's resources have in common.
typedef struct ResourceKind {
  void (*describe)(Resource *self, char *text, size_t size);
  // Lets go of it now; unsent data may be lost. Never raises.
  void (*abort)(Resource *self);
} ResourceKind;

struct Resource {
  const ResourceKind *kind;
  Resource *next;
  Resource *prev;
  uint64_t seq; // 0 when it is not in the list
  int run_id;
  int site_ref; // anchored text: where it was made; or LUA_NOREF
};

// The number of no run: of what is the process's own, such as its standard
// streams, and neither closed at the end of a run nor a leak.
enum { RESOURCE_OF_NO_RUN = INT_MIN };

// Adds to the list; `kind` is static. The run is that of who makes it.
void resource_add(Runtime *rt, lua_State *L, Resource *r,
                  const ResourceKind *kind);
void resource_remove(Runtime *rt, Resource *r);

// Lets go of everything that is open.
void resource_abort_all(Runtime *rt);

void resource_open(Runtime *rt, lua_State *L);

#endif
