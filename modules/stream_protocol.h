// SPDX-License-Identifier: MIT
//
// A Stream in push mode: what it receives goes to a protocol, a table of
// functions in Lua. To Lua it is a Transport.
#ifndef MOONLOOP_STREAM_PROTOCOL_H
#define MOONLOOP_STREAM_PROTOCOL_H

#include "host/handle.h"
#include "stream.h"

typedef struct Names {
  Address own, peer;
} Names;

struct Push { // lies behind the Stream, in the same userdata
  Stream *stream;
  Ready ready;       // for telling of the end
  Ready held;        // for what was read ahead of a Lua file
  luaL_Stream *file; // whose descriptor it uses, or NULL
  Names *names;      // of both ends, once it is closed: allocated, or NULL
  Handle *handle;    // whose context and run the protocol's functions have
  size_t high, low;
  int error; // the errno value that ended it, or 0
  bool made; // connection_made was called
  bool reading_paused;
  bool writing_paused;
  bool held_queued;
  bool closes_later; // the peer has ended, but a file is still being sent
  bool closed_here;  // by the program, who knows better than to write on
  bool over;         // connection_lost was or will be called
  bool answer;       // what the last function gave
};

enum { // user values
  PUSH_PROTOCOL = 1,
  PUSH_ERROR,  // what connection_lost will be given
  PUSH_SOURCE, // the Lua file whose descriptor it has
  PUSH_OWNER,  // function that is told of the end, after the protocol
  PUSH_VALUES = PUSH_OWNER
};

// Where the Lua file is kept.
luaL_Stream **push_file(Stream *s);

// The watcher's callback, in push mode.
void push_on_readable(Stream *s);

// An errno value ended the connection.
void push_fail(Stream *s, int err);

// The descriptor is going: the protocol is told, from the loop.
void push_lost(Stream *s);

// There is room again: the protocol is told, if it was told to stop. It may do
// anything.
void push_resume_writing(Stream *s);

// Tells the protocol to stop writing, if too much is queued. The Transport is
// at index 1.
void push_pause_if_full(lua_State *L, Stream *s);

// Tells the protocol that it has a connection, and begins to read. The same.
void push_connection_made(lua_State *L, Stream *s);

// Reads, if nothing speaks against it.
void push_read_on(Stream *s);

// A Transport without a descriptor for the protocol at index 2. -> transport
Stream *push_new(lua_State *L);

// The loop holds it from here on. transport -> transport
void push_hold(lua_State *L, Stream *s);

// A file has been sent: what waited for that.
void push_after_file(Stream *s);

void push_water_marks(const Stream *s, size_t *high, size_t *low);

// It is being collected: nothing is told any more.
void push_forget(Stream *s);

// ---- stream_transport.c

extern const luaL_Reg push_methods[];
void stream_push_open(Runtime *rt, lua_State *L);

#endif
