// SPDX-License-Identifier: MIT
//
// The ring in which a Queue keeps its items, and the two methods that a queue
// is called by all day, `put` and `get`, as far as they need not wait: written
// in Lua they cost half as much again. Whatever else there is to do (a queue
// that is empty, full or shut down) the class in Lua does.
#include "ring.h"

#include <string.h>

#include "method.h"
#include "wait.h"

typedef struct Ring {
  Runtime *rt;
  uint32_t magic;     // RING_MAGIC: with rt it tells a Ring from any userdata
  lua_Integer first;  // the numbers of the values from the first to the last
  lua_Integer last;   // only grow; one that is taken back goes before the first
  lua_Integer mask;   // places in the ring, a power of two, less one
  lua_Integer bound;  // from how many values on `put` looks closer
  lua_Integer pushed; // values so far
} Ring;

enum { RING_ITEMS = 1 }; // its user value: the places, from 1 on
enum { FIRST_MASK = 7, RING_MAGIC = 0x676e6972 };
enum { QUEUE_RING = 1 }; // where a queue has its ring

static const char CLASS[] = "moonloop.Ring";

static lua_Integer count(const Ring *r) { return r->last - r->first + 1; }

static lua_Integer place_of(const Ring *r, lua_Integer number) {
  return (number & r->mask) + 1;
}

// The ring at `idx` gets places for twice as many.
static void grow(lua_State *L, int idx, Ring *r) {
  lua_Integer mask = 2 * r->mask + 1;
  idx = lua_absindex(L, idx);
  lua_getiuservalue(L, idx, RING_ITEMS);
  lua_createtable(L, (int)mask + 1, 0);
  for (lua_Integer number = r->first; number <= r->last; number++) {
    lua_rawgeti(L, -2, place_of(r, number));
    lua_rawseti(L, -2, (number & mask) + 1);
  }
  lua_setiuservalue(L, idx, RING_ITEMS);
  lua_pop(L, 1);
  r->mask = mask;
}

// Stores a copy of the value at `value` as number `number`.
static void set(lua_State *L, int idx, int value, const Ring *r,
                lua_Integer number) {
  lua_getiuservalue(L, idx, RING_ITEMS);
  lua_pushvalue(L, value);
  lua_rawseti(L, -2, place_of(r, number));
}

static void push(lua_State *L, int idx, int value, Ring *r) {
  if (count(r) > r->mask)
    grow(L, idx, r);
  set(L, idx, value, r, r->last + 1);
  r->last++;
  r->pushed++;
}

// -> ..., value
static void pop(lua_State *L, int idx, Ring *r) {
  lua_Integer place = place_of(r, r->first);
  lua_getiuservalue(L, idx, RING_ITEMS);
  lua_rawgeti(L, -1, place);
  lua_pushnil(L);
  lua_rawseti(L, -3, place);
  r->first++;
}

static void clear(lua_State *L, int idx, Ring *r) {
  idx = lua_absindex(L, idx);
  lua_createtable(L, FIRST_MASK + 1, 0);
  lua_setiuservalue(L, idx, RING_ITEMS);
  r->mask = FIRST_MASK;
  r->first = r->last + 1;
}

// ---- in Lua ----------------------------------------------------------------

static Ring *check_ring(lua_State *L) { return luaL_checkudata(L, 1, CLASS); }

static int l_push(lua_State *L) { // ring value
  Ring *r = check_ring(L);
  lua_settop(L, 2);
  push(L, 1, 2, r);
  return 0;
}

static int l_pop(lua_State *L) {
  Ring *r = check_ring(L);
  pop(L, 1, r);
  return 1;
}

// Puts a value before the first one.
static int l_unpop(lua_State *L) { // ring value
  Ring *r = check_ring(L);
  lua_settop(L, 2);
  if (count(r) > r->mask)
    grow(L, 1, r);
  set(L, 1, 2, r, r->first - 1);
  r->first--;
  return 0;
}

// The first value stays where it is.
static int l_peek(lua_State *L) {
  Ring *r = check_ring(L);
  lua_getiuservalue(L, 1, RING_ITEMS);
  lua_rawgeti(L, -1, place_of(r, r->first));
  return 1;
}

static int l_clear(lua_State *L) {
  clear(L, 1, check_ring(L));
  return 0;
}

static int l_len(lua_State *L) {
  lua_pushinteger(L, count(check_ring(L)));
  return 1;
}

