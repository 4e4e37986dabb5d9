// SPDX-License-Identifier: MIT
//
// Tracebacks in Lua's own format, but through the coroutines that a task drives
// and without frames that say nothing to a user: those of the scheduler and,
// unless in debug mode, of the library's own Lua files.
#include "traceback.h"

#include <string.h>

#include "coroutine.h"
#include "ring.h"
#include "scope.h"
#include "task.h"
#include "wait.h"
#include "waiters.h"

enum { FIRST_LINES = 12, LAST_LINES = 10, NAME_DEPTH = 2 };

static const char NAMES_KEY; // registry: function -> its name, or false; weak

// ---- names of functions ----------------------------------------------------

// Looks for the function at `fn` in the table on top. -> name or nothing
static bool find_field(lua_State *L, int fn, int depth) {
  if (depth == 0 || !lua_istable(L, -1))
    return false;
  lua_pushnil(L);
  while (lua_next(L, -2)) {
    if (lua_type(L, -2) == LUA_TSTRING) {
      if (lua_rawequal(L, fn, -1)) {
        lua_pop(L, 1);
        return true; // the key is on top
      }
      if (find_field(L, fn, depth - 1)) { // key value subkey
        lua_pushliteral(L, ".");
        lua_replace(L, -3);
        lua_concat(L, 3);
        return true;
      }
    }
    lua_pop(L, 1);
  }
  return false;
}

// Ours have their public name, whatever else they are a field of.
static bool find_public(lua_State *L, int fn) { // loaded -> loaded [name]
  lua_getfield(L, -1, "moonloop");
  if (!find_field(L, fn, 1)) {
    lua_pop(L, 1);
    return false;
  }
  lua_pushfstring(L, "moonloop.%s", lua_tostring(L, -1));
  return true;
}

static void search_name(lua_State *L, int fn) { // -> name or false
  int top = lua_gettop(L);
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  luaL_checkstack(L, 6 * NAME_DEPTH, NULL);
  if (!find_public(L, fn) && !find_field(L, fn, NAME_DEPTH)) {
    lua_settop(L, top);
    lua_pushboolean(L, false);
    return;
  }
  const char *name = lua_tostring(L, -1);
  lua_pushstring(L, strncmp(name, "_G.", 3) == 0 ? name + 3 : name);
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
}

// Pushes the name under which modules have the function on top (or false) in
// its place. The search is long, so what it found is kept. function -> name
static void name_function(lua_State *L) {
  int fn = lua_gettop(L);
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &NAMES_KEY) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &NAMES_KEY);
  }
  lua_pushvalue(L, fn);
  if (lua_rawget(L, -2) == LUA_TNIL) {
    lua_pop(L, 1);
    search_name(L, fn);
    lua_pushvalue(L, fn);
    lua_pushvalue(L, -2);
    lua_rawset(L, fn + 1);
  }
  lua_replace(L, fn);
  lua_settop(L, fn);
}

// ---- lines -----------------------------------------------------------------

static void push_frame_name(lua_State *L, const lua_Debug *ar) { // global ->
  if (lua_type(L, -1) == LUA_TSTRING)
    lua_pushfstring(L, "function '%s'", lua_tostring(L, -1));
  else if (*ar->what == 'm')
    lua_pushliteral(L, "main chunk");
  else if (*ar->namewhat)
    lua_pushfstring(L, "%s '%s'", ar->namewhat, ar->name);
  else if (*ar->what != 'C')
    lua_pushfstring(L, "function <%s:%d>", ar->short_src, ar->linedefined);
  else
    lua_pushnil(L); // the scheduler's own
  lua_remove(L, -2);
}

bool traceback_is_library(const lua_Debug *ar) {
  return strncmp(ar->short_src, "moonloop/", 9) == 0;
}

static bool is_hidden(const Runtime *rt, const lua_Debug *ar) {
  if (strcmp(ar->short_src, "(wrap)") == 0)
    return true;
  return traceback_is_library(ar) && !(rt && rt->debug);
}

