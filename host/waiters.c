// SPDX-License-Identifier: MIT
//
// Waiters: the wait as Lua sees it, a list of tasks that are woken first in,
// first out. What locks, queues and groups are in Lua builds on this alone. A
// value given to `wake` is handed over on the stack of the task that is woken;
// a task closed before it could see that gives it back by way of `lost`.
#include "waiters.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "task.h"
#include "wait.h"

typedef struct Waiters {
  Runtime *rt;
  WaitList list;
  int count;
  bool tells;   // there is a function `lost`
  char label[]; // what the inspector shows
} Waiters;

enum { WAITERS_LOST = 1 }; // its user value: nil or the function `lost`

// A parked coroutine has two marks on top of what was handed over.
enum { MARKS = 2 };

static Waiters *check_self(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->waiters_mt);
  if (!lua_getmetatable(L, 1) || !lua_rawequal(L, -1, -2))
    luaL_typeerror(L, 1, "Waiters");
  lua_pop(L, 2);
  return lua_touserdata(L, 1);
}

// ---- waiting ---------------------------------------------------------------

// What was handed over is on top of the frame of `wait`: self, what that was
// given, what was handed.
static int push_handed(lua_State *L, void *ud) {
  (void)L;
  return (int)(intptr_t)ud;
}

// What was handed to a task that will never see it goes to `lost`.
static void give_back(Waiters *w, Task *t) {
  lua_State *S = w->rt->scratch, *co = t->waiting;
  int n = (int)(intptr_t)t->wait.push_ud;
  if (!lua_checkstack(S, n + 2) || !lua_checkstack(co, 2))
    return;
  lua_getiuservalue(co, 1, WAITERS_LOST);
  lua_xmove(co, S, 1);
  for (int i = 0; i < n; i++) {
    lua_pushvalue(co, -MARKS - n + i);
    lua_xmove(co, S, 1);
  }
  runtime_call(w->rt, n, "error in giving back what a closed task was handed");
}

static int abort_wait(moonloop_wait *wait, void *ud) {
  Waiters *w = ud;
  Task *t = task_of_wait(wait);
  if (wait->state == WAIT_WOKEN) {
    give_back(w, t);
    return 1;
  }
  wait_list_remove(&w->list, t);
  w->count--;
  return 1;
}

static void describe(Runtime *rt, moonloop_wait *wait, char *text,
                     size_t size) {
  (void)rt;
  snprintf(text, size, "%s", ((Waiters *)wait->abort_ud)->label);
}

// Waits until it is the first in the list and `wake` is called. Awaits. What
// else is given is for who wakes it. -> what `wake` was given
static int l_wait(lua_State *L) { // self [value]
  Waiters *w = check_self(L);
  lua_settop(L, 2);
  moonloop_wait *wait = wait_begin(w->rt, L, abort_wait, w, describe);
  if (w->tells)
    wait->flags |= WAIT_TELLS;
  wait_list_add(&w->list, w->rt->current);
  w->count++;
  return moonloop_await(L, wait);
}

// ---- waking ----------------------------------------------------------------

// Copies the values from index 2 of L onto the stack of the task that waits,
// below its marks.
static void hand_over(lua_State *L, lua_State *co) {
  int n = lua_gettop(L) - 1;
  if (!lua_checkstack(co, n + 1) || !lua_checkstack(L, n))
    luaL_error(L, "too many values to hand over");
  for (int i = 2; i <= n + 1; i++)
    lua_pushvalue(L, i);
  lua_xmove(L, co, n);
  lua_rotate(co, -n - MARKS, n);
}

static Task *wake_first(lua_State *L, Waiters *w) {
  Task *t = w->list.first;
  int n = lua_gettop(L) - 1;
  if (n > 0)
    hand_over(L, t->waiting);
  wait_list_remove(&w->list, t);
  w->count--;
  wait_wake_later(&t->wait, push_handed, (void *)(intptr_t)n);
  return t;
}

// Wakes the first one and hands it the values. -> its task, what it had given
// to `wait`; nothing where nobody waits
static int l_wake(lua_State *L) { // self ...
  Waiters *w = check_self(L);
  if (!w->list.first)
    return 0;
  Task *t = wake_first(L, w);
  task_push(w->rt, L, t);
  lua_pushvalue(t->waiting, 2);
  lua_xmove(t->waiting, L, 1);
  return 2;
}

// What the first one has given to `wait`. -> true, value; nothing where nobody
// waits
static int l_peek(lua_State *L) {
  Waiters *w = check_self(L);
  if (!w->list.first)
    return 0;
  lua_State *co = w->list.first->waiting;
  lua_pushboolean(L, true);
  lua_pushvalue(co, 2);
  lua_xmove(co, L, 1);
  return 2;
}

// Wakes them all, each with the values. -> how many there were
static int l_wake_all(lua_State *L) { // self ...
  Waiters *w = check_self(L);
  lua_Integer count = w->count;
  while (w->list.first)
    wake_first(L, w);
  lua_pushinteger(L, count);
  return 1;
}

static int l_len(lua_State *L) {
  lua_pushinteger(L, check_self(L)->count);
  return 1;
}

// Makes a list of waiters. `label` is what the inspector shows; `lost` is
// called with what was handed to a task that was closed before it ran on.
static int l_waiters(lua_State *L) { // label [lost]
  Runtime *rt = runtime_upvalue(L);
  size_t size;
  const char *label = luaL_checklstring(L, 1, &size);
  lua_settop(L, 2);
  Waiters *w = lua_newuserdatauv(L, sizeof *w + size + 1, 1);
  memset(w, 0, sizeof *w);
  w->rt = rt;
  w->tells = !lua_isnil(L, 2);
  memcpy(w->label, label, size + 1);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, WAITERS_LOST);
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->waiters_mt);
  lua_setmetatable(L, -2);
  return 1;
}

// ---- before waiting --------------------------------------------------------

// For what could complete at once: raises what an await would raise, lets
// others run where the task has had its share.
static int l_checkpoint_if_due(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (wait_may_complete(rt, L))
    return 0;
  return wait_take_turn(rt, L, NULL);
}

// Whether an await would be possible here and now, cancelled or not.
static int l_may_wait(lua_State *L) {
  lua_pushboolean(L, wait_is_possible(runtime_upvalue(L), L));
  return 1;
}

// Whether the coroutine that runs is being closed: what it still does has to be
// done without waiting.
static int l_is_closing(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  lua_pushboolean(L, rt->closing == L || (rt->current && rt->current->doomed));
  return 1;
}

// Calls `fn(...)` so that it cannot await: what it does is done in one go.
int waiters_l_unyieldable(lua_State *L) { // what fn ...
  lua_call(L, lua_gettop(L) - 2, LUA_MULTRET);
  return lua_gettop(L) - 1;
}

static const luaL_Reg methods[] = {
    {"wait",     l_wait    },
    {"wake",     l_wake    },
    {"peek",     l_peek    },
    {"wake_all", l_wake_all},
    {NULL,       NULL      },
};

static const luaL_Reg meta[] = {
    {"__len", l_len},
    {NULL,    NULL },
};

static const luaL_Reg functions[] = {
    {"waiters",           l_waiters            },
    {"is_closing",        l_is_closing         },
    {"unyieldable",       waiters_l_unyieldable},
    {"may_wait",          l_may_wait           },
    {"checkpoint_if_due", l_checkpoint_if_due  },
    {NULL,                NULL                 },
};

void waiters_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, "moonloop.Waiters", methods, meta);
  rt->waiters_mt = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
}
