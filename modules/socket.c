// SPDX-License-Identifier: MIT
//
// Sockets. A Socket owns a non-blocking descriptor and at most one task waits
// on it, to connect or to accept. The watcher of a listener stays armed while
// somebody accepts; a connection that arrives meanwhile is taken in the
// callback, so that no failing accept is tried before each wait.
#include "socket.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/resource.h"
#include "host/task.h"
#include "host/wait.h"
#include "socket_address.h"

typedef struct Socket {
  Runtime *rt;
  ev_io io;
  Resource resource;
  moonloop_wait *waiter;
  Address address; // what it listens on or connects to
  int fd;          // -1 when closed
  int accepted;    // a connection taken for the waiter, or -1
  int error;       // what the wait ended with
  bool listening;
  bool maybe_ready; // an accept may succeed at once
} Socket;

enum { BACKLOG = 4096 };

static const char CLASS[] = "moonloop.Socket";

static Socket *check_any(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, CLASS);
}

static Socket *check_socket(lua_State *L) {
  Socket *s = check_any(L, 1);
  if (s->fd < 0)
    error_raise(L, "InvalidStateError", "the socket is closed");
  return s;
}

// ---- the watcher -----------------------------------------------------------

static void unwatch(Socket *s) {
  if (!ev_is_active(&s->io))
    return;
  ev_ref(s->rt->loop);
  ev_io_stop(s->rt->loop, &s->io);
}

// A watcher does not keep the loop alive; the wait of a task does.
static void watch(Socket *s) {
  if (ev_is_active(&s->io))
    return;
  ev_io_start(s->rt->loop, &s->io);
  ev_unref(s->rt->loop);
}

static void close_socket(Socket *s) {
  if (s->fd < 0)
    return;
  unwatch(s);
  close(s->fd);
  s->fd = -1;
  if (s->accepted >= 0)
    close(s->accepted);
  s->accepted = -1;
  resource_remove(s->rt, &s->resource);
}

static void describe(Resource *r, char *text, size_t size) {
  Socket *s = (Socket *)((char *)r - offsetof(Socket, resource));
  char address[ADDRESS_TEXT_SIZE];
  address_format(&s->address, address, sizeof address);
  snprintf(text, size, "%s %s", s->listening ? "listening socket" : "socket",
           address);
}

static int push_closed(lua_State *L, void *ud) {
  (void)ud;
  return error_raise(L, "InvalidStateError",
                     "the socket was closed while the task waited");
}

static void abort_socket(Resource *r) {
  Socket *s = (Socket *)((char *)r - offsetof(Socket, resource));
  moonloop_wait *w = s->waiter;
  s->waiter = NULL;
  close_socket(s);
  if (w)
    wait_wake_later(w, push_closed, NULL);
}

// ---- accepting and connecting ----------------------------------------------

static int raise_about(lua_State *L, Socket *s, int err, const char *op) {
  char text[ADDRESS_TEXT_SIZE];
  address_format(&s->address, text, sizeof text);
  return error_raise_errno(L, err, op, text);
}

static int push_accepted(lua_State *L, void *ud) {
  Socket *s = ud;
  if (s->accepted < 0)
    return raise_about(L, s, s->error, "accept");
  lua_pushinteger(L, s->accepted);
  s->accepted = -1;
  return 1;
}

static int push_connected(lua_State *L, void *ud) {
  Socket *s = ud;
  if (s->error != 0) {
    int err = s->error;
    close_socket(s);
    return raise_about(L, s, err, "connect");
  }
  lua_settop(L, 1);
  return 1;
}

// Errors of a connection that was over before it was accepted: go on.
static bool is_transient(int err) {
  return err == EINTR || err == ECONNABORTED || err == EPROTO ||
         err == ENETDOWN || err == ENOPROTOOPT || err == EHOSTDOWN ||
         err == EHOSTUNREACH || err == ENETUNREACH;
}

// Takes one connection. False when there is none (an error counts as one).
static bool take_connection(Socket *s) {
  for (int tries = 0; tries < 16; tries++) {
    s->accepted = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (s->accepted >= 0)
      return true;
    s->error = errno;
    if (s->error == EAGAIN || s->error == EWOULDBLOCK) {
      s->maybe_ready = false;
      return false;
    }
    if (!is_transient(s->error))
      return true;
  }
  return false;
}

