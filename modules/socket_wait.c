// SPDX-License-Identifier: MIT
//
// The waits of a Socket: one task in each direction. What is read is taken in
// the callback, and the task resumed there, so that no failing call is tried
// before each wait; the read watcher stays armed while somebody comes back for
// more. accept and connect are here too.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "host/error.h"
#include "host/task.h"
#include "socket.h"

// ---- watchers --------------------------------------------------------------

// A watcher does not keep the loop alive; the wait of a task does.
static void watch(lua_State *L, Socket *s, ev_io *io) {
  if (ev_is_active(io))
    return;
  if (fcntl(s->fd, F_GETFD) < 0) // libev would end the process
    socket_raise(L, s, errno, "wait");
  ev_io_start(s->rt->loop, io);
  ev_unref(s->rt->loop);
}

static void unwatch(Socket *s, ev_io *io) {
  if (!ev_is_active(io))
    return;
  ev_ref(s->rt->loop);
  ev_io_stop(s->rt->loop, io);
}

static void on_readable(struct ev_loop *loop, ev_io *io, int revents) {
  Socket *s = io->data;
  SocketWait *side = &s->reading;
  (void)loop, (void)revents;
  s->maybe_readable = true;
  if (!side->wait) {
    unwatch(s, io);
    return;
  }
  if (!runtime_may_resume(s->rt) || !side->attempt(s))
    return;
  moonloop_wait *w = side->wait;
  side->wait = NULL;
  moonloop_wake(w, side->push, s);
}

// The side stays the task's until that goes on, so that no other gets between.
static int push_writing(lua_State *L, void *ud) {
  Socket *s = ud;
  s->writing.wait = NULL;
  return s->writing.push(L, s);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents) {
  Socket *s = io->data;
  (void)loop, (void)revents;
  unwatch(s, io);
  if (s->writing.wait)
    moonloop_wake(s->writing.wait, push_writing, s);
}

// Seconds between tries.
static const double FIRST_RETRY = 0.001, LONGEST_RETRY = 0.05;

static void on_retry(Runtime *rt, Timer *t) {
  Socket *s = (Socket *)((char *)t - offsetof(Socket, retry));
  (void)rt;
  if (s->writing.wait)
    moonloop_wake(s->writing.wait, push_writing, s);
}

void socket_watch_init(Socket *s) {
  s->retry.fire = on_retry;
  ev_io_init(&s->reading.io, on_readable, s->fd, EV_READ);
  ev_io_init(&s->writing.io, on_writable, s->fd, EV_WRITE);
  s->reading.io.data = s->writing.io.data = s;
}

void socket_unwatch(Socket *s) {
  unwatch(s, &s->reading.io);
  unwatch(s, &s->writing.io);
  timer_stop(s->rt, &s->retry);
}

// ---- waiting ---------------------------------------------------------------

static int push_closed(lua_State *L, void *ud) {
  (void)ud;
  return error_raise(L, "InvalidStateError",
                     "the socket was closed while the task waited");
}

static void stop(SocketWait *side) {
  moonloop_wait *w = side->wait;
  side->wait = NULL;
  if (w)
    wait_wake_later(w, push_closed, NULL);
}

void socket_stop_waits(Socket *s) {
  stop(&s->reading);
  stop(&s->writing);
}

static int abort_read(moonloop_wait *w, void *ud) {
  (void)w;
  ((Socket *)ud)->reading.wait = NULL;
  return 1;
}

static int abort_write(moonloop_wait *w, void *ud) {
  Socket *s = ud;
  (void)w;
  s->writing.wait = NULL;
  unwatch(s, &s->writing.io);
  timer_stop(s->rt, &s->retry);
  return 1;
}

static void describe_side(moonloop_wait *w, const SocketWait *side, char *text,
                          size_t size) {
  Socket *s = w->abort_ud;
  char address[ADDRESS_TEXT_SIZE];
  address_format(&s->address.of.any, s->address.size, address, sizeof address);
  snprintf(text, size, "%s %s %s", side->what, socket_kind(s), address);
}

static void describe_read(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  (void)rt;
  describe_side(w, &((Socket *)w->abort_ud)->reading, text, size);
}

static void describe_write(Runtime *rt, moonloop_wait *w, char *text,
                           size_t size) {
  (void)rt;
  describe_side(w, &((Socket *)w->abort_ud)->writing, text, size);
}

void socket_check_free(lua_State *L, const Socket *s, const SocketWait *side) {
  if (!side->wait)
    return;
  char name[64];
  task_name(s->rt, task_of_wait(side->wait), name, sizeof name);
  error_raise(L, "InvalidStateError", "task '%s' waits on this socket already",
              name);
}

int socket_read(lua_State *L, Socket *s, const char *what,
                bool (*attempt)(Socket *s), moonloop_push_fn push) {
  SocketWait *side = &s->reading;
  socket_check_free(L, s, side);
  bool now = wait_may_complete(s->rt, L);
  if (now && s->maybe_readable && attempt(s))
    return push(L, s);
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_read, s, describe_read);
  watch(L, s, &side->io);
  side->wait = w;
  side->what = what;
  side->attempt = attempt;
  side->push = push;
  return moonloop_await(L, w);
}