// A function of the library stands for all that it calls inside the library.
// function -> line or nil
static void push_library_line(lua_State *L) {
  name_function(L);
  if (lua_type(L, -1) == LUA_TSTRING)
    lua_pushfstring(L, "\n\t[moonloop]: in function '%s'", lua_tostring(L, -1));
  else
    lua_pushnil(L);
  lua_remove(L, -2);
}

static bool is_called_by_library(lua_State *co, int level) {
  lua_Debug ar;
  return lua_getstack(co, level + 1, &ar) && lua_getinfo(co, "S", &ar) &&
         traceback_is_library(&ar);
}

// Pushes one line, or nil for a frame that is not shown.
static void push_line(Runtime *rt, lua_State *L, lua_State *co, int level,
                      lua_Debug *ar) {
  lua_getinfo(co, "Slntf", ar);
  lua_xmove(co, L, 1); // nothing when co is L
  bool inside = is_called_by_library(co, level) && !(rt && rt->debug);
  if (is_hidden(rt, ar) && !inside) {
    push_library_line(L);
    return;
  }
  if (is_hidden(rt, ar) || (inside && *ar->what == 'C')) {
    lua_pop(L, 1);
    lua_pushnil(L);
    return;
  }
  if (*ar->what == 'C')
    name_function(L);
  else {
    lua_pop(L, 1);
    lua_pushboolean(L, false);
  }
  push_frame_name(L, ar);
  if (lua_isnil(L, -1))
    return;
  const char *name = lua_tostring(L, -1);
  if (ar->currentline > 0)
    lua_pushfstring(L, "\n\t%s:%d: in %s", ar->short_src, ar->currentline,
                    name);
  else
    lua_pushfstring(L, "\n\t%s: in %s", ar->short_src, name);
  lua_remove(L, -2);
}

static int count_levels(lua_State *co) {
  lua_Debug ar;
  int low = 0, high = 1;
  while (lua_getstack(co, high, &ar)) {
    low = high;
    high *= 2;
  }
  while (low < high) {
    int middle = (low + high) / 2;
    if (lua_getstack(co, middle, &ar))
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

// Adds the lines of one coroutine to the text on top of L.
static void add_lines(Runtime *rt, lua_State *L, lua_State *co, int level) {
  lua_Debug ar;
  int levels = count_levels(co);
  int skip_from = level + FIRST_LINES, skip_to = levels - LAST_LINES;
  bool tail_called = false;
  lua_checkstack(co, 2);
  for (; lua_getstack(co, level, &ar); level++) {
    if (level == skip_from && skip_to > skip_from) {
      lua_pushfstring(L, "\n\t...\t(skipping %d levels)", skip_to - level);
      lua_concat(L, 2);
      level = skip_to;
      lua_getstack(co, level, &ar);
    }
    push_line(rt, L, co, level, &ar);
    if (lua_isnil(L, -1)) {
      lua_pop(L, 1);
      continue;
    }
    if (tail_called) { // said only when something stands below
      lua_pushliteral(L, "\n\t(...tail calls...)");
      lua_insert(L, -2);
      lua_concat(L, 2);
    }
    tail_called = ar.istailcall;
    lua_concat(L, 2);
  }
}

// Adds where the task was created; the main task's creator is the scheduler.
static void add_origin(Runtime *rt, lua_State *L, Task *t) {
  char name[64];
  if (!t->co)
    return;
  task_name(rt, t, name, sizeof name);
  task_push(rt, L, t);
  task_push_site(L, -1);
  lua_remove(L, -2);
  if (lua_isnil(L, -1) || strcmp(name, "main") == 0) {
    lua_pop(L, 1);
    return;
  }
  lua_pushfstring(L, "\n\t[task '%s', created at %s]", name,
                  lua_tostring(L, -1));
  lua_remove(L, -2);
  lua_concat(L, 2);
}

void traceback_push(Runtime *rt, lua_State *L, int level) {
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushliteral(L, "stack traceback:");
  add_lines(rt, L, L, level);
  if (!rt || L != rt->innermost)
    return;
  for (Driver *d = rt->drivers; d; d = d->outer)
    add_lines(rt, L, d->L, 0);
  if (rt->current)
    add_origin(rt, L, rt->current);
}

static void add_parked(Runtime *rt, lua_State *L, lua_State *co) {
  lua_State *inner = coroutine_inner(co);
  if (inner)
    add_parked(rt, L, inner);
  add_lines(rt, L, co, 0);
}

// What runs or is 'normal' below a task that is in the middle of something.
void traceback_push_task(Runtime *rt, lua_State *L, Task *t) {
  luaL_checkstack(L, LUA_MINSTACK, NULL);
  lua_pushliteral(L, "stack traceback:");
  if (t->co && t->started)
    add_parked(rt, L, t->co);
  add_origin(rt, L, t);
}

void traceback_push_state(Runtime *rt, lua_State *L, lua_State *co) {
  lua_pushliteral(L, "stack traceback:");
  add_lines(rt, L, co, 0);
}

void traceback_push_caller(lua_State *L) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline < 0 || traceback_is_library(&ar))
      continue;
    lua_pushfstring(L, "%s:%d", ar.short_src, ar.currentline);
    return;
  }
  lua_pushnil(L);
}