static void on_event(struct ev_loop *loop, ev_io *io, int revents) {
  Socket *s = io->data;
  moonloop_wait *w = s->waiter;
  (void)loop, (void)revents;
  s->maybe_ready = true;
  if (!w) {
    unwatch(s);
    return;
  }
  if (s->listening) {
    if (!take_connection(s))
      return;
    s->waiter = NULL;
    moonloop_wake(w, push_accepted, s);
    return;
  }
  socklen_t size = sizeof s->error;
  getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &s->error, &size);
  unwatch(s);
  s->waiter = NULL;
  moonloop_wake(w, push_connected, s);
}

static int abort_wait(moonloop_wait *w, void *ud) {
  Socket *s = ud;
  (void)w;
  s->waiter = NULL;
  if (!s->listening)
    close_socket(s); // half a connection is none
  return 1;
}

static void describe_wait(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  Socket *s = w->abort_ud;
  char address[ADDRESS_TEXT_SIZE];
  (void)rt;
  address_format(&s->address, address, sizeof address);
  snprintf(text, size, "%s %s", s->listening ? "accept tcp" : "connect tcp",
           address);
}

static void check_nobody_waits(lua_State *L, const Socket *s) {
  if (!s->waiter)
    return;
  char name[64];
  task_name(s->rt, task_of_wait(s->waiter), name, sizeof name);
  error_raise(L, "InvalidStateError", "task '%s' waits on this socket already",
              name);
}

// Takes the next connection. Awaits. -> descriptor
static int l_accept_fd(lua_State *L) {
  Socket *s = check_socket(L);
  lua_settop(L, 1);
  check_nobody_waits(L, s);
  bool now = wait_may_complete(s->rt, L);
  bool taken = s->accepted >= 0 || (s->maybe_ready && take_connection(s));
  if (taken && now)
    return push_accepted(L, s);
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_wait, s, describe_wait);
  if (taken) {
    wait_wake_later(w, push_accepted, s);
    return moonloop_await(L, w);
  }
  s->waiter = w;
  watch(s);
  return moonloop_await(L, w);
}

// Connects. Awaits. -> the socket
static int l_connect(lua_State *L) { // socket host port
  Socket *s = check_socket(L);
  const char *host = luaL_checkstring(L, 2);
  int port = (int)luaL_checkinteger(L, 3);
  luaL_argcheck(L, address_parse(&s->address, host, port), 2,
                "not a numeric address");
  check_nobody_waits(L, s);
  lua_settop(L, 1);
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_wait, s, describe_wait);
  int rc;
  do
    rc = connect(s->fd, &s->address.any, address_size(&s->address));
  while (rc < 0 && errno == EINTR);
  s->error = rc < 0 ? errno : 0;
  if (s->error != EINPROGRESS) {
    moonloop_wake(w, push_connected, s);
    return moonloop_await(L, w);
  }
  s->waiter = w;
  ev_io_set(&s->io, s->fd, EV_WRITE);
  watch(s);
  return moonloop_await(L, w);
}

// ---- making ----------------------------------------------------------------

static void set_flag(int fd, int level, int option) {
  int one = 1;
  setsockopt(fd, level, option, &one, sizeof one);
}

static Socket *new_socket(Runtime *rt, lua_State *L, int family) {
  Socket *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  s->rt = rt;
  s->fd = s->accepted = -1;
  luaL_setmetatable(L, CLASS);
  s->fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (s->fd < 0)
    error_raise_errno(L, errno, "socket", NULL);
  ev_io_init(&s->io, on_event, s->fd, EV_READ);
  s->io.data = s;
  s->resource.describe = describe;
  s->resource.abort = abort_socket;
  resource_add(rt, L, &s->resource);
  return s;
}

static int family_of(lua_State *L, int arg, const char *host) {
  Address a;
  luaL_argcheck(L, address_parse(&a, host, 0), arg, "not a numeric address");
  return a.any.sa_family;
}

// Makes a socket for connecting to a numeric host, bound to a local address if
// one is given. -> socket
static int l_tcp_socket(lua_State *L) { // host [local_host local_port]
  Runtime *rt = runtime_upvalue(L);
  runtime_check_open(rt, L);
  Socket *s = new_socket(rt, L, family_of(L, 1, luaL_checkstring(L, 1)));
  set_flag(s->fd, IPPROTO_TCP, TCP_NODELAY);
  if (lua_isnoneornil(L, 2))
    return 1;
  luaL_argcheck(L,
                address_parse(&s->address, luaL_checkstring(L, 2),
                              (int)luaL_optinteger(L, 3, 0)),
                2, "not a numeric address");
  set_flag(s->fd, SOL_SOCKET, SO_REUSEADDR);
  if (bind(s->fd, &s->address.any, address_size(&s->address)) == 0)
    return 1;
  int err = errno;
  close_socket(s);
  return raise_about(L, s, err, "bind");
}