int socket_wait_writable(lua_State *L, Socket *s, const char *what,
                         moonloop_push_fn push) {
  SocketWait *side = &s->writing;
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_write, s, describe_write);
  w->flags |= WAIT_TELLS;
  watch(L, s, &side->io);
  side->wait = w;
  side->what = what;
  side->push = push;
  return moonloop_await(L, w);
}

int socket_wait_retry(lua_State *L, Socket *s, const char *what,
                      moonloop_push_fn push) {
  SocketWait *side = &s->writing;
  double delay = s->retry_delay > 0 ? s->retry_delay : FIRST_RETRY;
  s->retry_delay = delay < LONGEST_RETRY / 2 ? 2 * delay : LONGEST_RETRY;
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_write, s, describe_write);
  side->what = what;
  side->push = push;
  w->flags |= WAIT_TELLS;
  timer_start(s->rt, L, &s->retry, clock_now(s->rt) + delay);
  side->wait = w;
  return moonloop_await(L, w);
}

// ---- accept ----------------------------------------------------------------

// Errors of a connection that was over before it was accepted: go on.
static bool is_transient(int err) {
  return err == EINTR || err == ECONNABORTED || err == EPROTO ||
         err == ENETDOWN || err == ENOPROTOOPT || err == EHOSTDOWN ||
         err == EHOSTUNREACH || err == ENETUNREACH || err == EPERM ||
         err == ENONET;
}

// Takes one connection. False when there is none (an error counts as one).
static bool take_connection(Socket *s) {
  for (int tries = 0; tries < 16 && s->accepted < 0; tries++) {
    s->accepted = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s->accepted >= 0)
      return true;
    s->error = errno;
    if (s->error == EAGAIN || s->error == EWOULDBLOCK) {
      s->maybe_readable = false;
      return false;
    }
    if (!is_transient(s->error))
      return true;
  }
  return s->accepted >= 0;
}

static int push_accepted_fd(lua_State *L, void *ud) {
  Socket *s = ud;
  if (s->accepted < 0)
    return socket_raise(L, s, s->error, "accept");
  lua_pushinteger(L, s->accepted);
  s->accepted = -1;
  return 1;
}

static int push_accepted(lua_State *L, void *ud) {
  Socket *s = ud;
  if (s->accepted < 0)
    return socket_raise(L, s, s->error, "accept");
  int fd = s->accepted;
  s->accepted = -1;
  Socket *peer = socket_adopt(s->rt, L, fd);
  address_of_peer(peer->fd, &peer->address);
  address_push(L, &peer->address.of.any, peer->address.size);
  return 2;
}

// Takes the next connection. Awaits. -> descriptor
static int l_accept_fd(lua_State *L) {
  Socket *s = socket_check(L);
  return socket_read(L, s, "accept", take_connection, push_accepted_fd);
}

/// Takes the next connection of a listening socket. Awaits.
// @function Socket:accept
// @return Socket, and the peer's address
// @raise InvalidStateError when it is closed, also while it waits, does not
// listen, or another task accepts; OSError, code EMFILE when descriptors are
// out; see Awaiting functions
// @see asyncio.loop.sock_accept
static int l_accept(lua_State *L) {
  Socket *s = socket_check(L);
  if (!s->listening)
    error_raise(L, "InvalidStateError", "the socket does not listen");
  return socket_read(L, s, "accept", take_connection, push_accepted);
}

// ---- connect ---------------------------------------------------------------

static int push_connected(lua_State *L, void *ud) {
  Socket *s = ud;
  socklen_t size = sizeof s->error;
  getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &s->error, &size);
  if (s->error != 0)
    return socket_raise(L, s, s->error, "connect");
  return 0;
}

static int push_connect(lua_State *L, void *ud) {
  Socket *s = ud;
  int rc;
  do
    rc = connect(s->fd, &s->address.of.any, s->address.size);
  while (rc < 0 && errno == EINTR);
  // The backlog of a Unix socket is full, and nothing tells when there is room.
  if (rc < 0 && errno == EAGAIN && s->family == AF_UNIX)
    return socket_wait_retry(L, s, "connect", push_connect);
  if (rc < 0 && errno != EINPROGRESS)
    return socket_raise(L, s, errno, "connect");
  if (rc == 0 && wait_may_complete(s->rt, L))
    return 0;
  return socket_wait_writable(L, s, "connect", push_connected);
}

// Connects to {host=, port=} or {path=}. Awaits.
static int l_connect_address(lua_State *L) { // socket address
  Socket *s = socket_check(L);
  Address to;
  address_check(L, 2, s->family, false, &to);
  socket_check_free(L, s, &s->writing);
  wait_check(s->rt, L);
  s->address = to;
  s->retry_delay = 0;
  return push_connect(L, s);
}

const luaL_Reg socket_wait_methods[] = {
    {"accept",          l_accept         },
    {"accept_fd",       l_accept_fd      },
    {"connect_address", l_connect_address},
    {NULL,              NULL             },
};
