// SPDX-License-Identifier: MIT
//
// The reading half of a Stream. The read watcher is armed once and stays so; a
// reader that waits is resumed inside the callback, with bytes handed over
// straight from the loop's receive buffer. Only what nobody has asked for yet
// is kept in the Stream, up to a bound, past which the watcher is stopped.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "host/task.h"
#include "stream_protocol.h"

enum { READ_AHEAD = 65536, PIECES_AT_ONCE = 16 };

// ---- the watcher -----------------------------------------------------------

void stream_read_again(Stream *s) {
  if (s->transport->filter && ev_is_active(&s->io))
    s->transport->filter->read_again(s);
}

bool stream_watch(Stream *s) {
  if (s->fd < 0)
    return true;
  if (!ev_is_active(&s->io)) {
    if (!stream_is_alive(s))
      return false; // libev would end the process
    ev_io_start(s->rt->loop, &s->io);
    if (!s->push) // the wait of a reader keeps the loop alive, not this
      ev_unref(s->rt->loop);
  }
  stream_come_again(s);
  return true;
}

void stream_unwatch(Stream *s) {
  if (!ev_is_active(&s->io))
    return;
  if (!s->push)
    ev_ref(s->rt->loop);
  ev_io_stop(s->rt->loop, &s->io);
}

// ---- receiving -------------------------------------------------------------

// The request stays the reader's until its task sees the answer: a close that
// comes first can still change what that is, and no other task can read.

static int push_answer(lua_State *L, void *ud) {
  Stream *s = ud;
  s->read.wait = NULL;
  return stream_answer(L, s);
}

static int push_fresh(lua_State *L, void *ud) {
  Stream *s = ud;
  s->read.wait = NULL;
  lua_pushlstring(L, s->rt->receive_buffer, s->read.fresh);
  return 1;
}

static int push_stopped(lua_State *L, void *ud) {
  ((Stream *)ud)->read.wait = NULL;
  return error_raise(L, "InvalidStateError",
                     "the stream was closed while the task read from it");
}

void stream_stop_reader(Stream *s) {
  if (s->read.wait)
    wait_wake_later(s->read.wait, push_stopped, s);
}

// Wakes the reader, which may do anything to the Stream: nothing comes after.
static void wake_reader(Stream *s, moonloop_push_fn push) {
  moonloop_wake(s->read.wait, push, s);
}

static void end_reading(Stream *s, int err) {
  if (err)
    s->read_error = (int16_t)err;
  else
    s->flags |= STREAM_EOF;
  stream_unwatch(s);
  if (err == ECONNRESET) // nothing will be sent any more either
    stream_stop_writers(s);
}

ssize_t stream_receive(Stream *s) {
  char *buffer = s->rt->receive_buffer;
  ssize_t n;
  if (!(s->flags & STREAM_FILE))
    s->flags &= ~(unsigned)STREAM_MORE;
  do
    n = s->transport->receive(s, buffer, RECEIVE_BUFFER_SIZE);
  while (n < 0 && errno == EINTR);
  if (n == RECEIVE_BUFFER_SIZE)
    s->flags |= STREAM_MORE;
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return -1;
  if (n > 0)
    return n;
  // The kernel tells of a reset once: if a write was told, a read sees an end.
  int err = s->write_error == ECONNRESET ? ECONNRESET : 0;
  end_reading(s, n < 0 ? errno : err);
  return 0;
}

static void keep(Stream *s, const char *data, size_t size) {
  if (!stream_keep(s, data, size))
    end_reading(s, ENOMEM);
}

// The common case: a task waits for some bytes and here they are.
static bool hand_over(Stream *s, size_t size) {
  ReadRequest *r = &s->read;
  if (r->mode != READ_SOME || stream_held(s) > 0 || !runtime_may_resume(s->rt))
    return false;
  size_t n = size < r->want ? size : r->want;
  keep(s, s->rt->receive_buffer + n, size - n);
  r->fresh = (unsigned)n;
  wake_reader(s, push_fresh);
  return true;
}

// What is shared with others is left to them until somebody asks for it.
static bool may_read_ahead(const Stream *s) {
  return !(s->flags & STREAM_STANDARD) &&
         stream_held(s) < (s->limit < READ_AHEAD ? s->limit : READ_AHEAD);
}