int traceback_push_creator(lua_State *L, bool skip_library) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, skip_library ? "Sfl" : "fl", &ar);
    bool hidden = skip_library && traceback_is_library(&ar);
    if (ar.currentline >= 0 && !hidden)
      return ar.currentline;
    lua_pop(L, 1);
  }
  lua_pushnil(L);
  return -1;
}

void traceback_push_site(lua_State *L, int line) {
  lua_Debug ar;
  if (!lua_isfunction(L, -1))
    return;
  lua_getinfo(L, ">S", &ar);
  lua_pushfstring(L, "%s:%d", ar.short_src, line);
}

// "script.lua:3: ", to go before a message; "" when nobody called.
static int l_caller(lua_State *L) {
  traceback_push_caller(L);
  lua_pushfstring(L, "%s: ", lua_isnil(L, -1) ? "?" : lua_tostring(L, -1));
  return 1;
}

static const luaL_Reg functions[] = {
    {"caller", l_caller},
    {NULL,     NULL    },
};

void traceback_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}

// ---- barriers --------------------------------------------------------------

static bool can_be_suspended(const char *name) {
  static const char *const names[] = {
      "pcall",          "xpcall",           "dofile",         "wrap",
      "moonloop.pcall", "coroutine.resume", "coroutine.wrap", NULL};
  for (const char *const *n = names; *n; n++)
    if (strcmp(*n, name) == 0)
      return true;
  return false;
}

static bool is_finalizer(const lua_Debug *ar) {
  return *ar->namewhat == 'm' && ar->name && strcmp(ar->name, "__gc") == 0;
}

bool traceback_push_barrier(lua_State *L, lua_State *co, int level) {
  lua_Debug ar;
  for (; lua_getstack(co, level, &ar); level++) {
    lua_getinfo(co, "Snf", &ar);
    lua_xmove(co, L, 1);
    bool is_c = *ar.what == 'C';
    lua_CFunction f = lua_tocfunction(L, -1);
    if (f == scope_l_run || ring_is_method(f)) {
      lua_pop(L, 1);
      continue;
    }
    if (f == waiters_l_unyieldable) {
      lua_getlocal(co, &ar, 1); // it has a name for what it does
      lua_xmove(co, L, 1);
      return true;
    }
    name_function(L);
    const char *name = lua_tostring(L, -1);
    if (!name)
      name = ar.name;
    if (is_finalizer(&ar)) {
      lua_pushliteral(L, "a finalizer (__gc)");
      return true;
    }
    if (is_c && name && strcmp(name, "error") == 0) {
      lua_pushliteral(L, "xpcall's message handler");
      return true;
    }
    if (is_c && name && !can_be_suspended(name)) {
      lua_pushstring(L, name);
      return true;
    }
    lua_pop(L, 1);
  }
  return false;
}