static int l_pushed(lua_State *L) {
  lua_pushinteger(L, check_ring(L)->pushed);
  return 1;
}

// For how many values it has places.
static int l_room(lua_State *L) {
  lua_pushinteger(L, check_ring(L)->mask + 1);
  return 1;
}

static int l_set_bound(lua_State *L) { // ring bound
  check_ring(L)->bound = luaL_checkinteger(L, 2);
  return 0;
}

static int l_ring(lua_State *L) { // bound
  lua_Integer bound = luaL_checkinteger(L, 1);
  Ring *r = lua_newuserdatauv(L, sizeof *r, 1);
  memset(r, 0, sizeof *r);
  r->rt = runtime_upvalue(L);
  r->magic = RING_MAGIC;
  r->bound = bound;
  luaL_setmetatable(L, CLASS);
  clear(L, -1, r);
  return 1;
}

// ---- put and get -----------------------------------------------------------

static int finish_slow(lua_State *L, int status, lua_KContext ctx) {
  (void)status, (void)ctx;
  return lua_gettop(L);
}

// Leaves it to the class. -> what its function returns
static int call_slow(lua_State *L, bool is_late) { // self value ...
  lua_settop(L, 2);
  lua_pushvalue(L, lua_upvalueindex(METHOD_UPVALUES + 1));
  lua_insert(L, 1);
  lua_pushboolean(L, is_late);
  lua_callk(L, 3, LUA_MULTRET, 0, finish_slow);
  return finish_slow(L, LUA_OK, 0);
}

// Pushes the ring of the queue at index 1. That it has one is enough of a check
// of self, and the cheapest; a queue of a class without gets the whole check
// and NULL. -> ring or anything
static Ring *push_ring(lua_State *L) {
  if (lua_istable(L, 1)) {
    lua_rawgeti(L, 1, QUEUE_RING);
    Ring *r = lua_touserdata(L, -1);
    if (r && lua_rawlen(L, -1) == sizeof *r && r->magic == RING_MAGIC)
      return r;
  }
  method_check_self(L);
  return NULL;
}

// Whether a ring, or where there is none the class, may act without letting
// others run first.
static bool is_in_time(lua_State *L, const Ring *r) {
  return wait_may_complete(r ? r->rt : runtime_upvalue(L), L);
}

static bool is_between(const Ring *r) {
  lua_Integer n = count(r);
  return n > 0 && n < r->bound;
}

static int l_put(lua_State *L) { // queue value
  if (lua_gettop(L) != 2)
    lua_settop(L, 2);
  Ring *r = push_ring(L);
  if (!is_in_time(L, r))
    return call_slow(L, true);
  if (!r || !is_between(r))
    return call_slow(L, false);
  push(L, 3, 2, r);
  return 0;
}

static int l_get(lua_State *L) { // queue
  if (lua_gettop(L) != 1)
    lua_settop(L, 1);
  Ring *r = push_ring(L);
  if (!is_in_time(L, r))
    return call_slow(L, true);
  if (!r || !is_between(r))
    return call_slow(L, false);
  pop(L, 2, r);
  return 1;
}

bool ring_is_method(lua_CFunction f) { return f == l_put || f == l_get; }

// Makes the methods of the class of a name, its metatable and the set of that
// and those below it. What they do not do `put_slowly(self, value, is_late)`
// and `get_slowly(self, nil, is_late)` do; `is_late` tells that others have to
// run first. -> put, get
static int l_queue_methods(lua_State *L) { // name class kinds put get
  for (int i = 0; i < 2; i++) {
    method_push_upvalues(L);
    lua_pushvalue(L, 4 + i);
    lua_pushcclosure(L, i == 0 ? l_put : l_get, METHOD_UPVALUES + 1);
  }
  return 2;
}

static const luaL_Reg methods[] = {
    {"push",      l_push     },
    {"pop",       l_pop      },
    {"unpop",     l_unpop    },
    {"peek",      l_peek     },
    {"clear",     l_clear    },
    {"pushed",    l_pushed   },
    {"room",      l_room     },
    {"set_bound", l_set_bound},
    {NULL,        NULL       },
};

static const luaL_Reg meta[] = {
    {"__len", l_len},
    {NULL,    NULL },
};

static const luaL_Reg functions[] = {
    {"ring",          l_ring         },
    {"queue_methods", l_queue_methods},
    {NULL,            NULL           },
};

void ring_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  lua_pop(L, 1);
  runtime_set_functions(rt, L, functions);
}
