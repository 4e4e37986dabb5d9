// SPDX-License-Identifier: MIT
//
// Error objects: made here, from whatever source, and asked about here. Their
// classes are in error_kinds.c.
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "task.h"
#include "traceback.h"

typedef struct ErrnoKind {
  int number;
  const char *kind;
} ErrnoKind;

static const ErrnoKind errno_kinds[] = {
    {ECONNREFUSED,  "ConnectionRefusedError"  },
    {ECONNRESET,    "ConnectionResetError"    },
    {ECONNABORTED,  "ConnectionAbortedError"  },
    {EPIPE,         "BrokenPipeError"         },
    {ESHUTDOWN,     "BrokenPipeError"         },
    {ENOENT,        "FileNotFoundError"       },
    {EACCES,        "PermissionError"         },
    {EPERM,         "PermissionError"         },
    {EEXIST,        "FileExistsError"         },
    {EADDRINUSE,    "AddressInUseError"       },
    {EADDRNOTAVAIL, "AddressNotAvailableError"},
    {ENOTDIR,       "NotADirectoryError"      },
    {EISDIR,        "IsADirectoryError"       },
    {ESRCH,         "ProcessLookupError"      },
    {ECHILD,        "ChildProcessError"       },
    {ETIMEDOUT,     "TimeoutError"            },
};

// Gives the Error object on top its traceback, unless it has one.
void error_add_traceback(lua_State *L, int level) {
  lua_pushliteral(L, "traceback");
  if (lua_rawget(L, -2) == LUA_TNIL) {
    traceback_push(moonloop_runtime_of(L), L, level);
    lua_setfield(L, -3, "traceback");
  }
  lua_pop(L, 1);
}

static void wrap_at(lua_State *L, const char *kind, int level) {
  lua_createtable(L, 0, 4);
  lua_insert(L, -2);
  lua_setfield(L, -2, "message");
  error_push_class(L, kind);
  lua_setmetatable(L, -2);
  error_add_traceback(L, level);
}

void error_wrap(lua_State *L, const char *kind) { wrap_at(L, kind, 0); }

void error_push(lua_State *L, const char *kind, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  wrap_at(L, kind, 0);
}

int error_raise(lua_State *L, const char *kind, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  lua_pushvfstring(L, fmt, args);
  va_end(args);
  wrap_at(L, kind, 0);
  return lua_error(L);
}

static const char *kind_of_errno(int err) {
  for (size_t i = 0; i < sizeof errno_kinds / sizeof *errno_kinds; i++)
    if (errno_kinds[i].number == err)
      return errno_kinds[i].kind;
  return "OSError";
}

int moonloop_error_errno(lua_State *L, int err, const char *op,
                         const char *what) {
  const char *code = strerrorname_np(err);
  if (what)
    error_push(L, kind_of_errno(err), "%s %s: %s", op, what, strerror(err));
  else
    error_push(L, kind_of_errno(err), "%s: %s", op, strerror(err));
  lua_pushinteger(L, err);
  lua_setfield(L, -2, "errno");
  if (code) {
    lua_pushstring(L, code);
    lua_setfield(L, -2, "code");
  }
  return 1;
}

int error_raise_errno(lua_State *L, int err, const char *op, const char *what) {
  moonloop_error_errno(L, err, op, what);
  return lua_error(L);
}

// ---- asking ----------------------------------------------------------------

// Whether the class on top is `wanted` or below it; pops it.
static bool descends_from(lua_State *L, const void *wanted) {
  while (error_is_class(L, -1)) {
    if (lua_topointer(L, -1) == wanted) {
      lua_pop(L, 1);
      return true;
    }
    if (!lua_getmetatable(L, -1))
      break;
    lua_replace(L, -2);
  }
  lua_pop(L, 1);
  return false;
}

bool error_is(lua_State *L, int idx, const char *kind) {
  if (!lua_istable(L, idx) || error_is_class(L, idx) ||
      !lua_getmetatable(L, idx))
    return false;
  error_push_class(L, kind);
  const void *wanted = lua_topointer(L, -1);
  lua_pop(L, 1);
  return descends_from(L, wanted);
}

void error_push_text(lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  if (lua_isstring(L, idx)) {
    lua_pushvalue(L, idx);
    lua_tostring(L, -1);
    return;
  }
  if (luaL_getmetafield(L, idx, "__tostring") != LUA_TNIL) {
    lua_pushvalue(L, idx);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK && lua_type(L, -1) == LUA_TSTRING)
      return;
    lua_pop(L, 1);
  }
  lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, idx));
}

// ---- tracebacks of errors --------------------------------------------------
//
// The traceback of an error that is no Error object has nowhere to live, so the
// runtime keeps the last one with the value that it belongs to. A handler below
// a scope or a wrap has seen more than the one of the task.

static void push_kept(Runtime *rt, lua_State *L) {
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->trace_ref);
}

static lua_Integer current_id(const Runtime *rt) {
  return rt->current ? (lua_Integer)rt->current->id : 0;
}

// Equal strings are equal values, so it is also looked who raised it.
static bool is_kept(Runtime *rt, lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  push_kept(rt, L);
  lua_rawgeti(L, -1, 3);
  lua_rawgeti(L, -2, 1);
  lua_rawgeti(L, -3, 2);
  bool same = lua_rawequal(L, -2, idx) && !lua_isnil(L, -1) &&
              lua_tointeger(L, -3) == current_id(rt);
  lua_pop(L, 4);
  return same;
}

void error_keep(Runtime *rt, lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  push_kept(rt, L);
  lua_insert(L, -2);
  lua_rawseti(L, -2, 2);
  lua_pushinteger(L, current_id(rt));
  lua_rawseti(L, -2, 3);
  lua_pushvalue(L, idx);
  lua_rawseti(L, -2, 1);
  lua_pop(L, 1);
}

