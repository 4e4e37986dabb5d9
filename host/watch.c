// SPDX-License-Identifier: MIT
//
// add_reader and add_writer. A Watch is a userdata with an ev_io inside; it is
// found by its descriptor in one table, which also holds it. The descriptor
// stays its owner's.
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "handle.h"
#include "resource.h"

typedef struct Watch {
  Runtime *rt;
  ev_io io;
  Resource resource;
  Handle *handle; // whose context and run the callback has
  int nargs;
} Watch;

enum { ARGUMENTS_AT_MOST = 60000 }; // each is a user value

enum { VALUE_FN = 1, VALUE_ARGS };

static const char CLASS[] = "moonloop.Watch";
static const char TABLE_KEY; // registry: 2 fd (+ 1 for writing) -> Watch

static lua_Integer key_of(int fd, int events) {
  return 2 * (lua_Integer)fd + (events == EV_WRITE ? 1 : 0);
}

static void stop(Watch *w) {
  if (!ev_is_active(&w->io))
    return;
  ev_io_stop(w->rt->loop, &w->io);
  resource_remove(w->rt, &w->resource);
  handle_let_go(w->handle);
}

static int call_main(lua_State *L) { // watch, light
  Watch *w = lua_touserdata(L, 1);
  int nargs = w->nargs;
  lua_rawgetp(L, LUA_REGISTRYINDEX, &TABLE_KEY);
  if (lua_rawgeti(L, -1, key_of(w->io.fd, w->io.events)) != LUA_TUSERDATA)
    return 0;
  luaL_checkstack(L, nargs + 1, NULL);
  int self = lua_gettop(L);
  lua_getiuservalue(L, self, VALUE_FN);
  for (int i = 0; i < nargs; i++)
    lua_getiuservalue(L, self, VALUE_ARGS + i);
  lua_call(L, nargs, 0);
  return 0;
}

static void on_ready(struct ev_loop *loop, ev_io *io, int revents) {
  Watch *w = io->data;
  Runtime *rt = w->rt;
  (void)loop;
  rt->events++;
  if (revents & EV_ERROR) { // libev stopped it: the descriptor is bad
    resource_remove(rt, &w->resource);
    handle_let_go(w->handle);
    return;
  }
  if (rt->in_lua > 0)
    return; // somebody runs the loop inside a callback; it will come again
  Handle *handle = w->handle; // outlives the watch, which the call may remove
  Handle *outer = handle_enter(handle);
  lua_pushcfunction(rt->scratch, call_main);
  lua_pushlightuserdata(rt->scratch, w);
  runtime_call(rt, 1, "error in a callback of add_reader or add_writer");
  handle_leave(handle, outer);
}

static void describe(Resource *r, char *text, size_t size) {
  Watch *w = (Watch *)((char *)r - offsetof(Watch, resource));
  snprintf(text, size, "%s on descriptor %d",
           w->io.events & EV_WRITE ? "writer" : "reader", w->io.fd);
}

static void abort_watch(Resource *r) {
  Watch *w = (Watch *)((char *)r - offsetof(Watch, resource));
  lua_State *S = w->rt->scratch;
  stop(w);
  lua_rawgetp(S, LUA_REGISTRYINDEX, &TABLE_KEY);
  lua_pushboolean(S, false);
  lua_rawseti(S, -2, key_of(w->io.fd, w->io.events & EV_WRITE));
  lua_pop(S, 1);
}

static const ResourceKind kind = {describe, abort_watch};

int watch_check_fd(lua_State *L, int arg) {
  if (lua_isinteger(L, arg)) {
    lua_Integer fd = lua_tointeger(L, arg);
    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, arg, "not a descriptor");
    return (int)fd;
  }
  for (int i = 0; i < 2 && !lua_isnoneornil(L, arg); i++) {
    const char *name = i == 0 ? "fileno" : "getfd";
    if (!lua_istable(L, arg) && luaL_getmetafield(L, arg, "__index") == 0)
      break;
    if (!lua_istable(L, arg))
      lua_pop(L, 1);
    if (lua_getfield(L, arg, name) == LUA_TFUNCTION) {
      lua_pushvalue(L, arg);
      lua_call(L, 1, 1);
      int fd = (int)luaL_checkinteger(L, -1);
      lua_pop(L, 1);
      return fd;
    }
    lua_pop(L, 1);
  }
  return luaL_typeerror(L, arg, "descriptor or object with fileno()");
}