void stream_on_readable(struct ev_loop *loop, ev_io *io, int revents) {
  Stream *s = io->data;
  (void)loop, (void)revents;
  s->rt->events++;
  if (s->push) {
    push_on_readable(s);
    return;
  }
  bool waits = s->read.wait && s->read.wait->state == WAIT_PARKED;
  if (!waits && !may_read_ahead(s)) {
    stream_unwatch(s);
    return;
  }
  ssize_t n = stream_receive(s);
  if (n < 0)
    return;
  if (waits && n > 0 && hand_over(s, (size_t)n))
    return;
  if (n > 0)
    keep(s, s->rt->receive_buffer, (size_t)n);
  if (waits && stream_is_answerable(s))
    wake_reader(s, push_answer);
  else
    stream_come_again(s);
}

// ---- reading in Lua --------------------------------------------------------

static int abort_read(moonloop_wait *w, void *ud) {
  Stream *s = ud;
  (void)w;
  s->read.wait = NULL; // what was received stays
  return 1;
}

static void describe_read(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  (void)rt;
  stream_describe(w->abort_ud, "read", text, size);
}

static Stream *check_readable(lua_State *L) {
  Stream *s = stream_check(L);
  stream_check_started(L, s);
  if (s->flags & STREAM_WRITE_ONLY)
    error_raise(L, "InvalidStateError", "the stream is for writing only");
  if (!s->read.wait)
    return s;
  char name[64];
  task_name(s->rt, task_of_wait(s->read.wait), name, sizeof name);
  error_raise(L, "InvalidStateError", "task '%s' is reading from this stream",
              name);
  return NULL;
}

// Reads on at once where the last read left off with a full buffer; but not for
// ever, should it all be there.
static void receive_more(Stream *s) {
  for (int i = 0; i < PIECES_AT_ONCE; i++) {
    bool enough = s->read.mode == READ_PEEK ? stream_held(s) >= s->read.want
                                            : stream_is_answerable(s);
    if (!(s->flags & STREAM_MORE) || enough)
      return;
    ssize_t n = stream_receive(s);
    if (n <= 0)
      return;
    keep(s, s->rt->receive_buffer, (size_t)n);
  }
}

// Carries out the request that was put into s->read.
static int perform(lua_State *L, Stream *s) {
  Runtime *rt = s->rt;
  bool now = wait_may_complete(rt, L);
  if (now && (s->flags & STREAM_MORE))
    receive_more(s);
  bool answerable = stream_is_answerable(s);
  if (answerable && now)
    return stream_answer(L, s);
  moonloop_wait *w = wait_begin_io(rt, L, abort_read, s, describe_read);
  w->flags |= WAIT_TELLS;
  s->read.wait = w;
  if (!answerable && !stream_watch(s)) {
    s->read_error = EBADF;
    answerable = true;
  }
  if (answerable)
    wait_wake_later(w, push_answer, s);
  return moonloop_await(L, w);
}

void stream_look_again(Stream *s) {
  moonloop_wait *w = s->read.wait;
  s->read.scanned = 0;
  if (w && w->state == WAIT_PARKED && stream_is_answerable(s))
    wait_wake_later(w, push_answer, s);
}

static void request(Stream *s, ReadMode mode, size_t want) {
  s->read = (ReadRequest){.mode = (uint8_t)mode, .want = (uint32_t)want};
}

static size_t check_size(lua_State *L, int arg) {
  lua_Integer n = luaL_checkinteger(L, arg);
  luaL_argcheck(L, n >= 0, arg, "a number of bytes cannot be negative");
  luaL_argcheck(L, n <= UINT_MAX / 2, arg, "too large");
  return (size_t)n;
}

/// Reads some bytes. Awaits until there is at least one.
// @function Stream:read
// @param[opt] n integer, bytes at most; without it all until end of file
// @return string, nil at end of file ("" without `n`)
// @raise ConnectionResetError, TimeoutError (the peer is out of reach) or
// another OSError; InvalidStateError when closed, also while it waits, or while
// another task reads; see Awaiting functions
// @see asyncio.StreamReader.read
static int l_read(lua_State *L) {
  Stream *s = check_readable(L);
  if (lua_isnoneornil(L, 2)) {
    request(s, READ_ALL, 0);
    return perform(L, s);
  }
  size_t n = check_size(L, 2);
  if (n == 0) {
    wait_check(s->rt, L);
    lua_pushliteral(L, "");
    return 1;
  }
  request(s, READ_SOME, n);
  return perform(L, s);
}

