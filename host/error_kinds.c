// SPDX-License-Identifier: MIT
//
// The kinds of errors as classes. A class is a table whose `__index` is itself
// and whose metatable is its parent, so `e.kind` and methods are inherited.
#include "error.h"

typedef struct Kind {
  const char *name;
  const char *parent;
} Kind;

// Parents come before their children.
static const Kind kinds[] = {
    {"Error",                    NULL             },
    {"CancelledError",           "Error"          },
    {"TimeoutError",             "Error"          },
    {"InvalidStateError",        "Error"          },
    {"OSError",                  "Error"          },
    {"ConnectionError",          "OSError"        },
    {"ConnectionRefusedError",   "ConnectionError"},
    {"ConnectionResetError",     "ConnectionError"},
    {"ConnectionAbortedError",   "ConnectionError"},
    {"BrokenPipeError",          "ConnectionError"},
    {"FileNotFoundError",        "OSError"        },
    {"PermissionError",          "OSError"        },
    {"FileExistsError",          "OSError"        },
    {"AddressInUseError",        "OSError"        },
    {"AddressNotAvailableError", "OSError"        },
    {"NotADirectoryError",       "OSError"        },
    {"IsADirectoryError",        "OSError"        },
    {"ProcessLookupError",       "OSError"        },
    {"ChildProcessError",        "OSError"        },
    {"DNSError",                 "Error"          },
    {"TLSError",                 "Error"          },
    {"CertificateError",         "TLSError"       },
    {"IncompleteReadError",      "Error"          },
    {"LimitOverrunError",        "Error"          },
    {"QueueEmpty",               "Error"          },
    {"QueueFull",                "Error"          },
    {"QueueShutDown",            "Error"          },
    {"BrokenBarrierError",       "Error"          },
    {"ProcessError",             "Error"          },
    {"ExecutorError",            "Error"          },
    {"BrokenExecutor",           "ExecutorError"  },
    {"RemoteError",              "ExecutorError"  },
    {"DeadlockError",            "Error"          },
    {"ErrorGroup",               "Error"          },
};

static const char KINDS_KEY; // registry: name -> class
static const char MARK_KEY;  // in each class: that it is one

void error_push_class(lua_State *L, const char *kind) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
  lua_getfield(L, -1, kind);
  lua_remove(L, -2);
}

// Whether the value at idx is a class of errors. No metamethod is called.
bool error_is_class(lua_State *L, int idx) {
  if (!lua_istable(L, idx))
    return false;
  lua_rawgetp(L, idx, &MARK_KEY);
  bool marked = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return marked;
}

static int l_tostring(lua_State *L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_getfield(L, 1, "kind");
  const char *kind = luaL_optstring(L, -1, "Error");
  lua_getfield(L, 1, "message");
  if (lua_isnil(L, -1)) {
    lua_pushstring(L, kind);
    return 1;
  }
  error_push_text(L, -1);
  lua_pushfstring(L, "%s: %s", kind, lua_tostring(L, -1));
  return 1;
}

static void check_class(lua_State *L, int arg) {
  if (!error_is_class(L, arg))
    luaL_typeerror(L, arg, "class of errors");
}

static void copy_fields(lua_State *L, int from, int to) {
  lua_pushnil(L);
  while (lua_next(L, from)) {
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_rawset(L, to);
  }
}

/// Stands for a failure: what every moonloop function raises, but for the plain
/// string of a bad argument. Each kind is a class, `moonloop.TimeoutError`;
/// `tostring` of an object is one line, "TimeoutError: too late".
// @type Error
// @field kind string, the name of its class
// @field message string
// @field traceback string, of where it was made or raised
// @field[opt] code string: "ECONNREFUSED" (OSError), "EAI_NONAME" (DNSError)
// @field[opt] host string, of a DNSError
// @field[opt] errno integer, of an OSError
// @field[opt] cause the error it came from, where its maker gave one
// @field[opt] errors list: of an ErrorGroup, and of what `connect` raises when
// it has tried every address
// @field[opt] tasks of a DeadlockError: list of {name=, awaiting=, traceback=}
// @field[opt] partial string, the bytes an IncompleteReadError has got
// @field[opt] expected integer, the bytes `readexactly` wanted
// @field[opt] consumed integer, the bytes a LimitOverrunError has looked at

