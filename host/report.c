// SPDX-License-Identifier: MIT
//
// Errors that belong to nobody. A report is a table, `context`, given to the
// program's exception handler or to the default one, which writes to stderr.
// Failed tasks that nobody awaits are watched by a userdata that only the task
// holds: when the task is collected it reports, and so does its timer.
#include "report.h"

#include <stdio.h>
#include <string.h>

#include "error.h"
#include "handle.h"
#include "task.h"
#include "traceback.h"

struct Untaken {
  Runtime *rt;
  Untaken *next;
  Untaken *prev;
  Timer timer;
  int run_id;
  bool watching;
};

enum { UNTAKEN_CONTEXT = 1 }; // its user value: what will be reported

static const char UNTAKEN_CLASS[] = "moonloop.Untaken";

// ---- the default handler ---------------------------------------------------

static const char *text_field(lua_State *L, int context, const char *name) {
  if (lua_getfield(L, context, name) != LUA_TSTRING) {
    lua_pop(L, 1);
    return NULL;
  }
  return lua_tostring(L, -1); // stays on the stack, so the text lives
}

// The context's own traceback or that of its error.
static const char *traceback_of(Runtime *rt, lua_State *L, int context) {
  const char *text = text_field(L, context, "traceback");
  if (text)
    return text;
  lua_getfield(L, context, "error");
  error_push_traceback(rt, L, -1);
  return lua_tostring(L, -1);
}

static void print_context(Runtime *rt, lua_State *L, int context) {
  const char *message = text_field(L, context, "message");
  fprintf(stderr, "moonloop: %s", message ? message : "unhandled error");
  if (lua_getfield(L, context, "error") != LUA_TNIL) {
    error_push_text(L, -1);
    fprintf(stderr, ": %s", lua_tostring(L, -1));
  }
  fputc('\n', stderr);
  const char *traceback = traceback_of(rt, L, context);
  if (traceback)
    fprintf(stderr, "%s\n", traceback);
  const char *site = text_field(L, context, "created_at");
  if (site && !(traceback && strstr(traceback, "created at")))
    fprintf(stderr, "created at %s\n", site);
}

/// Writes message, error, traceback and where it was made to stderr: what the
/// loop does with errors that belong to nobody unless told otherwise.
// @function Loop:default_exception_handler
// @param context table, see `call_exception_handler`
// @see asyncio.loop.default_exception_handler
static int l_default_handler(lua_State *L) { // loop context
  luaL_checktype(L, 2, LUA_TTABLE);
  fflush(stdout);
  print_context(runtime_upvalue(L), L, 2);
  return 0;
}

// ---- calling the handler ---------------------------------------------------

static const char LOOP_KEY; // registry: the loop object, which handlers get

static void push_loop(lua_State *L) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &LOOP_KEY);
}

// The loop object, which is made in Lua and set once.
static int l_loop(lua_State *L) {
  if (lua_istable(L, 1)) {
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &LOOP_KEY);
  }
  push_loop(L);
  return 1;
}

static void call_default(Runtime *rt, lua_State *L) { // context -> context
  lua_pushlightuserdata(L, rt);
  lua_pushcclosure(L, l_default_handler, 1);
  lua_pushnil(L);
  lua_pushvalue(L, -3);
  if (lua_pcall(L, 2, 0, 0) == LUA_OK)
    return;
  fputs("moonloop: an error could not be reported (not enough memory?)\n",
        stderr);
  lua_pop(L, 1);
}

static void report_handler_error(Runtime *rt, lua_State *L) { // error ->
  lua_createtable(L, 0, 3);
  lua_insert(L, -2);
  error_push_traceback(rt, L, -1);
  lua_setfield(L, -3, "traceback");
  lua_setfield(L, -2, "error");
  lua_pushliteral(L, "error in the exception handler");
  lua_setfield(L, -2, "message");
  call_default(rt, L);
  lua_pop(L, 1);
}

