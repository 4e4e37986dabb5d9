// SPDX-License-Identifier: MIT
//
// Streams: closing one, and what else is not making, reading or writing.
#include "stream.h"

#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "host/task.h"
#include "socket.h"
#include "stream_protocol.h"
#include "stream_queue.h"

// ---- helpers ---------------------------------------------------------------

Stream *stream_check_both(lua_State *L, int arg) {
  Stream *s = luaL_testudata(L, arg, STREAM_CLASS);
  return s ? s : luaL_checkudata(L, arg, STREAM_PUSH_CLASS);
}

Stream *stream_check(lua_State *L) {
  Stream *s = stream_check_any(L);
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    error_raise(L, "InvalidStateError", "the stream is closed");
  return s;
}

int stream_raise_starting(lua_State *L) {
  return error_raise(L, "InvalidStateError",
                     "TLS is being started on the stream");
}

void stream_name(const Stream *s, char *text, size_t size) {
  if (s->label)
    snprintf(text, size, "%s", s->label);
  else
    address_format(&s->peer.any, sizeof s->peer, text, size);
}

void stream_describe(const Stream *s, const char *what, char *text,
                     size_t size) {
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  snprintf(text, size, "%s %s %s", what, s->transport->name, name);
}

void stream_push_error(lua_State *L, const Stream *s, int err, const char *op) {
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  if (err >= STREAM_FAILED)
    s->transport->filter->push_error(L, s, err, op);
  else
    moonloop_error_errno(L, err, op, name);
}

int stream_raise(lua_State *L, const Stream *s, int err, const char *op) {
  stream_push_error(L, s, err, op);
  return lua_error(L);
}

const Transport *stream_bottom(const Stream *s) {
  const Filter *filter = s->transport->filter;
  return filter ? filter->below(s) : s->transport;
}

// ---- closing ---------------------------------------------------------------

static int push_closed(lua_State *L, void *ud) {
  Stream *s = ud;
  if (s->write_error && !(s->flags & STREAM_ABORTED))
    return stream_raise(L, s, s->write_error, "close");
  return 0;
}

void stream_finish_close(Stream *s) {
  if (s->flags & STREAM_CLOSED)
    return;
  s->flags |= STREAM_CLOSED;
  stream_unwatch(s);
  stream_stop_writers(s);
  if (s->push)
    push_lost(s); // before those who wait for the end go on
  while (s->closers.first) {
    Task *t = s->closers.first;
    wait_list_remove(&s->closers, t);
    wait_wake_later(&t->wait, push_closed, s);
  }
  resource_remove(s->rt, &s->resource);
  stream_drop_data(s);
  if (s->fd >= 0)
    s->transport->close(s);
  s->fd = -1;
  stream_drop_writer(s); // last: it lets go of the userdata
}

bool stream_announce_end(Stream *s) {
  if (!s->transport->filter || s->write_error)
    return true;
  s->flags |= STREAM_ENDING | STREAM_ENDED;
  s->transport->shut_write(s);
  return !(s->flags & (STREAM_HELD | STREAM_LINGERS));
}

void stream_await_end(Stream *s) {
  if (!(s->flags & STREAM_LINGERS) && !writer_watch(s->writer))
    stream_finish_close(s);
}

// The first part of closing: no more is read. False when that was before.
static bool stop_reading(Stream *s) {
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    return false;
  s->flags |= STREAM_CLOSING;
  stream_unwatch(s);
  stream_stop_reader(s);
  stream_drop_data(s);
  if (s->writer && s->writer->pen_taken) // a file is cut short: nothing follows
    writer_drop_pieces(s->writer);
  return true;
}

void stream_begin_close(lua_State *L, Stream *s, int self) {
  if (!stop_reading(s))
    return;
  if (s->writer && s->writer->unsent > 0) {
    stream_stop_writers(s);
  } else if (stream_announce_end(s)) {
    stream_finish_close(s);
  } else {
    writer_need(L, s, self); // keeps the stream until then
    stream_stop_writers(s);
    stream_await_end(s);
  }
}

