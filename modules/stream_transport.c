// SPDX-License-Identifier: MIT
//
// The Transport as Lua sees it: the methods by which a protocol writes, pauses
// and closes. Nothing here waits.
#include "host/error.h"
#include "socket.h"
#include "stream_protocol.h"
#include "stream_queue.h"

static Stream *check_self(lua_State *L) {
  return luaL_checkudata(L, 1, STREAM_PUSH_CLASS);
}

// ---- flow control ----------------------------------------------------------

static size_t check_mark(lua_State *L, int arg, size_t otherwise) {
  if (lua_isnoneornil(L, arg))
    return otherwise;
  lua_Integer n = luaL_checkinteger(L, arg);
  luaL_argcheck(L, n >= 0, arg, "a number of bytes cannot be negative");
  return (size_t)n;
}

/// Sets when the protocol is told to stop writing, and to go on.
// @function Transport:set_write_buffer_limits
// @param[opt] high integer, bytes queued above which `pause_writing` is called
// (4 * low, or 64 KiB)
// @param[opt] low integer, bytes at which `resume_writing` is called (high / 4)
// @raise bad argument when `low` is above `high`
// @see asyncio.WriteTransport.set_write_buffer_limits
static int l_set_write_buffer_limits(lua_State *L) {
  Stream *s = check_self(L);
  bool low_alone = lua_isnoneornil(L, 2) && !lua_isnoneornil(L, 3);
  size_t low = check_mark(L, 3, 0);
  size_t high = check_mark(L, 2, low_alone ? 4 * low : HIGH_WATER);
  if (lua_isnoneornil(L, 3))
    low = high / 4;
  luaL_argcheck(L, low <= high, 3, "the low mark is above the high one");
  s->push->high = high;
  s->push->low = low;
  if (s->writer) {
    s->writer->high = high;
    s->writer->low = low;
    push_pause_if_full(L, s);
  }
  return 0;
}

/// Gives the water marks.
// @function Transport:get_write_buffer_limits
// @return integers: low, high
// @see asyncio.WriteTransport.get_write_buffer_limits
static int l_get_write_buffer_limits(lua_State *L) {
  Stream *s = check_self(L);
  lua_pushinteger(L, (lua_Integer)s->push->low);
  lua_pushinteger(L, (lua_Integer)s->push->high);
  return 2;
}

/// Gives the number of bytes that are queued.
// @function Transport:get_write_buffer_size
// @return integer
// @see asyncio.WriteTransport.get_write_buffer_size
static int l_get_write_buffer_size(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)stream_unsent(check_self(L)));
  return 1;
}

// ---- writing ---------------------------------------------------------------

// Raises where the program should know better. False when the connection was
// lost, which the protocol will hear of: what is written is dropped.
static bool may_write(lua_State *L, Stream *s) {
  if (s->flags & (STREAM_STARTING | STREAM_PREPARING))
    error_raise(L, "InvalidStateError",
                "TLS is being started on the transport");
  if (s->flags & STREAM_READ_ONLY)
    error_raise(L, "InvalidStateError", "the transport is for reading only");
  if (s->push->closed_here)
    error_raise(L, "InvalidStateError", "the transport is closed");
  if (s->flags & STREAM_ENDING)
    error_raise(L, "InvalidStateError",
                "write_eof was called on the transport");
  return !(s->flags & (STREAM_CLOSING | STREAM_CLOSED));
}

static int write_strings(lua_State *L, Stream *s) {
  if (!may_write(L, s))
    return 0;
  if (!stream_send(L, s))
    push_fail(s, s->write_error);
  else
    push_pause_if_full(L, s);
  return 0;
}

/// Sends strings, or queues them: it never waits. Above the high-water mark the
/// protocol's `pause_writing` is called. What is written to a connection that
/// was lost is dropped.
// @function Transport:write
// @param data string, or number
// @param ... further ones
// @raise InvalidStateError after `close`, `abort` or `write_eof`
// @see asyncio.WriteTransport.write
static int l_write(lua_State *L) {
  Stream *s = check_self(L);
  luaL_checkany(L, 2);
  stream_check_strings(L, 2);
  return write_strings(L, s);
}

/// Sends the strings of a list as `write` does.
// @function Transport:writelines
// @param list list of strings or numbers
// @raise as `write`
// @see asyncio.WriteTransport.writelines
static int l_writelines(lua_State *L) {
  Stream *s = check_self(L);
  stream_unpack_list(L);
  return write_strings(L, s);
}

/// Ends the writing side after what is queued; reading goes on. Of a pipe it is
/// the end altogether. Twice is fine.
// @function Transport:write_eof
// @raise InvalidStateError after `close` or `abort`, and where `can_write_eof`
// is false
// @see asyncio.WriteTransport.write_eof
static int l_write_eof(lua_State *L) {
  Stream *s = check_self(L);
  if ((s->flags & STREAM_ENDING) || !may_write(L, s))
    return 0;
  if (!stream_can_end_writing(s))
    error_raise(L, "InvalidStateError",
                "a %s has no end of file that one could write",
                s->transport->name);
  if (s->flags & STREAM_WRITE_ONLY) {
    s->flags |= STREAM_ENDING | STREAM_ENDED; // closing it says so
    stream_begin_close(L, s, 1);
  } else {
    stream_end_writing(L, s);
  }
  return 0;
}

/// Tells whether `write_eof` is possible here.
// @function Transport:can_write_eof
// @see asyncio.WriteTransport.can_write_eof
static int l_can_write_eof(lua_State *L) {
  lua_pushboolean(L, stream_can_end_writing(check_self(L)));
  return 1;
}