static int report_main(lua_State *L) { // context
  Runtime *rt = runtime_check(L);
  lua_settop(L, 1);
  if (rt->handler_ref == LUA_NOREF) {
    call_default(rt, L);
    return 0;
  }
  lua_pushcfunction(L, error_handler);
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->handler_ref);
  push_loop(L);
  lua_pushvalue(L, 1);
  if (lua_pcall(L, 2, 0, 2) == LUA_OK)
    return 0;
  lua_pushvalue(L, 1);
  call_default(rt, L);
  lua_pop(L, 1);
  report_handler_error(rt, L);
  return 0;
}

void report_context(Runtime *rt, lua_State *L) {
  lua_pushcfunction(L, report_main);
  lua_insert(L, -2);
  Running outer = runtime_enter(rt, NULL, L); // a handler cannot await
  if (lua_pcall(L, 1, 0, 0) != LUA_OK) {
    fputs("moonloop: an error could not be reported\n", stderr);
    lua_pop(L, 1);
  }
  runtime_leave(rt, outer);
}

static int failure_main(lua_State *L) { // error, failed state, message
  Runtime *rt = runtime_check(L);
  lua_State *failed = lua_touserdata(L, 2);
  lua_createtable(L, 0, 3);
  lua_pushstring(L, lua_touserdata(L, 3));
  lua_setfield(L, -2, "message");
  lua_pushvalue(L, 1);
  lua_setfield(L, -2, "error");
  if (!error_is(L, 1, "Error")) {
    traceback_push_state(rt, L, failed);
    lua_setfield(L, -2, "traceback");
  }
  if (rt->handle) {
    handle_push_running(rt, L);
    lua_setfield(L, -2, "handle");
  }
  report_context(rt, L);
  return 0;
}

void report_failure(Runtime *rt, lua_State *failed, const char *message) {
  lua_State *R = rt->reporter;
  lua_pushcfunction(R, failure_main);
  lua_pushvalue(failed, -1);
  lua_xmove(failed, R, 1);
  lua_pushlightuserdata(R, failed);
  lua_pushlightuserdata(R, (void *)message);
  rt->in_lua++;
  if (lua_pcall(R, 3, 0, 0) != LUA_OK) {
    fputs("moonloop: an error could not be reported\n", stderr);
    lua_pop(R, 1);
  }
  rt->in_lua--;
}

static int task_main_report(lua_State *L) { // task, message
  Task *t = lua_touserdata(L, 1);
  Runtime *rt = t->future.rt;
  const char *message = lua_touserdata(L, 2);
  char name[64];
  task_name(rt, t, name, sizeof name);
  lua_createtable(L, 0, 4);
  lua_pushfstring(L, "task '%s' %s", name, message);
  lua_setfield(L, -2, "message");
  task_push(rt, L, t);
  lua_pushvalue(L, -1);
  lua_setfield(L, -3, "task");
  task_push_site(L, -1);
  lua_setfield(L, -3, "created_at");
  lua_pop(L, 1);
  traceback_push_task(rt, L, t);
  lua_setfield(L, -2, "traceback");
  report_context(rt, L);
  return 0;
}

void report_task(Runtime *rt, Task *t, const char *message) {
  lua_State *R = rt->reporter;
  lua_pushcfunction(R, task_main_report);
  lua_pushlightuserdata(R, t);
  lua_pushlightuserdata(R, (void *)message);
  if (lua_pcall(R, 2, 0, 0) != LUA_OK)
    lua_pop(R, 1);
}

// ---- failed tasks that nobody awaits ---------------------------------------

static void unlink_untaken(Untaken *u) {
  Runtime *rt = u->rt;
  if (!u->watching)
    return;
  u->watching = false;
  timer_stop(rt, &u->timer);
  if (u->prev)
    u->prev->next = u->next;
  else
    rt->untaken = u->next;
  if (u->next)
    u->next->prev = u->prev;
}

static void link_untaken(Runtime *rt, Untaken *u) {
  u->watching = true;
  u->next = rt->untaken;
  if (u->next)
    u->next->prev = u;
  rt->untaken = u;
}

static const char PENDING_KEY; // registry: contexts that finalizers left

// Reports what finalizers have left to report.
static int report_pending(lua_State *L) {
  Runtime *rt = runtime_check(L);
  lua_settop(L, 0);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &PENDING_KEY) != LUA_TTABLE)
    return 0;
  lua_pushnil(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &PENDING_KEY);
  lua_Integer n = luaL_len(L, 1);
  for (lua_Integer i = 1; i <= n; i++) {
    lua_rawgeti(L, 1, i);
    report_context(rt, L);
  }
  return 0;
}

