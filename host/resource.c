// SPDX-License-Identifier: MIT
//
// The list of what is open. A module adds each descriptor it opens and removes
// it on close; nothing here knows what they are.
#include "resource.h"

#include "handle.h"
#include "traceback.h"

void resource_add(Runtime *rt, lua_State *L, Resource *r,
                  const ResourceKind *kind) {
  r->kind = kind;
  r->run_id = handle_run_id(rt);
  r->site_ref = LUA_NOREF;
  if (rt->debug || rt->record_sites) {
    traceback_push_caller(L);
    r->site_ref = anchor_take(rt, L);
  }
  r->seq = ++rt->resource_seq; // nothing fails from here on
  r->prev = NULL;
  r->next = rt->resources;
  if (r->next)
    r->next->prev = r;
  rt->resources = r;
}

void resource_remove(Runtime *rt, Resource *r) {
  if (r->seq == 0)
    return;
  r->seq = 0;
  anchor_drop(rt, rt->scratch, r->site_ref);
  if (r->prev)
    r->prev->next = r->next;
  else
    rt->resources = r->next;
  if (r->next)
    r->next->prev = r->prev;
}

void resource_abort_all(Runtime *rt) {
  while (rt->resources)
    rt->resources->kind->abort(rt->resources);
}

static void push_site(Runtime *rt, lua_State *L, const Resource *r) {
  if (r->site_ref == LUA_NOREF)
    lua_pushnil(L);
  else
    anchor_push(rt, L, r->site_ref);
}

// What was opened after `seq` and is still open: a list of {text, site}.
static int l_open_resources(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  uint64_t since = (uint64_t)luaL_optinteger(L, 1, 0);
  char text[128];
  int n = 0;
  lua_newtable(L);
  for (Resource *r = rt->resources; r; r = r->next) {
    if (r->seq <= since || r->run_id == RESOURCE_OF_NO_RUN)
      continue;
    r->kind->describe(r, text, sizeof text);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, text);
    lua_setfield(L, -2, "what");
    push_site(rt, L, r);
    lua_setfield(L, -2, "site");
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static int l_resource_mark(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)runtime_upvalue(L)->resource_seq);
  return 1;
}

// Lets go of everything that the runs numbered `first` to `last` left open.
// Returns how many there were.
static int l_abort_resources(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  int first = (int)luaL_checkinteger(L, 1);
  int last = (int)luaL_checkinteger(L, 2), n = 0;
  for (Resource *r = rt->resources; r;) {
    Resource *next = r->next;
    if (r->run_id >= first && r->run_id <= last) {
      r->kind->abort(r);
      r = rt->resources; // aborting may have closed others
      n++;
    } else {
      r = next;
    }
  }
  lua_pushinteger(L, n);
  return 1;
}

static const luaL_Reg functions[] = {
    {"open_resources",  l_open_resources },
    {"resource_mark",   l_resource_mark  },
    {"abort_resources", l_abort_resources},
    {NULL,              NULL             },
};

void resource_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
