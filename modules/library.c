// SPDX-License-Identifier: MIT
//
// Where the parts become one library: luaopen_moonloop opens the runtime and
// the modules and runs lua/moonloop/init.lua, which makes the module table. The
// Lua files are found in the library itself. Everything is made once for a Lua
// state, however often it is required.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dns.h"
#include "lua_files.h"
#include "runtime.h"
#include "socket.h"
#include "stream.h"
#if MOONLOOP_TLS
#include "tls.h"
#endif

static const char MODULE_KEY; // registry: the module table
static const char LOADED_KEY; // registry: module name -> what its file returned

typedef struct FileReader {
  FILE *file;
  char buffer[4096];
} FileReader;

static const char *read_piece(lua_State *L, void *ud, size_t *size) {
  FileReader *r = ud;
  (void)L;
  *size = fread(r->buffer, 1, sizeof r->buffer, r->file);
  return *size > 0 ? r->buffer : NULL;
}

// Loads the file from the source tree that this library was built in, if it
// lies there. -> chunk or nothing
static bool load_from_tree(lua_State *L, const LuaFile *file) {
  FileReader reader;
  if (!*lua_source_tree)
    return false;
  lua_pushfstring(L, "@%s", file->path);
  lua_pushfstring(L, "%s/%s", lua_source_tree, file->path);
  reader.file = fopen(lua_tostring(L, -1), "rbe");
  lua_pop(L, 1);
  if (!reader.file) {
    lua_pop(L, 1);
    return false;
  }
  int status = lua_load(L, read_piece, &reader, lua_tostring(L, -1), "t");
  fclose(reader.file);
  if (status != LUA_OK)
    lua_error(L);
  lua_remove(L, -2);
  return true;
}

static void load_file(lua_State *L, const LuaFile *file) { // -> chunk
  if (load_from_tree(L, file))
    return;
  lua_pushfstring(L, "@%s", file->path);
  int status =
      luaL_loadbufferx(L, file->text, file->size, lua_tostring(L, -1), "t");
  if (status != LUA_OK)
    lua_error(L);
  lua_remove(L, -2);
}

// Messages name functions by where package.loaded has them: that should be the
// public places alone. The files are kept elsewhere, so nothing is loaded
// twice.
static int hide_files(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
  for (const LuaFile *file = lua_files; file->module; file++) {
    if (strncmp(file->module, "moonloop.testing", 16) == 0)
      continue;
    lua_pushnil(L);
    lua_setfield(L, -2, file->module);
  }
  lua_pushnil(L);
  lua_setfield(L, -2, RUNTIME_CORE);
  lua_pop(L, 1);
  return 0;
}

// A package.preload function: runs the file once, then answers what it gave.
static int load_module(lua_State *L) { // upvalue: the file
  const LuaFile *file = lua_touserdata(L, lua_upvalueindex(1));
  lua_rawgetp(L, LUA_REGISTRYINDEX, &LOADED_KEY);
  if (lua_getfield(L, -1, file->module) != LUA_TNIL)
    return 1;
  load_file(L, file);
  lua_call(L, 0, 1);
  lua_pushvalue(L, -1);
  lua_setfield(L, -4, file->module);
  return 1;
}

static int load_core(lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_CORE);
  return 1;
}

static void preload_files(lua_State *L) {
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  for (const LuaFile *file = lua_files; file->module; file++) {
    lua_pushlightuserdata(L, (void *)file);
    lua_pushcclosure(L, load_module, 1);
    lua_setfield(L, -2, file->module);
  }
  lua_pushcfunction(L, load_core);
  lua_setfield(L, -2, RUNTIME_CORE);
  lua_pop(L, 1);
  lua_newtable(L);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &LOADED_KEY);
}

static void open_modules(Runtime *rt, lua_State *L) {
  lua_getfield(L, LUA_REGISTRYINDEX, RUNTIME_CORE);
  socket_open(rt, L);
  stream_open(rt, L);
  dns_open(rt, L);
#if MOONLOOP_TLS
  tls_open(rt, L);
#endif
  lua_pushcfunction(L, hide_files);
  lua_setfield(L, -2, "hide_files");
  lua_pop(L, 1);
}

// `require "moonloop.x"` before `require "moonloop"`: stock Lua finds such a
// submodule by a function of this name in moonloop.so.
static int open_submodule(lua_State *L) { // name
  luaopen_moonloop(L);
  luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
  lua_pushvalue(L, 1);
  lua_gettable(L, -2);
  lua_pushvalue(L, 1);
  lua_call(L, 1, 1);
  return 1;
}

MOONLOOP_API int luaopen_moonloop_testing(lua_State *L);
int luaopen_moonloop_testing(lua_State *L) { return open_submodule(L); }

MOONLOOP_API int luaopen_moonloop_testing_busted(lua_State *L);
int luaopen_moonloop_testing_busted(lua_State *L) { return open_submodule(L); }

int luaopen_moonloop(lua_State *L) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &MODULE_KEY) == LUA_TTABLE)
    return 1;
  lua_pop(L, 1);
  Runtime *rt = moonloop_open(L, NULL);
  preload_files(L);
  open_modules(rt, L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonloop.init");
  lua_call(L, 1, 1);
  lua_pushvalue(L, -1);
  lua_rawsetp(L, LUA_REGISTRYINDEX, &MODULE_KEY);
  hide_files(L);
  return 1;
}
