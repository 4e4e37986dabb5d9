// SPDX-License-Identifier: MIT
//
// Which cancel scopes each coroutine has open. A weak table leads from the
// coroutine to its innermost one, each leads to the next outer one, so they
// live as long as the coroutine does and are collected with it. While a
// generator has yielded to its consumer its scopes are detached: in force
// nowhere.
#include <stdio.h>

#include "scope.h"
#include "task.h"

// Pushes the table and the innermost scope of `co`. -> table, scope or nil
static CancelScope *push_innermost(Runtime *rt, lua_State *L, lua_State *co) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->scopes_ref);
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  lua_rawget(L, -2);
  return lua_touserdata(L, -1);
}

// table, scope or nil -> table
static void set_innermost(lua_State *L, lua_State *co) {
  lua_pushthread(co);
  lua_xmove(co, L, 1);
  lua_insert(L, -2);
  lua_rawset(L, -3);
}

// As push_innermost, past those that were left elsewhere. -> table, scope or
// nil
static void push_innermost_open(Runtime *rt, lua_State *L) {
  CancelScope *cs = push_innermost(rt, L, L);
  while (cs && cs->scope.flags & SCOPE_LEFT) {
    lua_getiuservalue(L, -1, SCOPE_OUTER);
    lua_replace(L, -2);
    cs = lua_touserdata(L, -1);
  }
}

void scope_link(Runtime *rt, lua_State *L) {
  CancelScope *cs = lua_touserdata(L, 1);
  push_innermost_open(rt, L);
  lua_setiuservalue(L, 1, SCOPE_OUTER);
  lua_pushvalue(L, 1);
  set_innermost(L, L);
  lua_pop(L, 1);
  Task *t = rt->current;
  cs->scope.flags |= SCOPE_ENTERED;
  cs->scope.parent = t->scope;
  cs->scope.task = t;
  cs->scope.co = L;
  t->scope = &cs->scope;
}

// ---- leaving ---------------------------------------------------------------

static void retire(Runtime *rt, CancelScope *cs) {
  timer_stop(rt, &cs->timer);
  cs->scope.flags |= SCOPE_LEFT;
  cs->scope.task = NULL;
}

// Takes it out of the chain of the task inside.
static void cut_out(CancelScope *cs) {
  Task *t = cs->scope.task;
  Scope **at = t ? &t->scope : NULL;
  while (at && *at && *at != &cs->scope)
    at = &(*at)->parent;
  if (at && *at)
    *at = cs->scope.parent;
}

// Takes the innermost scope of `co`, on top of the reporter, off its list.
// scope -> scope
static void take_off(Runtime *rt, lua_State *R, lua_State *co) {
  CancelScope *cs = lua_touserdata(R, -1);
  lua_rawgeti(R, LUA_REGISTRYINDEX, rt->scopes_ref);
  lua_getiuservalue(R, -2, SCOPE_OUTER);
  CancelScope *outer = lua_touserdata(R, -1);
  if (cs->scope.flags & SCOPE_DETACHED) {
    cs->scope.flags &= ~(uint32_t)SCOPE_DETACHED;
    if (outer)
      outer->scope.flags |= SCOPE_DETACHED;
    else
      rt->detached--;
  }
  set_innermost(R, co);
  lua_pop(R, 1);
}

// A block that nobody left is given to the library, which reports it.
static int call_unclosed(lua_State *R) { // scope
  Runtime *rt = runtime_check(R);
  lua_rawgeti(R, LUA_REGISTRYINDEX, rt->unclosed_ref);
  lua_pushvalue(R, 1);
  lua_getiuservalue(R, 1, SCOPE_OWNER);
  lua_call(R, 2, 0);
  return 0;
}