void error_keep_traceback(Runtime *rt, lua_State *L) {
  push_kept(rt, L);
  lua_pushvalue(L, -2);
  lua_rawseti(L, -2, 1);
  lua_pop(L, 1);
}

int error_handler(lua_State *L) {
  Runtime *rt = moonloop_runtime_of(L);
  lua_settop(L, 1);
  if (error_is(L, 1, "Error")) {
    error_add_traceback(L, 1);
    return 1;
  }
  if (is_kept(rt, L, 1))
    return 1;
  traceback_push(rt, L, 1);
  error_keep(rt, L, 1);
  return 1;
}

// What is shown of a group is put together in Lua. -> string; false, and
// nothing, where that fails
static bool push_group_traceback(Runtime *rt, lua_State *L, int idx) {
  if (rt->group_traceback_ref == LUA_NOREF)
    return false;
  lua_rawgeti(L, LUA_REGISTRYINDEX, rt->group_traceback_ref);
  lua_pushvalue(L, idx);
  if (lua_pcall(L, 1, 1, 0) == LUA_OK)
    return true;
  lua_pop(L, 1);
  return false;
}

void error_push_traceback(Runtime *rt, lua_State *L, int idx) {
  idx = lua_absindex(L, idx);
  if (error_is(L, idx, "ErrorGroup") && push_group_traceback(rt, L, idx))
    return;
  if (error_is(L, idx, "Error")) {
    lua_pushliteral(L, "traceback");
    lua_rawget(L, idx);
    return;
  }
  if (!is_kept(rt, L, idx)) {
    lua_pushnil(L);
    return;
  }
  push_kept(rt, L);
  lua_rawgeti(L, -1, 2);
  lua_remove(L, -2);
}

// ---- in Lua -----------------------------------------------------------------

/// Tells whether a value is an Error object, of a kind or one below it.
// @function is_error
// @param value any
// @param[opt="Error"] kind string (the kind's name) or class
// @return boolean
// @raise bad argument when there is no such kind
// @see isinstance
static int l_is_error(lua_State *L) {
  luaL_checkany(L, 1);
  const char *kind = "Error";
  if (error_is_class(L, 2)) {
    lua_getfield(L, 2, "kind");
    kind = lua_tostring(L, -1);
  } else if (!lua_isnoneornil(L, 2)) {
    kind = luaL_checkstring(L, 2);
  }
  error_push_class(L, kind);
  if (lua_isnil(L, -1))
    return luaL_error(L, "bad argument #2 to 'is_error' (unknown kind '%s')",
                      kind);
  lua_pushboolean(L, error_is(L, 1, kind));
  return 1;
}

static int rethrow_or_return(lua_State *L, int status, lua_KContext ctx) {
  (void)ctx;
  if (status > LUA_YIELD) {
    if (error_is(L, -1, "CancelledError"))
      return lua_error(L);
    lua_pushboolean(L, false);
    lua_insert(L, -2);
    return 2;
  }
  lua_pushboolean(L, true);
  lua_replace(L, 1); // handler, results
  return lua_gettop(L);
}

/// Calls `fn(...)` as Lua's `pcall` does, but lets a CancelledError pass
/// through. Awaits if `fn` does.
// @function pcall
// @param fn function, or anything that can be called
// @param ... its arguments
// @return true and what `fn` returned, or false and the error
// @raise CancelledError that `fn` raised
// @see asyncio.CancelledError
static int l_pcall(lua_State *L) {
  luaL_checkany(L, 1);
  lua_pushcfunction(L, error_handler);
  lua_insert(L, 1);
  return rethrow_or_return(
      L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, 0, rethrow_or_return),
      0);
}

static int l_text_of(lua_State *L) {
  luaL_checkany(L, 1);
  error_push_text(L, 1);
  return 1;
}

static int l_traceback_of_error(lua_State *L) {
  luaL_checkany(L, 1);
  error_push_traceback(runtime_upvalue(L), L, 1);
  return 1;
}

// Sets what puts the traceback of an ErrorGroup together.
static int l_on_group_traceback(lua_State *L) { // function(group) -> string
  Runtime *rt = runtime_upvalue(L);
  luaL_checktype(L, 1, LUA_TFUNCTION);
  lua_settop(L, 1);
  luaL_unref(L, LUA_REGISTRYINDEX, rt->group_traceback_ref);
  rt->group_traceback_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  return 0;
}

static int l_errno(lua_State *L) { // errno op what
  return moonloop_error_errno(L, (int)luaL_checkinteger(L, 1),
                              luaL_checkstring(L, 2),
                              luaL_optstring(L, 3, NULL));
}

static int l_raise(lua_State *L) { // kind message
  const char *kind = luaL_checkstring(L, 1);
  luaL_checkstring(L, 2);
  lua_settop(L, 2);
  wrap_at(L, kind, 1);
  return lua_error(L);
}

static int l_is_error_class(lua_State *L) {
  lua_pushboolean(L, error_is_class(L, 1));
  return 1;
}

static const luaL_Reg functions[] = {
    {"raise",              l_raise             },
    {"is_error_class",     l_is_error_class    },
    {"is_error",           l_is_error          },
    {"pcall",              l_pcall             },
    {"text_of",            l_text_of           },
    {"traceback_of_error", l_traceback_of_error},
    {"on_group_traceback", l_on_group_traceback},
    {"errno",              l_errno             },
    {NULL,                 NULL                },
};

void error_open(Runtime *rt, lua_State *L) {
  lua_createtable(L, 2, 0);
  rt->trace_ref = luaL_ref(L, LUA_REGISTRYINDEX);
  runtime_set_functions(rt, L, functions);
  error_open_kinds(L);
}