// Makes a listening socket. -> socket
static int l_tcp_listen(lua_State *L) { // host port backlog reuse_port
  Runtime *rt = runtime_upvalue(L);
  runtime_check_open(rt, L);
  const char *host = luaL_checkstring(L, 1);
  int backlog = (int)luaL_optinteger(L, 3, BACKLOG);
  Socket *s = new_socket(rt, L, family_of(L, 1, host));
  address_parse(&s->address, host, (int)luaL_checkinteger(L, 2));
  s->listening = s->maybe_ready = true;
  set_flag(s->fd, SOL_SOCKET, SO_REUSEADDR);
  if (lua_toboolean(L, 4))
    set_flag(s->fd, SOL_SOCKET, SO_REUSEPORT);
  if (s->address.any.sa_family == AF_INET6) // its own port beside IPv4's
    set_flag(s->fd, IPPROTO_IPV6, IPV6_V6ONLY);
  if (bind(s->fd, &s->address.any, address_size(&s->address)) < 0 ||
      listen(s->fd, backlog) < 0) {
    int err = errno;
    close_socket(s);
    return raise_about(L, s, err, "listen");
  }
  socklen_t size = sizeof s->address;
  getsockname(s->fd, &s->address.any, &size);
  return 1;
}

// ---- methods ---------------------------------------------------------------

static int l_close(lua_State *L) {
  Socket *s = check_any(L, 1);
  moonloop_wait *w = s->waiter;
  s->waiter = NULL;
  close_socket(s);
  if (w)
    wait_wake_later(w, push_closed, NULL);
  return 0;
}

static int l_gc(lua_State *L) {
  Socket *s = check_any(L, 1);
  if (s->fd < 0)
    return 0;
  if (!s->rt->loop) { // the loop and its watchers are gone
    close(s->fd);
    if (s->accepted >= 0)
      close(s->accepted);
    s->fd = s->accepted = -1;
    return 0;
  }
  close_socket(s);
  return 0;
}

static int l_getsockname(lua_State *L) {
  Socket *s = check_socket(L);
  Address a;
  socklen_t size = sizeof a;
  if (getsockname(s->fd, &a.any, &size) < 0)
    return raise_about(L, s, errno, "getsockname");
  address_push(L, &a);
  return 1;
}

static int l_fileno(lua_State *L) {
  lua_pushinteger(L, check_socket(L)->fd);
  return 1;
}

static int l_tostring(lua_State *L) {
  Socket *s = check_any(L, 1);
  char text[128];
  if (s->fd < 0) {
    lua_pushliteral(L, "Socket: (closed)");
    return 1;
  }
  describe(&s->resource, text, sizeof text);
  lua_pushfstring(L, "Socket: (%s, descriptor %d)", text, s->fd);
  return 1;
}

int socket_detach(lua_State *L, int arg) {
  Socket *s = check_any(L, arg);
  if (s->fd < 0)
    error_raise(L, "InvalidStateError", "the socket is closed");
  int fd = s->fd;
  unwatch(s);
  resource_remove(s->rt, &s->resource);
  s->fd = -1;
  return fd;
}

static const luaL_Reg methods[] = {
    {"accept_fd",   l_accept_fd  },
    {"connect",     l_connect    },
    {"close",       l_close      },
    {"getsockname", l_getsockname},
    {"fileno",      l_fileno     },
    {NULL,          NULL         },
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc      },
    {"__close",    l_close   },
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

// Closes a descriptor that accept_fd gave.
static int l_close_descriptor(lua_State *L) {
  close((int)luaL_checkinteger(L, 1));
  return 0;
}

// The family of a numeric host: "inet" or "inet6"; nil for a name.
static int l_numeric_family(lua_State *L) {
  Address a;
  if (!address_parse(&a, luaL_checkstring(L, 1), 0))
    return 0;
  lua_pushstring(L, a.any.sa_family == AF_INET6 ? "inet6" : "inet");
  return 1;
}

static const luaL_Reg functions[] = {
    {"close_descriptor", l_close_descriptor},
    {"numeric_family",   l_numeric_family  },
    {"tcp_socket",       l_tcp_socket      },
    {"tcp_listen",       l_tcp_listen      },
    {NULL,               NULL              },
};

void socket_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, CLASS, methods, meta);
  lua_pop(L, 1);
  runtime_set_functions(rt, L, functions);
}
