// SPDX-License-Identifier: MIT
//
// Methods of classes that are in Lua: the check of self with which those begin
// that await, in one call with what an await raises and with fairness.
#ifndef MOONLOOP_METHOD_H
#define MOONLOOP_METHOD_H

#include "runtime.h"

// Upvalues of a C function that is such a method: the runtime, the name of the
// class, the set of metatables that self may have, the address of the first.
enum {
  METHOD_NAME = 2,
  METHOD_KINDS,
  METHOD_CLASS,
  METHOD_UPVALUES = METHOD_CLASS
};

// Pushes these of a maker that has the name, the metatable and the set as its
// first three arguments.
void method_push_upvalues(lua_State *L);

// Raises a bad argument, at the line of the program that called, unless the
// value at index 1 is of the class. Leaves values on the stack.
void method_check_self(lua_State *L);

void method_open(Runtime *rt, lua_State *L); // -> adds to the table on top

#endif