static bool remove_watch(lua_State *L, int fd, int events) {
  lua_rawgetp(L, LUA_REGISTRYINDEX, &TABLE_KEY);
  bool found = lua_rawgeti(L, -1, key_of(fd, events)) == LUA_TUSERDATA;
  if (found) {
    stop(lua_touserdata(L, -1));
    lua_pushboolean(L, false);
    lua_rawseti(L, -3, key_of(fd, events));
  }
  lua_pop(L, 2);
  return found;
}

static int add(lua_State *L, int events) { // loop fd fn args
  Runtime *rt = runtime_upvalue(L);
  runtime_check_open(rt, L);
  int fd = watch_check_fd(L, 2), nargs = lua_gettop(L) - 3;
  luaL_checktype(L, 3, LUA_TFUNCTION);
  if (nargs > ARGUMENTS_AT_MOST)
    luaL_error(L, "too many arguments (%d at most)", ARGUMENTS_AT_MOST);
  if (fcntl(fd, F_GETFD) < 0) {
    char text[32];
    snprintf(text, sizeof text, "descriptor %d", fd);
    return error_raise_errno(L, errno, "watch", text);
  }
  remove_watch(L, fd, events);
  Watch *w = lua_newuserdatauv(L, sizeof *w, VALUE_ARGS - 1 + nargs);
  memset(w, 0, sizeof *w);
  w->rt = rt;
  w->nargs = nargs;
  ev_io_init(&w->io, on_ready, fd, events);
  w->io.data = w;
  luaL_setmetatable(L, CLASS);
  lua_insert(L, 3); // loop fd watch fn args
  for (int i = nargs - 1; i >= 0; i--)
    lua_setiuservalue(L, 3, VALUE_ARGS + i);
  lua_setiuservalue(L, 3, VALUE_FN);
  lua_rawgetp(L, LUA_REGISTRYINDEX, &TABLE_KEY);
  lua_pushvalue(L, 3);
  lua_rawseti(L, -2, key_of(fd, events));
  w->handle = handle_new_standing(rt, L);
  resource_add(rt, L, &w->resource, &kind);
  ev_io_start(rt->loop, &w->io);
  return 0;
}

/// Has the loop call `fn(...)` whenever the descriptor is readable. `fn` cannot
/// await; its error goes to the exception handler. The descriptor stays the
/// caller's, who removes the callback before closing it.
// @function Loop:add_reader
// @param fd integer, or an object with `fileno()` or `getfd()`
// @param fn function; replaces the one that was there
// @param ... its arguments
// @raise OSError when the descriptor is not open; InvalidStateError when the
// loop is closed
// @see asyncio.loop.add_reader
static int l_add_reader(lua_State *L) { return add(L, EV_READ); }

/// Has the loop call `fn(...)` whenever the descriptor is writable; else as
/// `add_reader`.
// @function Loop:add_writer
// @param fd integer, or an object with `fileno()` or `getfd()`
// @param fn function; replaces the one that was there
// @param ... its arguments
// @raise OSError when the descriptor is not open; InvalidStateError when the
// loop is closed
// @see asyncio.loop.add_writer
static int l_add_writer(lua_State *L) { return add(L, EV_WRITE); }

/// Stops watching for reading.
// @function Loop:remove_reader
// @param fd integer, or an object with `fileno()` or `getfd()`
// @return whether there was a callback
// @see asyncio.loop.remove_reader
static int l_remove_reader(lua_State *L) {
  lua_pushboolean(L, remove_watch(L, watch_check_fd(L, 2), EV_READ));
  return 1;
}

/// Stops watching for writing.
// @function Loop:remove_writer
// @param fd integer, or an object with `fileno()` or `getfd()`
// @return whether there was a callback
// @see asyncio.loop.remove_writer
static int l_remove_writer(lua_State *L) {
  lua_pushboolean(L, remove_watch(L, watch_check_fd(L, 2), EV_WRITE));
  return 1;
}

static int l_gc(lua_State *L) {
  Watch *w = lua_touserdata(L, 1);
  if (w->rt->loop)
    stop(w);
  return 0;
}

static const luaL_Reg functions[] = {
    {"add_reader",    l_add_reader   },
    {"add_writer",    l_add_writer   },
    {"remove_reader", l_remove_reader},
    {"remove_writer", l_remove_writer},
    {NULL,            NULL           },
};

void watch_open(Runtime *rt, lua_State *L) {
  luaL_newmetatable(L, CLASS);
  lua_pushcfunction(L, l_gc);
  lua_setfield(L, -2, "__gc");
  lua_pop(L, 1);
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &TABLE_KEY);
  runtime_set_functions(rt, L, functions);
}