// scope ->
static void report_unclosed(Runtime *rt, lua_State *R) {
  lua_pushcfunction(R, call_unclosed);
  lua_insert(R, -2);
  Running outer = runtime_enter(rt, NULL, R);
  if (lua_pcall(R, 1, 0, 0) != LUA_OK) {
    fputs("moonloop: a block without <close> could not be reported\n", stderr);
    lua_pop(R, 1);
  }
  runtime_leave(rt, outer);
}

// Drops the scopes of `co` from its innermost outward, up to `last` (NULL:
// all).
static void drop_up_to(Runtime *rt, lua_State *co, const CancelScope *last) {
  lua_State *R = rt->reporter;
  for (;;) {
    CancelScope *cs = push_innermost(rt, R, co);
    lua_remove(R, -2);
    if (!cs || cs == last)
      break;
    bool open = (cs->scope.flags & (SCOPE_BLOCK | SCOPE_LEFT)) == SCOPE_BLOCK;
    take_off(rt, R, co);
    cut_out(cs);
    scope_drop_message(rt, R, &cs->scope);
    retire(rt, cs);
    if (open && rt->unclosed_ref != LUA_NOREF)
      report_unclosed(rt, R);
    else
      lua_pop(R, 1);
  }
  lua_pop(R, 1);
}

static bool is_open_in(Runtime *rt, lua_State *co, const CancelScope *wanted) {
  lua_State *R = rt->reporter;
  CancelScope *cs = push_innermost(rt, R, co);
  while (cs && cs != wanted) {
    lua_getiuservalue(R, -1, SCOPE_OUTER);
    lua_replace(R, -2);
    cs = lua_touserdata(R, -1);
  }
  lua_pop(R, 2);
  return cs != NULL;
}

// On the reporter, for L may be full of results. Left in another coroutine than
// its own, a scope stays in its list, without effect.
void scope_unlink(Runtime *rt, lua_State *L, CancelScope *cs) {
  lua_State *R = rt->reporter;
  if (cs->scope.flags & SCOPE_LEFT)
    return;
  bool at_home = cs->scope.co == L && is_open_in(rt, L, cs);
  if (at_home) {
    drop_up_to(rt, L, cs);
    push_innermost(rt, R, L);
    take_off(rt, R, L);
    lua_pop(R, 2);
  }
  cut_out(cs);
  scope_drop_message(rt, R, &cs->scope);
  retire(rt, cs);
}

void scope_end_coroutine(Runtime *rt, lua_State *co) {
  drop_up_to(rt, co, NULL);
}

// ---- generators ------------------------------------------------------------

void scope_detach(Runtime *rt, lua_State *co) {
  Task *t = rt->current;
  Scope *inner = t->scope, *bottom = inner;
  for (;; bottom = bottom->parent) {
    bottom->task = NULL;
    // It can wake nobody meanwhile.
    timer_set_weak(rt, &((CancelScope *)bottom)->timer, true);
    if (!bottom->parent || bottom->parent->co != co)
      break;
  }
  t->scope = bottom->parent;
  bottom->parent = NULL;
  inner->flags |= SCOPE_DETACHED;
  rt->detached++;
}

void scope_attach(Runtime *rt, lua_State *L, lua_State *co) {
  Task *t = rt->current;
  CancelScope *cs = push_innermost(rt, L, co);
  lua_pop(L, 2);
  if (!cs || !(cs->scope.flags & SCOPE_DETACHED) || !t)
    return; // in a callback they are in force nowhere
  cs->scope.flags &= ~(uint32_t)SCOPE_DETACHED;
  rt->detached--;
  Scope *bottom = &cs->scope;
  for (;; bottom = bottom->parent) {
    bottom->task = t;
    timer_set_weak(rt, &((CancelScope *)bottom)->timer, false);
    if (!bottom->parent)
      break;
  }
  bottom->parent = t->scope;
  t->scope = &cs->scope;
}

void scope_open_coroutines(Runtime *rt, lua_State *L) {
  lua_newtable(L);
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "k");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  rt->scopes_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}