// ---- reading ---------------------------------------------------------------

/// Stops calling `data_received` until `resume_reading`. Twice is fine.
// @function Transport:pause_reading
// @see asyncio.ReadTransport.pause_reading
static int l_pause_reading(lua_State *L) {
  Stream *s = check_self(L);
  s->push->reading_paused = true;
  if (!(s->flags & STREAM_CLOSED))
    stream_unwatch(s);
  return 0;
}

/// Goes on with calling `data_received`. Twice is fine.
// @function Transport:resume_reading
// @see asyncio.ReadTransport.resume_reading
static int l_resume_reading(lua_State *L) {
  Stream *s = check_self(L);
  s->push->reading_paused = false;
  push_read_on(s);
  return 0;
}

/// Tells whether it reads: it is open and not paused.
// @function Transport:is_reading
// @see asyncio.ReadTransport.is_reading
static int l_is_reading(lua_State *L) {
  Stream *s = check_self(L);
  bool open = !(s->flags & (STREAM_CLOSING | STREAM_CLOSED));
  lua_pushboolean(L, open && !s->push->reading_paused &&
                         !(s->flags & STREAM_WRITE_ONLY));
  return 1;
}

// ---- the rest --------------------------------------------------------------

/// Sends what is queued, then closes; no more data is received. The protocol's
/// `connection_lost` is called with nil. Twice is fine.
// @function Transport:close
// @see asyncio.BaseTransport.close
static int l_close(lua_State *L) {
  Stream *s = check_self(L);
  if (!(s->flags & (STREAM_CLOSING | STREAM_CLOSED)))
    s->push->closed_here = true;
  stream_begin_close(L, s, 1);
  return 0;
}

/// Closes at once and drops what is queued; else as `close`.
// @function Transport:abort
// @see asyncio.WriteTransport.abort
static int l_abort(lua_State *L) {
  Stream *s = check_self(L);
  if (!(s->flags & (STREAM_CLOSING | STREAM_CLOSED)))
    s->push->closed_here = true;
  stream_abort(s);
  return 0;
}

/// Tells whether it is closed, or closing.
// @function Transport:is_closing
// @see asyncio.BaseTransport.is_closing
static int l_is_closing(lua_State *L) {
  Stream *s = check_self(L);
  lua_pushboolean(L, s->flags & (STREAM_CLOSING | STREAM_CLOSED));
  return 1;
}

/// Gives the descriptor, which stays the transport's.
// @function Transport:fileno
// @return integer, -1 when closed
static int l_fileno(lua_State *L) {
  lua_pushinteger(L, check_self(L)->fd);
  return 1;
}

/// Has another protocol be called from now on.
// @function Transport:set_protocol
// @param protocol table
// @see asyncio.BaseTransport.set_protocol
static int l_set_protocol(lua_State *L) {
  check_self(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  lua_setiuservalue(L, 1, PUSH_PROTOCOL);
  return 0;
}

/// Gives the protocol.
// @function Transport:get_protocol
// @return table
// @see asyncio.BaseTransport.get_protocol
static int l_get_protocol(lua_State *L) {
  check_self(L);
  lua_getiuservalue(L, 1, PUSH_PROTOCOL);
  return 1;
}

// ---- making ----------------------------------------------------------------

// Makes a Transport of a connected Socket (which it empties) or the descriptor
// of one, which it then owns. -> transport
static int l_transport(lua_State *L) { // socket or descriptor, protocol
  Stream *s = push_new(L);
  stream_own_socket(L, s, 1);
  push_hold(L, s);
  return 1;
}

// The same of any descriptor or a Lua file, for reading or writing.
static int l_pipe_transport(lua_State *L) { // fd or file, protocol, direction
  Stream *s = push_new(L);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, PUSH_SOURCE); // the file lives as long
  stream_own_any(L, s, 1, 3);
  push_hold(L, s);
  return 1;
}

const luaL_Reg push_methods[] = {
    {"write",                   l_write                  },
    {"writelines",              l_writelines             },
    {"write_eof",               l_write_eof              },
    {"can_write_eof",           l_can_write_eof          },
    {"close",                   l_close                  },
    {"abort",                   l_abort                  },
    {"is_closing",              l_is_closing             },
    {"fileno",                  l_fileno                 },
    {"pause_reading",           l_pause_reading          },
    {"resume_reading",          l_resume_reading         },
    {"is_reading",              l_is_reading             },
    {"set_write_buffer_limits", l_set_write_buffer_limits},
    {"get_write_buffer_limits", l_get_write_buffer_limits},
    {"get_write_buffer_size",   l_get_write_buffer_size  },
    {"set_protocol",            l_set_protocol           },
    {"get_protocol",            l_get_protocol           },
    {NULL,                      NULL                     },
};

// Tells the protocol that it has a connection, then reads. Only from a callback
// of the loop.
static int l_connection_made(lua_State *L) { // transport
  Stream *s = check_self(L);
  lua_settop(L, 1);
  push_connection_made(L, s);
  return 0;
}

// Has `fn(transport)` called when all is over.
static int l_set_owner(lua_State *L) { // transport fn
  check_self(L);
  lua_settop(L, 2);
  lua_setiuservalue(L, 1, PUSH_OWNER);
  return 0;
}

static const luaL_Reg functions[] = {
    {"transport",       l_transport      },
    {"pipe_transport",  l_pipe_transport },
    {"connection_made", l_connection_made},
    {"set_owner",       l_set_owner      },
    {NULL,              NULL             },
};

void stream_push_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