void stream_abort(Stream *s) {
  if (s->flags & STREAM_CLOSED)
    return;
  s->flags |= STREAM_CLOSING | STREAM_ABORTED;
  stream_stop_reader(s);
  stream_finish_close(s);
}

/// Flushes what is queued, then closes. Does not wait for it. Twice is fine. A
/// task that reads or waits to write gets an InvalidStateError.
// @function Stream:close
// @see asyncio.StreamWriter.close
static int l_close(lua_State *L) {
  stream_begin_close(L, stream_check_any(L), 1);
  return 0;
}

/// Closes at once and drops unsent data. Twice is fine.
// @function Stream:abort
// @see asyncio.WriteTransport.abort
static int l_abort(lua_State *L) {
  stream_abort(stream_check_any(L));
  return 0;
}

static int abort_wait_closed(moonloop_wait *w, void *ud) {
  Stream *s = ud;
  wait_list_remove(&s->closers, task_of_wait(w));
  return 1;
}

static void describe_wait_closed(Runtime *rt, moonloop_wait *w, char *text,
                                 size_t size) {
  (void)rt;
  stream_describe(w->abort_ud, "close", text, size);
}

// Cancelled at the end of a block: the flush is given up.
static int abort_flush(moonloop_wait *w, void *ud) {
  abort_wait_closed(w, ud);
  stream_abort(ud);
  return 1;
}

static int wait_closed(lua_State *L, Stream *s, moonloop_abort_fn abort_fn) {
  bool closed = s->flags & STREAM_CLOSED;
  if (wait_may_complete(s->rt, L) && closed)
    return push_closed(L, s);
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_fn, s, describe_wait_closed);
  if (closed)
    wait_wake_later(w, push_closed, s);
  else
    wait_list_add(&s->closers, task_of_wait(w));
  return moonloop_await(L, w);
}

/// Waits until the stream is closed and its data out. Awaits.
// @function Stream:wait_closed
// @raise BrokenPipeError, ConnectionResetError or another OSError that kept
// queued data from being sent; see Awaiting functions
// @see asyncio.StreamWriter.wait_closed
static int l_wait_closed(lua_State *L) {
  return wait_closed(L, stream_check_both(L, 1), abort_wait_closed);
}

/// Tells whether it is closed, or closing.
// @function Stream:is_closing
// @see asyncio.StreamWriter.is_closing
static int l_is_closing(lua_State *L) {
  Stream *s = stream_check_any(L);
  lua_pushboolean(L, s->flags & (STREAM_CLOSING | STREAM_CLOSED));
  return 1;
}

/// Closes when the block is left, and waits until the data is out; after an
/// error or a cancellation it aborts instead, and also when it is cancelled
/// while it waits. Outside a task it does not wait. Awaits.
// @function Stream:__close
// @raise as `wait_closed`
// @see contextlib.aclosing
static int l_close_variable(lua_State *L) { // stream error
  Stream *s = stream_check_any(L);
  if (!lua_isnoneornil(L, 2)) {
    stream_abort(s);
    return 0;
  }
  Task *t = s->rt->current;
  if (t && !scope_is_quiet(t->scope)) { // cancelled already
    stream_abort(s);
    return 0;
  }
  stream_begin_close(L, s, 1);
  lua_settop(L, 1);
  if ((s->flags & STREAM_CLOSED) || !t)
    return 0;
  return wait_closed(L, s, abort_flush);
}

// ---- the object ------------------------------------------------------------

static Stream *of_resource(Resource *r) {
  return (Stream *)((char *)r - offsetof(Stream, resource));
}

static void describe(Resource *r, char *text, size_t size) {
  Stream *s = of_resource(r);
  stream_describe(s, s->push ? "transport" : "stream", text, size);
}

