// SPDX-License-Identifier: MIT
//
// The writing half of a Stream. What is written goes to the kernel at once, in
// the caller; only what a full socket does not take is queued, and only then
// there is a Writer with its watcher. Over the high-water mark a write waits
// before it queues anything, so that cancelling it has no half effect.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "host/task.h"
#include "stream.h"
#include "stream_queue.h"

enum { HIGH_WATER = 65536, LOW_WATER = 16384, PIECES_AT_ONCE = 64 };

size_t stream_unsent(const Stream *s) {
  return s->writer ? s->writer->unsent : 0;
}

// ---- the writer ------------------------------------------------------------

static void unwatch(Writer *w) { ev_io_stop(w->stream->rt->loop, &w->io); }

static void release_anchor(Stream *s) {
  anchor_drop(s->rt, s->rt->scratch, s->anchor);
  s->anchor = LUA_NOREF;
}

void stream_drop_writer(Stream *s) {
  Writer *w = s->writer;
  if (!w)
    return;
  if (s->rt->loop)
    unwatch(w);
  writer_drop_pieces(w);
  s->writer = NULL;
  runtime_free(s->rt, w, sizeof *w);
  release_anchor(s);
}

static void wake_all(WaitList *list, moonloop_push_fn push, Stream *s) {
  while (list->first) {
    Task *t = list->first;
    wait_list_remove(list, t);
    wait_wake_later(&t->wait, push, s);
  }
}

static int push_write(lua_State *L, void *ud);
static int push_drained(lua_State *L, void *ud);

static void grant_next(Writer *w) {
  if (w->granted || !w->writers.first || w->unsent > w->high)
    return;
  Task *t = w->writers.first;
  wait_list_remove(&w->writers, t);
  w->granted = true;
  wait_wake_later(&t->wait, push_write, w->stream);
}

void stream_stop_writers(Stream *s) {
  Writer *w = s->writer;
  if (!w)
    return;
  wake_all(&w->writers, push_write, s);
  wake_all(&w->drainers, push_drained, s);
}

static bool is_needed(const Writer *w) {
  return w->unsent > 0 || w->writers.first || w->drainers.first || w->granted;
}

// The queue is empty: what was asked to happen then.
static void when_sent(Stream *s) {
  Writer *w = s->writer;
  unwatch(w);
  if ((s->flags & STREAM_ENDING) && !(s->flags & STREAM_ENDED)) {
    s->flags |= STREAM_ENDED;
    s->transport->shut_write(s);
  }
  if (s->flags & STREAM_CLOSING)
    stream_finish_close(s);
  else if (!is_needed(w))
    stream_drop_writer(s);
}

static void fail(Stream *s, int err) {
  s->write_error = (int16_t)err;
  writer_drop_pieces(s->writer);
  stream_stop_writers(s);
  when_sent(s);
}

static ssize_t send_some(Stream *s, const struct iovec *pieces, int count) {
  ssize_t n;
  do
    n = s->transport->send(s, pieces, count);
  while (n < 0 && errno == EINTR);
  return n;
}

static ssize_t send_queued(Writer *w) {
  struct iovec pieces[PIECES_AT_ONCE];
  return send_some(w->stream, pieces, writer_gather(w, pieces, PIECES_AT_ONCE));
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents) {
  Writer *w = io->data;
  Stream *s = w->stream;
  (void)loop, (void)revents;
  s->rt->events++;
  ssize_t n = w->unsent > 0 ? send_queued(w) : 0;
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
    return;
  if (n < 0) {
    fail(s, errno);
    return;
  }
  writer_advance(w, (size_t)n);
  if (w->unsent <= w->low) {
    wake_all(&w->drainers, push_drained, s);
    grant_next(w);
  }
  if (w->unsent == 0)
    when_sent(s);
}

// The Stream's Writer, made when there is none; `self` is the userdata.
static Writer *need_writer(lua_State *L, Stream *s, int self) {
  if (s->writer)
    return s->writer;
  Runtime *rt = s->rt;
  lua_pushvalue(L, self);
  int anchor = anchor_take(rt, L);
  Writer *w = runtime_realloc(rt, NULL, 0, sizeof *w);
  if (!w) {
    anchor_drop(rt, L, anchor);
    luaL_error(L, "not enough memory");
  }
  memset(w, 0, sizeof *w);
  w->stream = s;
  w->high = HIGH_WATER;
  w->low = LOW_WATER;
  ev_io_init(&w->io, on_writable, s->fd, EV_WRITE);
  w->io.data = w;
  s->anchor = anchor; // unsent data is sent even if nobody holds the Stream
  s->writer = w;
  return w;
}

// ---- writing ---------------------------------------------------------------

static int raise_write_error(lua_State *L, const Stream *s) {
  // After a reset the kernel says EPIPE to who writes again.
  int err = s->read_error == ECONNRESET ? ECONNRESET : s->write_error;
  return stream_raise(L, s, err, "write");
}