// Leaves the context on top to be reported. Not from here while the loop runs:
// a finalizer comes in the middle of anything. context ->
static void report_later(Runtime *rt, lua_State *L) {
  bool first = lua_rawgetp(L, LUA_REGISTRYINDEX, &PENDING_KEY) != LUA_TTABLE;
  if (first) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &PENDING_KEY);
  }
  lua_insert(L, -2);
  lua_rawseti(L, -2, luaL_len(L, -2) + 1);
  lua_pop(L, 1);
  if (!first)
    return;
  lua_pushcfunction(L, report_pending);
  if (!rt->running) { // nobody would call the handle
    lua_call(L, 0, 0);
    return;
  }
  handle_new(rt, L, 0);
  handle_schedule(rt, L);
}

static int untaken_gc(lua_State *L) {
  Untaken *u = lua_touserdata(L, 1);
  Runtime *rt = u->rt;
  if (rt->collecting || !u->watching)
    return 0;
  unlink_untaken(u);
  if (rt->closed)
    return 0;
  lua_getiuservalue(L, 1, UNTAKEN_CONTEXT);
  report_later(rt, L);
  return 0;
}

// The collector may have cleared what is found by address already, with the
// finalizer, which reports too, still to come.
static int report_one(lua_State *L) { // untaken, light
  Untaken *u = lua_touserdata(L, 1);
  lua_rawgetp(L, LUA_REGISTRYINDEX, UNTAKEN_CLASS);
  if (lua_rawgetp(L, -1, u) != LUA_TUSERDATA)
    return 0;
  unlink_untaken(u);
  if (lua_getiuservalue(L, -1, UNTAKEN_CONTEXT) == LUA_TTABLE)
    report_context(u->rt, L);
  return 0;
}

static void report_now(Untaken *u) {
  lua_State *R = u->rt->reporter;
  lua_pushcfunction(R, report_one);
  lua_pushlightuserdata(R, u);
  u->rt->in_lua++;
  if (lua_pcall(R, 1, 0, 0) != LUA_OK)
    lua_pop(R, 1);
  u->rt->in_lua--;
}

static void on_delay(Runtime *rt, Timer *t) {
  (void)rt;
  report_now((Untaken *)((char *)t - offsetof(Untaken, timer)));
}

// What will be reported about the task at `self`. -> context
static void push_task_context(Runtime *rt, lua_State *L, int self) {
  char name[64], message[128];
  task_name(rt, lua_touserdata(L, self), name, sizeof name);
  snprintf(message, sizeof message, "error in task '%s' that nobody awaited",
           name);
  lua_createtable(L, 0, 5);
  lua_pushstring(L, message);
  lua_setfield(L, -2, "message");
  lua_getiuservalue(L, self, FUTURE_RESULT);
  lua_setfield(L, -2, "error");
  task_push_traceback(rt, L, self);
  lua_setfield(L, -2, "traceback");
  task_push_site(L, self);
  lua_setfield(L, -2, "created_at");
  lua_pushvalue(L, self);
  lua_setfield(L, -2, "task");
}

// The traceback of an error that is no Error object goes into the task's extras
// in any case: the one the runtime keeps is soon another's.
static void keep_traceback(Runtime *rt, lua_State *L, int self) {
  lua_getiuservalue(L, self, FUTURE_RESULT);
  if (error_is(L, -1, "Error")) {
    lua_pop(L, 1);
    return;
  }
  task_push_extras(L, self, true);
  error_push_traceback(rt, L, -2);
  lua_setfield(L, -2, "traceback");
  lua_pop(L, 2);
}

