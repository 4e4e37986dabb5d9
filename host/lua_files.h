// SPDX-License-Identifier: MIT
//
// The Lua half of the library as data. embed_lua.lua writes the table at build
// time; how modules are found in it is the business of whoever loads them.
#ifndef MOONLOOP_LUA_FILES_H
#define MOONLOOP_LUA_FILES_H

#include <stddef.h>

typedef struct LuaFile {
  const char *module; // "moonloop.streams"; "moonloop.init" for init.lua
  const char *path;   // below lua/: "moonloop/streams.lua"
  const char *text;   // a zero follows it, which `size` does not count
  size_t size;
} LuaFile;

// Sorted by module name; the last one has no name.
extern const LuaFile lua_files[];

// The folder lua/ of the source tree that this binary lies in the build/ of,
// absolute; its files are preferred. "" in a binary made to be installed.
extern const char lua_source_tree[];

#endif
