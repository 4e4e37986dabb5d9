// SPDX-License-Identifier: MIT
//
// The writing half of a Stream. What is written goes to the kernel at once, in
// the caller; only what a full descriptor does not take is queued, and only
// then there is a Writer with its watcher. Over the high-water mark a write
// waits before it queues anything, so that cancelling it has no half effect.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "host/task.h"
#include "stream.h"
#include "stream_queue.h"

enum { PIECES_AT_ONCE = 64 };

// ---- writing ---------------------------------------------------------------

static int raise_write_error(lua_State *L, const Stream *s) {
  // After a reset the kernel says EPIPE to who writes again.
  int err = s->read_error == ECONNRESET ? ECONNRESET : s->write_error;
  return stream_raise(L, s, err, "write");
}

void stream_check_writable(lua_State *L, const Stream *s) {
  stream_check_started(L, s);
  if (s->flags & STREAM_READ_ONLY)
    error_raise(L, "InvalidStateError", "the stream is for reading only");
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    error_raise(L, "InvalidStateError", "the stream is closed");
  if (s->write_error || s->read_error == ECONNRESET)
    raise_write_error(L, s);
  if (s->flags & STREAM_ENDING)
    error_raise(L, "InvalidStateError", "write_eof was called on the stream");
}

// Queues what is left of the strings first..last when `sent` bytes of them are
// out.
static void queue_rest(lua_State *L, Stream *s, int first, int last,
                       size_t sent) {
  Writer *w = writer_need(L, s, 1);
  for (int i = first; i <= last; i++) {
    size_t size;
    const char *data = lua_tolstring(L, i, &size);
    if (sent >= size) {
      sent -= size;
      continue;
    }
    writer_queue(L, w, i, data + sent, size - sent);
    sent = 0;
  }
  if (!w->pen_taken && !writer_watch(w))
    s->write_error = EBADF;
}

// Sends strings of the stack at once. Returns how many bytes went out; on an
// error the Stream has it.
static size_t send_now(lua_State *L, Stream *s, int first, int last) {
  struct iovec pieces[PIECES_AT_ONCE];
  int count = 0;
  for (int i = first; i <= last && count < PIECES_AT_ONCE; i++) {
    size_t size;
    const char *data = lua_tolstring(L, i, &size);
    if (size > 0)
      pieces[count++] = (struct iovec){(char *)data, size};
  }
  if (count == 0)
    return 0;
  ssize_t n = writer_send(s, pieces, count);
  if (n >= 0)
    return (size_t)n;
  if (errno != EAGAIN && errno != EWOULDBLOCK)
    s->write_error = (int16_t)errno;
  return 0;
}

static size_t total_size(lua_State *L, int first, int last) {
  size_t total = 0;
  for (int i = first; i <= last; i++)
    total += lua_rawlen(L, i);
  return total;
}

bool stream_send(lua_State *L, Stream *s) {
  int last = lua_gettop(L);
  size_t total = total_size(L, 2, last), sent = 0;
  if (stream_unsent(s) == 0 && !(s->writer && s->writer->pen_taken))
    sent = send_now(L, s, 2, last);
  if (s->write_error)
    return false;
  if (sent < total || (s->flags & STREAM_HELD))
    queue_rest(L, s, 2, last, sent);
  return s->write_error == 0;
}

static void write_strings(lua_State *L, Stream *s) {
  if (stream_send(L, s))
    return;
  writer_fail(s, s->write_error);
  raise_write_error(L, s);
}

static int push_free(lua_State *L, void *ud) {
  stream_check_writable(L, ud);
  write_strings(L, ud);
  return 0;
}

static int push_granted(lua_State *L, void *ud) {
  Stream *s = ud;
  writer_take_turn(s);
  push_free(L, s);
  if (!s->writer)
    return 0;
  writer_grant_next(s->writer);
  writer_drop_idle(s);
  return 0;
}

void stream_check_strings(lua_State *L, int first) {
  for (int i = first, last = lua_gettop(L); i <= last; i++) {
    if (lua_type(L, i) != LUA_TSTRING && lua_type(L, i) != LUA_TNUMBER)
      luaL_typeerror(L, i, "string");
    lua_tostring(L, i); // a number becomes its text in place
  }
}

// Writes the strings at 2 and up, in this task's turn.
static int perform_write(lua_State *L, Stream *s) {
  if (!wait_may_complete(s->rt, L) || writer_must_wait(s))
    return writer_wait_turn(L, s, push_granted, push_free);
  write_strings(L, s);
  return 0;
}

/// Writes strings. Awaits while the buffer is over its high-water mark (64 KiB)
/// or other tasks wait to write, before it queues anything; then returns as
/// soon as everything is sent or queued.
// @function Stream:write
// @param data string, or number
// @param ... further ones
// @raise BrokenPipeError after the peer closed, ConnectionResetError after a
// reset, another OSError; InvalidStateError after `close`, `abort` or
// `write_eof`; see Awaiting functions
// @see asyncio.StreamWriter.write
static int l_write(lua_State *L) {
  Stream *s = stream_check_any(L);
  luaL_checkany(L, 2);
  stream_check_strings(L, 2);
  stream_check_writable(L, s);
  return perform_write(L, s);
}

