// SPDX-License-Identifier: MIT
//
// Streams: making one of a descriptor, closing it, and what else is not reading
// or writing. The plain socket transport is here too.
#include "stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/task.h"
#include "socket.h"

enum { DEFAULT_LIMIT = 1 << 20 };

// ---- the plain transport ---------------------------------------------------

static ssize_t tcp_receive(Stream *s, void *data, size_t size) {
  return recv(s->fd, data, size, 0);
}

static ssize_t tcp_send(Stream *s, const struct iovec *pieces, int count) {
  if (count == 1)
    return send(s->fd, pieces->iov_base, pieces->iov_len, MSG_NOSIGNAL);
  struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                           .msg_iovlen = (size_t)count};
  return sendmsg(s->fd, &message, MSG_NOSIGNAL);
}

static int tcp_shut_write(Stream *s) { return shutdown(s->fd, SHUT_WR); }

static void tcp_close(Stream *s) { close(s->fd); }

const Transport stream_tcp = {"tcp", tcp_receive, tcp_send, tcp_shut_write,
                              tcp_close};

// ---- helpers ---------------------------------------------------------------

Stream *stream_check(lua_State *L) {
  Stream *s = stream_check_any(L);
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    error_raise(L, "InvalidStateError", "the stream is closed");
  return s;
}

void stream_name(const Stream *s, char *text, size_t size) {
  address_format(&s->peer, text, size);
}

int stream_raise(lua_State *L, const Stream *s, int err, const char *op) {
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  return error_raise_errno(L, err, op, name);
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
  while (s->closers.first) {
    Task *t = s->closers.first;
    wait_list_remove(&s->closers, t);
    wait_wake_later(&t->wait, push_closed, s);
  }
  resource_remove(s->rt, &s->resource);
  stream_drop_data(s);
  s->transport->close(s);
  s->fd = -1;
  stream_drop_writer(s); // last: it lets go of the userdata
}

static void begin_close(Stream *s) {
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    return;
  s->flags |= STREAM_CLOSING;
  stream_unwatch(s);
  stream_stop_reader(s);
  stream_drop_data(s);
  if (stream_unsent(s) == 0)
    stream_finish_close(s);
  else
    stream_stop_writers(s);
}

static void abort_stream(Stream *s) {
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
  begin_close(stream_check_any(L));
  return 0;
}

/// Closes at once and drops unsent data. Twice is fine.
// @function Stream:abort
// @see asyncio.WriteTransport.abort
static int l_abort(lua_State *L) {
  abort_stream(stream_check_any(L));
  return 0;
}

static int abort_wait_closed(moonloop_wait *w, void *ud) {
  Stream *s = ud;
  wait_list_remove(&s->closers, task_of_wait(w));
  return 1;
}

static void describe_wait_closed(Runtime *rt, moonloop_wait *w, char *text,
                                 size_t size) {
  Stream *s = w->abort_ud;
  char name[ADDRESS_TEXT_SIZE];
  (void)rt;
  stream_name(s, name, sizeof name);
  snprintf(text, size, "close %s %s", s->transport->name, name);
}

// Cancelled at the end of a block: the flush is given up.
static int abort_flush(moonloop_wait *w, void *ud) {
  abort_wait_closed(w, ud);
  abort_stream(ud);
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
  return wait_closed(L, stream_check_any(L), abort_wait_closed);
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
    abort_stream(s);
    return 0;
  }
  begin_close(s);
  lua_settop(L, 1);
  if ((s->flags & STREAM_CLOSED) || !s->rt->current)
    return 0;
  return wait_closed(L, s, abort_flush);
}

// ---- the object ------------------------------------------------------------

static void describe(Resource *r, char *text, size_t size) {
  Stream *s = (Stream *)((char *)r - offsetof(Stream, resource));
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  snprintf(text, size, "stream %s %s", s->transport->name, name);
}

static void abort_resource(Resource *r) {
  abort_stream((Stream *)((char *)r - offsetof(Stream, resource)));
}

static int l_gc(lua_State *L) {
  Stream *s = stream_check_any(L);
  if (s->flags & STREAM_CLOSED)
    return 0;
  if (s->rt->loop) {
    abort_stream(s);
    return 0;
  }
  s->flags |= STREAM_CLOSED; // the loop and its watchers are gone
  stream_drop_data(s);
  stream_drop_writer(s);
  s->transport->close(s);
  return 0;
}

static void push_sockname(lua_State *L, const Stream *s) {
  Address a;
  socklen_t size = sizeof a;
  memset(&a, 0, sizeof a);
  if (s->fd < 0 || getsockname(s->fd, &a.any, &size) < 0)
    lua_pushnil(L);
  else
    address_push(L, &a);
}