/// Makes an Error object of a kind: `moonloop.TimeoutError:new("too late")`.
// @function Error:new
// @param message string
// @param[opt] fields table copied into it
// @return Error object of this kind, with the traceback of here
// @raise bad argument when `fields` is no table
static int l_new(lua_State *L) {
  check_class(L, 1);
  lua_settop(L, 3);
  if (!lua_isnoneornil(L, 3))
    luaL_checktype(L, 3, LUA_TTABLE);
  lua_newtable(L);
  if (lua_istable(L, 3))
    copy_fields(L, 3, 4);
  if (!lua_isnil(L, 2)) {
    lua_pushvalue(L, 2);
    lua_setfield(L, 4, "message");
  }
  lua_pushvalue(L, 1);
  lua_setmetatable(L, 4);
  error_add_traceback(L, 1);
  return 1;
}

/// Makes an Error object of a table: `moonloop.Error.new{kind=, message=,
/// ...}`.
// @function Error.new
// @param fields table, copied: `kind` (a kind's name, "Error"), `message`
// (string), `traceback` (that of here) and whatever else
// @return Error object
// @raise bad argument when there is no such kind
static int l_error_new(lua_State *L) {
  if (error_is_class(L, 1))
    return l_new(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  lua_getfield(L, 1, "kind");
  const char *kind = luaL_optstring(L, 2, "Error");
  error_push_class(L, kind);
  if (lua_isnil(L, 3))
    return luaL_error(L, "bad argument #1 to 'new' (unknown kind '%s')", kind);
  lua_newtable(L);
  copy_fields(L, 1, 4);
  lua_pushnil(L);
  lua_setfield(L, 4, "kind");
  lua_pushvalue(L, 3);
  lua_setmetatable(L, 4);
  error_add_traceback(L, 1);
  return 1;
}

// parent class of -1 (nil: none), name -> class, also in the table of kinds
static void new_class(lua_State *L, const char *name) {
  int parent = lua_gettop(L);
  lua_createtable(L, 0, 8);
  lua_pushboolean(L, true);
  lua_rawsetp(L, -2, &MARK_KEY);
  lua_pushstring(L, name);
  lua_setfield(L, -2, "kind");
  lua_pushvalue(L, -1);
  lua_setfield(L, -2, "__index");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "__name");
  if (lua_istable(L, parent)) {
    lua_pushvalue(L, parent);
    lua_setmetatable(L, -2);
    lua_getfield(L, parent, "__tostring");
  } else {
    lua_pushcfunction(L, l_tostring);
  }
  lua_setfield(L, -2, "__tostring");
  lua_rawgetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, name);
  lua_pop(L, 1);
  lua_remove(L, parent);
}

/// Adds a kind below this one: `moonloop.Error:extend "MyError"`.
// @function Error:extend
// @param name string
// @return class, which `is_error` also knows by its name
// @raise bad argument when there is a kind of that name
// @see Exception
static int l_extend(lua_State *L) {
  check_class(L, 1);
  const char *name = luaL_checkstring(L, 2);
  error_push_class(L, name);
  luaL_argcheck(L, lua_isnil(L, -1), 2, "that kind exists already");
  lua_settop(L, 2);
  lua_pushvalue(L, 1);
  new_class(L, name);
  return 1;
}

static void make_classes(lua_State *L) {
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (kinds[i].parent)
      error_push_class(L, kinds[i].parent);
    else
      lua_pushnil(L);
    new_class(L, kinds[i].name);
    if (i == 0) {
      lua_pushcfunction(L, l_error_new);
      lua_setfield(L, -2, "new");
      lua_pushcfunction(L, l_extend);
      lua_setfield(L, -2, "extend");
    } else {
      lua_pushcfunction(L, l_new);
      lua_setfield(L, -2, "new");
    }
    lua_pop(L, 1);
  }
}

void error_open_kinds(lua_State *L) {
  make_classes(L);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &KINDS_KEY);
  lua_pushnil(L);
  while (lua_next(L, -2)) { // module kinds name class
    lua_pushvalue(L, -2);
    lua_insert(L, -2);
    lua_settable(L, -5);
  }
  lua_pop(L, 1);
}