static void abort_resource(Resource *r) {
  Stream *s = of_resource(r);
  s->flags |= STREAM_DROPPED;
  stream_abort(s);
}

static const ResourceKind kind = {describe, abort_resource};

void stream_own(lua_State *L, Stream *s, int fd, const Transport *transport) {
  resource_add(s->rt, L, &s->resource, &kind);
  s->transport = transport;
  s->flags = 0;
  s->fd = fd;
  ev_io_init(&s->io, stream_on_readable, fd, EV_READ);
  s->io.data = s;
}

static int l_gc(lua_State *L) {
  Stream *s = stream_check_both(L, 1);
  s->flags |= STREAM_DROPPED;
  if (s->push)
    push_forget(s);
  if (s->rt->loop) {
    stream_abort(s);
  } else if (!(s->flags & STREAM_CLOSED)) {
    s->flags |= STREAM_CLOSED; // the loop and its watchers are gone
    stream_drop_data(s);
    stream_drop_writer(s);
    if (s->fd >= 0)
      s->transport->close(s);
  }
  stream_free(s);
  return 0;
}

// For Lua: what `get_extra_info` knows of the descriptor. The peer's address
// is known also when it is closed. -> the peer's address, or nil
static int l_peername(lua_State *L) {
  Stream *s = stream_check_both(L, 1);
  Address a;
  if (stream_bottom(s) == &stream_unix) {
    address_of_peer(s->fd, &a);
    if (s->fd < 0 && s->push && s->push->names)
      a = s->push->names->peer;
    address_push(L, &a.of.any, a.size);
  } else {
    address_push(L, &s->peer.any, sizeof s->peer);
  }
  return 1;
}

static int l_sockname(lua_State *L) { // -> its own address, or nil
  Stream *s = stream_check_both(L, 1);
  Address a;
  address_of_socket(s->fd, &a);
  if (s->fd < 0 && s->push && s->push->names)
    a = s->push->names->own;
  address_push(L, &a.of.any, a.size);
  return 1;
}

// Whether it was closed by nobody's wish.
static int l_was_dropped(lua_State *L) {
  lua_pushboolean(L, stream_check_any(L)->flags & STREAM_DROPPED);
  return 1;
}

// Gives back what was read and came to no use.
static int l_unread(lua_State *L) { // stream data
  Stream *s = stream_check_any(L);
  size_t size;
  const char *data = luaL_checklstring(L, 2, &size);
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    return 0;
  if (!stream_unread(s, data, size))
    return luaL_error(L, "not enough memory");
  stream_look_again(s);
  return 0;
}

static int l_is_transport(lua_State *L) {
  lua_pushboolean(L, stream_check_both(L, 1)->push != NULL);
  return 1;
}

// -> "127.0.0.1:80", or what else it is known by
static int l_name(lua_State *L) {
  char name[ADDRESS_TEXT_SIZE];
  stream_name(stream_check_both(L, 1), name, sizeof name);
  lua_pushstring(L, name);
  return 1;
}

// -> "tcp", "unix", "pipe", ..., "tls"
static int l_kind(lua_State *L) {
  lua_pushstring(L, stream_check_both(L, 1)->transport->name);
  return 1;
}

// The same, below a filter.
static int l_bottom(lua_State *L) {
  lua_pushstring(L, stream_bottom(stream_check_both(L, 1))->name);
  return 1;
}

/// Gives the descriptor, which stays the stream's.
// @function Stream:fileno
// @return integer, -1 when closed
// @see socket.socket.fileno
static int l_fileno(lua_State *L) {
  lua_pushinteger(L, stream_check_both(L, 1)->fd);
  return 1;
}

static int l_tostring(lua_State *L) {
  Stream *s = stream_check_both(L, 1);
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  const char *state = s->flags & STREAM_CLOSED    ? "closed"
                      : s->flags & STREAM_CLOSING ? "closing"
                                                  : "open";
  lua_pushfstring(L, "%s: %s %s (%s)", s->push ? "Transport" : "Stream",
                  s->transport->name, name, state);
  return 1;
}