/// Reads exactly `n` bytes. Awaits.
// @function Stream:readexactly
// @param n integer, bytes
// @return string, nil at end of file
// @raise IncompleteReadError with `partial` and `expected` when the stream ends
// before; else as `read`
// @see asyncio.StreamReader.readexactly
static int l_readexactly(lua_State *L) {
  Stream *s = check_readable(L);
  size_t n = check_size(L, 2);
  if (n == 0) {
    wait_check(s->rt, L);
    lua_pushliteral(L, "");
    return 1;
  }
  request(s, READ_EXACT, n);
  return perform(L, s);
}

// Copies the separators of the list at index 2 into a userdata at index 3.
static void check_list(lua_State *L, Separators *seps) {
  lua_Integer count = luaL_len(L, 2);
  luaL_argcheck(L, count > 0 && count < 1000, 2, "no separators");
  size_t total = 0, size;
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, i);
    luaL_argcheck(L, lua_type(L, -1) == LUA_TSTRING, 2,
                  "a list of strings is expected");
    luaL_argcheck(L, lua_rawlen(L, -1) > 0, 2, "a separator is empty");
    total += lua_rawlen(L, -1);
    lua_pop(L, 1);
  }
  size_t head = (size_t)count * sizeof(struct iovec);
  struct iovec *list = lua_newuserdatauv(L, head + total, 0);
  char *bytes = (char *)list + head;
  for (lua_Integer i = 1; i <= count; i++) {
    lua_rawgeti(L, 2, i);
    const char *text = lua_tolstring(L, -1, &size);
    list[i - 1] = (struct iovec){memcpy(bytes, text, size), size};
    bytes += size;
    lua_pop(L, 1);
  }
  seps->data = list;
  seps->count = (uint32_t)count;
}

/// Reads up to and with a separator. Awaits.
// @function Stream:readuntil
// @param[opt="\n"] separator string, or a list of strings (the first to end
// wins)
// @return string, nil at end of file
// @raise IncompleteReadError with `partial` when the stream ends before;
// LimitOverrunError when none comes within the option `limit` (bytes): the data
// stays readable; else as `read`
// @see asyncio.StreamReader.readuntil
static int l_readuntil(lua_State *L) {
  Stream *s = check_readable(L);
  Separators seps = {0};
  lua_settop(L, 2);
  if (lua_isnil(L, 2)) {
    lua_pushliteral(L, "\n");
    lua_replace(L, 2);
  }
  if (lua_istable(L, 2)) {
    check_list(L, &seps);
  } else {
    size_t size;
    seps.data = luaL_checklstring(L, 2, &size);
    luaL_argcheck(L, size > 0 && size <= INT_MAX, 2, "the separator is empty");
    seps.size = (uint32_t)size;
  }
  request(s, READ_UNTIL, 0);
  s->read.separators = seps;
  return perform(L, s);
}

/// Reads a line with its "\n", which the last one may lack. Awaits.
// @function Stream:readline
// @return string, nil at end of file
// @raise LimitOverrunError when the line is longer than the option `limit`
// (bytes): the data stays readable; else as `read`
// @see asyncio.StreamReader.readline
static int l_readline(lua_State *L) {
  Stream *s = check_readable(L);
  request(s, READ_UNTIL, 0);
  s->read.separators = (Separators){.data = "\n", .size = 1};
  s->read.may_lack = true;
  return perform(L, s);
}

/// Shows the bytes that come next without taking them. Awaits until there is at
/// least one.
// @function Stream:peek
// @param n integer, bytes at most
// @return string, nil at end of file
// @raise as `read`
// @see asyncio.StreamReader
static int l_peek(lua_State *L) {
  Stream *s = check_readable(L);
  size_t n = check_size(L, 2);
  if (n == 0) {
    wait_check(s->rt, L);
    lua_pushliteral(L, "");
    return 1;
  }
  request(s, READ_PEEK, n);
  return perform(L, s);
}

/// Tells whether the peer's end of file was reached and everything was read.
// @function Stream:at_eof
// @see asyncio.StreamReader.at_eof
static int l_at_eof(lua_State *L) {
  Stream *s = stream_check_any(L);
  lua_pushboolean(L, (s->flags & STREAM_EOF) && stream_held(s) == 0);
  return 1;
}

const luaL_Reg stream_read_methods[] = {
    {"read",        l_read       },
    {"readexactly", l_readexactly},
    {"readuntil",   l_readuntil  },
    {"readline",    l_readline   },
    {"peek",        l_peek       },
    {"at_eof",      l_at_eof     },
    {NULL,          NULL         },
};