static void check_writable(lua_State *L, const Stream *s) {
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
  Writer *w = need_writer(L, s, 1);
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
  ev_io_start(s->rt->loop, &w->io);
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
  ssize_t n = send_some(s, pieces, count);
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

// Sends or queues the strings at index 2 and up.
static void write_strings(lua_State *L, Stream *s) {
  int last = lua_gettop(L);
  size_t total = total_size(L, 2, last), sent = 0;
  if (stream_unsent(s) == 0)
    sent = send_now(L, s, 2, last);
  if (s->write_error) {
    if (s->writer)
      fail(s, s->write_error);
    raise_write_error(L, s);
  }
  if (sent < total)
    queue_rest(L, s, 2, last, sent);
}

static bool is_broken(const Stream *s) {
  return (s->flags & STREAM_CLOSED) || s->write_error ||
         s->read_error == ECONNRESET;
}

// Nothing can be written any more: who waits to is told so.
static void give_up(Stream *s) {
  stream_stop_writers(s);
  if (!is_needed(s->writer))
    stream_drop_writer(s);
}

// In the task whose turn it is: everything may have changed meanwhile.
static int push_write(lua_State *L, void *ud) {
  Stream *s = ud;
  if (s->writer) {
    s->writer->granted = false;
    if (is_broken(s))
      give_up(s);
  }
  check_writable(L, s);
  write_strings(L, s);
  if (!s->writer)
    return 0;
  grant_next(s->writer);
  if (!is_needed(s->writer))
    stream_drop_writer(s);
  return 0;
}

static int push_queued(lua_State *L, void *ud) {
  check_writable(L, ud);
  write_strings(L, ud);
  return 0;
}

static int abort_write(moonloop_wait *w, void *ud) {
  Writer *writer = ((Stream *)ud)->writer;
  if (w->state == WAIT_WOKEN) { // its turn had come, and is the next one's now
    if (writer && writer->granted) {
      writer->granted = false;
      grant_next(writer);
    }
    return 1;
  }
  wait_list_remove(&writer->writers, task_of_wait(w));
  return 1;
}

static void describe_as(moonloop_wait *w, const char *what, char *text,
                        size_t size) {
  Stream *s = w->abort_ud;
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  snprintf(text, size, "%s %s %s", what, s->transport->name, name);
}

static void describe_write(Runtime *rt, moonloop_wait *w, char *text,
                           size_t size) {
  (void)rt;
  describe_as(w, "write", text, size);
}

static bool must_wait(const Stream *s) {
  const Writer *w = s->writer;
  return w && (w->unsent > w->high || w->writers.first || w->granted);
}

static void check_strings(lua_State *L, int first) {
  for (int i = first, last = lua_gettop(L); i <= last; i++) {
    if (lua_type(L, i) != LUA_TSTRING && lua_type(L, i) != LUA_TNUMBER)
      luaL_typeerror(L, i, "string");
    lua_tostring(L, i); // a number becomes its text in place
  }
}

// Writes the strings at 2 and up, in this task's turn.
static int perform_write(lua_State *L, Stream *s) {
  bool now = wait_may_complete(s->rt, L);
  if (now && !must_wait(s)) {
    write_strings(L, s);
    return 0;
  }
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_write, s, describe_write);
  if (!must_wait(s)) {
    wait_wake_later(w, push_queued, s);
    return moonloop_await(L, w);
  }
  w->flags |= WAIT_TELLS;
  wait_list_add(&s->writer->writers, task_of_wait(w));
  return moonloop_await(L, w);
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
  check_strings(L, 2);
  check_writable(L, s);
  return perform_write(L, s);
}

// Puts the strings of the list at index 2 on the stack instead of it.
static void unpack_list(lua_State *L) {
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
  unpack_list(L);
  check_writable(L, s);
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
  check_strings(L, 2);
  check_writable(L, s);
  bool free_to_write = !must_wait(s);
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
  describe_as(w, "drain", text, size);
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
  if (over)
    wait_list_add(&s->writer->drainers, task_of_wait(w));
  else
    wait_wake_later(w, push_drained, s);
  return moonloop_await(L, w);
}

/// Says that nothing more will be written, after what is queued; reading goes
/// on. Twice is fine.
// @function Stream:write_eof
// @raise BrokenPipeError, ConnectionResetError, OSError as `write`;
// InvalidStateError when closed
// @see asyncio.StreamWriter.write_eof
static int l_write_eof(lua_State *L) {
  Stream *s = stream_check(L);
  if (s->flags & STREAM_ENDING)
    return 0;
  check_writable(L, s);
  s->flags |= STREAM_ENDING;
  if (stream_unsent(s) > 0)
    return 0;
  s->flags |= STREAM_ENDED;
  s->transport->shut_write(s);
  return 0;
}

/// Tells whether `write_eof` is possible here.
// @function Stream:can_write_eof
// @see asyncio.StreamWriter.can_write_eof
static int l_can_write_eof(lua_State *L) {
  stream_check_any(L);
  lua_pushboolean(L, true);
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