void stream_unpack_list(lua_State *L) {
  luaL_checktype(L, 2, LUA_TTABLE);
  lua_settop(L, 2);
  int n = (int)luaL_len(L, 2);
  luaL_checkstack(L, n, "too many strings");
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, 2, i);
    if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
      luaL_argerror(L, 2,
                    lua_pushfstring(L, "string expected at %d, got %s", i,
                                    luaL_typename(L, -1)));
    lua_tostring(L, -1);
  }
  lua_remove(L, 2);
}

/// Writes the strings of a list. Awaits as `write` does.
// @function Stream:writelines
// @param list list of strings or numbers
// @raise as `write`
// @see asyncio.StreamWriter.writelines
static int l_writelines(lua_State *L) {
  Stream *s = stream_check_any(L);
  stream_unpack_list(L);
  stream_check_writable(L, s);
  return perform_write(L, s);
}

/// Writes strings if that needs no waiting: all of them or none.
// @function Stream:try_write
// @param data string, or number
// @param ... further ones
// @return whether the data was sent or queued
// @raise BrokenPipeError, ConnectionResetError, OSError, InvalidStateError as
// `write`
// @see asyncio.WriteTransport.write
static int l_try_write(lua_State *L) {
  Stream *s = stream_check_any(L);
  luaL_checkany(L, 2);
  stream_check_strings(L, 2);
  stream_check_writable(L, s);
  bool free_to_write = !writer_must_wait(s);
  if (free_to_write)
    write_strings(L, s);
  lua_pushboolean(L, free_to_write);
  return 1;
}

// ---- drain, write_eof ------------------------------------------------------

static int push_drained(lua_State *L, void *ud) {
  Stream *s = ud;
  if (s->write_error)
    return raise_write_error(L, s);
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    return error_raise(L, "InvalidStateError",
                       "the stream was closed while the task waited");
  return 0;
}

static int abort_drain(moonloop_wait *w, void *ud) {
  Writer *writer = ((Stream *)ud)->writer;
  wait_list_remove(&writer->drainers, task_of_wait(w));
  return 1;
}

static void describe_drain(Runtime *rt, moonloop_wait *w, char *text,
                           size_t size) {
  (void)rt;
  stream_describe(w->abort_ud, "drain", text, size);
}

/// Waits until the write buffer has drained below its low-water mark (16 KiB),
/// if it is over the high-water mark. Awaits.
// @function Stream:drain
// @raise BrokenPipeError, ConnectionResetError or another OSError that a write
// met; InvalidStateError when closed, also while it waits; see Awaiting
// functions
// @see asyncio.StreamWriter.drain
static int l_drain(lua_State *L) {
  Stream *s = stream_check(L);
  bool now = wait_may_complete(s->rt, L);
  bool over = s->writer && s->writer->unsent > s->writer->high;
  if (now && !over)
    return push_drained(L, s);
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_drain, s, describe_drain);
  w->push = push_drained;
  if (over)
    wait_list_add(&s->writer->drainers, task_of_wait(w));
  else
    wait_wake_later(w, push_drained, s);
  return moonloop_await(L, w);
}

bool stream_can_end_writing(const Stream *s) {
  return s->transport->shut_write && !(s->flags & STREAM_READ_ONLY);
}

void stream_end_writing(lua_State *L, Stream *s) {
  s->flags |= STREAM_ENDING;
  if (stream_unsent(s) > 0 || (s->writer && s->writer->pen_taken))
    return;
  s->flags |= STREAM_ENDED;
  s->transport->shut_write(s);
  if (s->flags & STREAM_HELD)
    writer_watch(writer_need(L, s, 1));
}

/// Says that nothing more will be written, after what is queued; reading goes
/// on. Twice is fine.
// @function Stream:write_eof
// @raise BrokenPipeError, ConnectionResetError, OSError as `write`;
// InvalidStateError when closed, or where `can_write_eof` is false
// @see asyncio.StreamWriter.write_eof
static int l_write_eof(lua_State *L) {
  Stream *s = stream_check(L);
  if (s->flags & STREAM_ENDING)
    return 0;
  stream_check_writable(L, s);
  if (!stream_can_end_writing(s))
    error_raise(L, "InvalidStateError",
                "a %s has no end of file that one could write",
                s->transport->name);
  stream_end_writing(L, s);
  return 0;
}

/// Tells whether `write_eof` is possible here: not on a terminal, nor where
/// nothing can be written.
// @function Stream:can_write_eof
// @see asyncio.StreamWriter.can_write_eof
static int l_can_write_eof(lua_State *L) {
  lua_pushboolean(L, stream_can_end_writing(stream_check_any(L)));
  return 1;
}

const luaL_Reg stream_write_methods[] = {
    {"write",         l_write        },
    {"writelines",    l_writelines   },
    {"try_write",     l_try_write    },
    {"drain",         l_drain        },
    {"write_eof",     l_write_eof    },
    {"can_write_eof", l_can_write_eof},
    {NULL,            NULL           },
};