void report_watch(Runtime *rt, lua_State *L, int self) {
  self = lua_absindex(L, self);
  Task *t = lua_touserdata(L, self);
  keep_traceback(rt, L, self);
  if (t->future.taken)
    return; // somebody waits for it
  task_push_extras(L, self, true);
  Untaken *u = lua_newuserdatauv(L, sizeof *u, 1);
  memset(u, 0, sizeof *u);
  u->rt = rt;
  u->run_id = t->run_id;
  u->timer.weak = true;
  u->timer.fire = on_delay;
  luaL_setmetatable(L, UNTAKEN_CLASS);
  push_task_context(rt, L, self);
  lua_setiuservalue(L, -2, UNTAKEN_CONTEXT);
  lua_rawgetp(L, LUA_REGISTRYINDEX, UNTAKEN_CLASS);
  lua_pushvalue(L, -2);
  lua_rawsetp(L, -2, u);
  lua_pop(L, 1);
  lua_setfield(L, -2, "untaken");
  lua_pop(L, 1);
  link_untaken(rt, u);
  timer_start(rt, L, &u->timer, clock_now(rt) + rt->untaken_delay);
}

void report_forget(Runtime *rt, lua_State *L, int self) {
  (void)rt;
  task_push_extras(L, self, false);
  if (lua_istable(L, -1)) {
    lua_getfield(L, -1, "untaken");
    Untaken *u = lua_touserdata(L, -1);
    if (u)
      unlink_untaken(u);
    lua_pop(L, 1);
  }
  lua_pop(L, 1);
}

// Reports what nobody took of the runs numbered `first` to `last`.
static int l_report_untaken(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  int first = (int)luaL_checkinteger(L, 1);
  int last = (int)luaL_checkinteger(L, 2);
  if (rt->untaken) // so that finalizers that are due come now
    lua_gc(L, LUA_GCCOLLECT, 0);
  lua_pushcfunction(L, report_pending);
  lua_call(L, 0, 0);
  Untaken *oldest_first = NULL;
  for (Untaken *u = rt->untaken; u; u = u->next)
    oldest_first = u;
  for (Untaken *u = oldest_first, *prev; u; u = prev) {
    prev = u->prev;
    if (u->run_id >= first && u->run_id <= last)
      report_now(u);
  }
  return 0;
}

// ---- in Lua ----------------------------------------------------------------

/// Replaces what the loop does with errors that belong to nobody.
// @function Loop:set_exception_handler
// @param handler function(loop, context), or nil for the default; it cannot
// await, and where it raises the default does its work
// @see asyncio.loop.set_exception_handler
static int l_set_handler(lua_State *L) { // loop handler
  Runtime *rt = runtime_upvalue(L);
  lua_settop(L, 2);
  if (!lua_isnil(L, 2))
    luaL_checktype(L, 2, LUA_TFUNCTION);
  luaL_unref(L, LUA_REGISTRYINDEX, rt->handler_ref);
  rt->handler_ref =
      lua_isnil(L, 2) ? LUA_NOREF : luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

/// Gives the exception handler that was set, or nil.
// @function Loop:get_exception_handler
// @see asyncio.loop.get_exception_handler
static int l_get_handler(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  if (rt->handler_ref == LUA_NOREF)
    return 0;
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->handler_ref);
  return 1;
}

/// Reports something by way of the exception handler.
// @function Loop:call_exception_handler
// @param context table. The default handler reads `message` (string), `error`
// (any value), `traceback` (string; else the error's) and `created_at` (string,
// "file:line"); the loop adds `task`, `handle` or `stream`, where it knows them
// @see asyncio.loop.call_exception_handler
static int l_call_handler(lua_State *L) { // loop context
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  report_context(runtime_upvalue(L), L);
  return 0;
}

static const luaL_Reg functions[] = {
    {"loop",                      l_loop           },
    {"report_untaken",            l_report_untaken },
    {"set_exception_handler",     l_set_handler    },
    {"get_exception_handler",     l_get_handler    },
    {"call_exception_handler",    l_call_handler   },
    {"default_exception_handler", l_default_handler},
    {NULL,                        NULL             },
};

void report_open(Runtime *rt, lua_State *L) {
  luaL_newmetatable(L, UNTAKEN_CLASS);
  lua_pushcfunction(L, untaken_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L); // address -> untaken, weak: for who has only the address
  lua_createtable(L, 0, 1);
  lua_pushliteral(L, "v");
  lua_setfield(L, -2, "__mode");
  lua_setmetatable(L, -2);
  lua_rawsetp(L, LUA_REGISTRYINDEX, UNTAKEN_CLASS);
  runtime_set_functions(rt, L, functions);
}