static bool is_of_runs(const Resource *r, int first, int last) {
  return r->kind == &kind && r->run_id >= first && r->run_id <= last;
}

// Whether nothing is left to be done for it. A filter has a last word.
static bool is_idle(const Stream *s) {
  return !s->push && !s->transport->filter && stream_unsent(s) == 0;
}

// Puts it on the stack, or nil while it is being collected.
static void push_stream(lua_State *L, const Stream *s) {
  if (s->anchor == LUA_NOREF && s->transport->filter)
    s->transport->filter->push(L, s);
  else
    anchor_push(s->rt, L, s->anchor);
}

// Closes the streams of some runs that have nothing to send: what waits to be
// sent to one of them need not be waited for.
static int l_close_idle_streams(lua_State *L) { // first last
  Runtime *rt = runtime_upvalue(L);
  int first = (int)luaL_checkinteger(L, 1);
  int last = (int)luaL_checkinteger(L, 2);
  for (Resource *r = rt->resources, *next; r; r = next) {
    next = r->next;
    Stream *s = of_resource(r);
    if (is_of_runs(r, first, last) && is_idle(s))
      stream_begin_close(L, s, 0);
  }
  return 0;
}

// What some runs leave open that has to be ended in an orderly way: streams
// whose data is not out, and transports, whose protocols are to be told. Given
// no runs, the standard streams whose data is not out.
static int l_unfinished_streams(lua_State *L) { // [first last] -> list
  Runtime *rt = runtime_upvalue(L);
  int first = (int)luaL_optinteger(L, 1, RESOURCE_OF_NO_RUN);
  int last = (int)luaL_optinteger(L, 2, RESOURCE_OF_NO_RUN), n = 0;
  lua_newtable(L);
  for (Resource *r = rt->resources; r; r = r->next) {
    if (!is_of_runs(r, first, last) || is_idle(of_resource(r)))
      continue;
    push_stream(L, of_resource(r));
    if (lua_isnil(L, -1))
      lua_pop(L, 1);
    else
      lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const luaL_Reg methods[] = {
    {"close",       l_close      },
    {"abort",       l_abort      },
    {"wait_closed", l_wait_closed},
    {"is_closing",  l_is_closing },
    {"fileno",      l_fileno     },
    {NULL,          NULL         },
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc            },
    {"__close",    l_close_variable},
    {"__tostring", l_tostring      },
    {NULL,         NULL            },
};

static const luaL_Reg push_meta[] = {
    {"__gc",       l_gc      },
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

static const luaL_Reg functions[] = {
    {"unfinished_streams", l_unfinished_streams},
    {"close_idle_streams", l_close_idle_streams},
    {"stream_peername",    l_peername          },
    {"stream_sockname",    l_sockname          },
    {"stream_name",        l_name              },
    {"stream_kind",        l_kind              },
    {"stream_bottom",      l_bottom            },
    {"stream_wait_closed", l_wait_closed       },
    {"is_transport",       l_is_transport      },
    {"unread",             l_unread            },
    {"was_dropped",        l_was_dropped       },
    {NULL,                 NULL                },
};

// The classes share how they end; the rest each has for itself.
static void open_classes(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, STREAM_CLASS, methods, meta);
  lua_getfield(L, -1, "__index");
  runtime_set_functions(rt, L, stream_read_methods);
  runtime_set_functions(rt, L, stream_write_methods);
  lua_setfield(L, -3, "stream_methods");
  lua_pop(L, 1);
  runtime_new_class(rt, L, STREAM_PUSH_CLASS, push_methods, push_meta);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "transport_methods");
  lua_pop(L, 1);
}

void stream_open(Runtime *rt, lua_State *L) {
  open_classes(rt, L);
  runtime_set_functions(rt, L, functions);
  stream_make_open(rt, L);
  stream_push_open(rt, L);
  stream_sendfile_open(rt, L);
}