/// Asks about what is below the stream.
// @function Stream:get_extra_info
// @param name string: "peername" or "sockname"
// @param[opt] default any value, returned for what is not known
// @return {host= (string), port= (integer)}
// @see asyncio.BaseTransport.get_extra_info
static int l_get_extra_info(lua_State *L) {
  Stream *s = stream_check_any(L);
  const char *name = luaL_checkstring(L, 2);
  lua_settop(L, 3);
  if (strcmp(name, "peername") == 0)
    address_push(L, &s->peer);
  else if (strcmp(name, "sockname") == 0)
    push_sockname(L, s);
  else
    lua_pushnil(L);
  if (lua_isnil(L, -1))
    lua_pushvalue(L, 3);
  return 1;
}

/// Gives the descriptor, which stays the stream's.
// @function Stream:fileno
// @return integer, -1 when closed
// @see socket.socket.fileno
static int l_fileno(lua_State *L) {
  lua_pushinteger(L, stream_check_any(L)->fd);
  return 1;
}

static int l_tostring(lua_State *L) {
  Stream *s = stream_check_any(L);
  char name[ADDRESS_TEXT_SIZE];
  stream_name(s, name, sizeof name);
  const char *state = s->flags & STREAM_CLOSED    ? "closed"
                      : s->flags & STREAM_CLOSING ? "closing"
                                                  : "open";
  lua_pushfstring(L, "Stream: %s %s (%s)", s->transport->name, name, state);
  return 1;
}

static void own(Runtime *rt, lua_State *L, Stream *s, int fd) {
  socklen_t size = sizeof s->peer;
  s->fd = fd;
  getpeername(fd, &s->peer.any, &size);
  ev_io_init(&s->io, stream_on_readable, fd, EV_READ);
  s->io.data = s;
  s->resource.describe = describe;
  s->resource.abort = abort_resource;
  resource_add(rt, L, &s->resource);
}

// Makes a Stream of a Socket (which it empties) or of a descriptor that it
// then owns. -> stream
static int l_stream(lua_State *L) { // socket or descriptor, [limit]
  Runtime *rt = runtime_upvalue(L);
  lua_Integer limit = luaL_optinteger(L, 2, DEFAULT_LIMIT);
  luaL_argcheck(L, limit > 0 && limit <= INT32_MAX, 2,
                "option 'limit' is out of range");
  Stream *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  s->rt = rt;
  s->transport = &stream_tcp;
  s->fd = -1;
  s->anchor = LUA_NOREF;
  s->flags = STREAM_CLOSED; // until it has something to close
  s->limit = (uint32_t)limit;
  luaL_setmetatable(L, STREAM_CLASS);
  runtime_check_open(rt, L);
  int fd = lua_isinteger(L, 1) ? (int)lua_tointeger(L, 1) : socket_detach(L, 1);
  s->flags = 0;
  own(rt, L, s, fd);
  return 1;
}

// The streams of some runs whose data is not out: a list.
static int l_unsent_streams(lua_State *L) { // first last
  Runtime *rt = runtime_upvalue(L);
  int first = (int)luaL_checkinteger(L, 1);
  int last = (int)luaL_checkinteger(L, 2), n = 0;
  lua_newtable(L);
  for (Resource *r = rt->resources; r; r = r->next) {
    if (r->describe != describe || r->run_id < first || r->run_id > last)
      continue;
    Stream *s = (Stream *)((char *)r - offsetof(Stream, resource));
    if (stream_unsent(s) == 0)
      continue;
    anchor_push(rt, L, s->anchor);
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

static const luaL_Reg methods[] = {
    {"close",          l_close         },
    {"abort",          l_abort         },
    {"wait_closed",    l_wait_closed   },
    {"is_closing",     l_is_closing    },
    {"get_extra_info", l_get_extra_info},
    {"fileno",         l_fileno        },
    {NULL,             NULL            },
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc            },
    {"__close",    l_close_variable},
    {"__tostring", l_tostring      },
    {NULL,         NULL            },
};

static const luaL_Reg functions[] = {
    {"stream",         l_stream        },
    {"unsent_streams", l_unsent_streams},
    {NULL,             NULL            },
};

void stream_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, STREAM_CLASS, methods, meta);
  lua_getfield(L, -1, "__index");
  runtime_set_functions(rt, L, stream_read_methods);
  runtime_set_functions(rt, L, stream_write_methods);
  lua_setfield(L, -3, "stream_methods");
  lua_pop(L, 1);
  runtime_set_functions(rt, L, functions);
}
