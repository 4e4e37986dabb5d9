// SPDX-License-Identifier: MIT
//
// Error objects: the one place that makes them, from C or from errno.
#ifndef MOONLOOP_ERROR_H
#define MOONLOOP_ERROR_H

#include "runtime.h"

// Pushes an Error object of `kind`, its message formatted as by
// lua_pushfstring, its traceback taken here. -> error
void error_push(lua_State *L, const char *kind, const char *fmt, ...);

// The same, raised.
int error_raise(lua_State *L, const char *kind, const char *fmt, ...);

// Wraps the message on top of the stack. message -> error
void error_wrap(lua_State *L, const char *kind);

// Raises the Error object for an errno value.
int error_raise_errno(lua_State *L, int err, const char *op, const char *what);

// Whether the value at `idx` is an Error object of the kind or one below it.
bool error_is(lua_State *L, int idx, const char *kind);

// Pushes a value as text without ever raising. -> string
void error_push_text(lua_State *L, int idx);

// A message handler for pcalls inside tasks: gives Error objects a traceback,
// and keeps that of other values for who reports them.
int error_handler(lua_State *L);

// Pushes the traceback that belongs to the error value at idx, or nil.
void error_push_traceback(Runtime *rt, lua_State *L, int idx);

// Keeps the traceback on top as that of the error value at idx, which the
// running task is about to raise. traceback ->
void error_keep(Runtime *rt, lua_State *L, int idx);

// The error on top was made of the one kept (a position was put before it).
void error_keep_traceback(Runtime *rt, lua_State *L);

// ---- for error.c and error_kinds.c alone

// Pushes the class of a kind, or nil. -> class
void error_push_class(lua_State *L, const char *kind);

// Whether the value at idx is a class of errors. No metamethod is called.
bool error_is_class(lua_State *L, int idx);

// Gives the Error object on top its traceback, unless it has one.
void error_add_traceback(lua_State *L, int level);

// Makes the classes and adds them to the table on top.
void error_open_kinds(lua_State *L);

void error_open(Runtime *rt, lua_State *L);

#endif
