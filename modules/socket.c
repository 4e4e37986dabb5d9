// SPDX-License-Identifier: MIT
//
// Sockets: making and closing one, and what needs no waiting. A Socket owns a
// non-blocking descriptor; at most one task waits on it in each direction.
#include "socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"

enum { BACKLOG = 4096 };

Socket *socket_check(lua_State *L) {
  Socket *s = socket_check_any(L, 1);
  if (s->fd < 0)
    error_raise(L, "InvalidStateError", "the socket is closed");
  return s;
}

int socket_raise(lua_State *L, const Socket *s, int err, const char *op) {
  char text[ADDRESS_TEXT_SIZE];
  if (s->address.size == 0)
    return error_raise_errno(L, err, op, NULL);
  address_format(&s->address.of.any, s->address.size, text, sizeof text);
  return error_raise_errno(L, err, op, text);
}

const char *socket_kind(const Socket *s) {
  if (s->family == AF_UNIX)
    return "unix";
  return s->type == SOCK_DGRAM ? "udp" : "tcp";
}

// ---- closing ---------------------------------------------------------------

static void close_socket(Socket *s) {
  if (s->fd < 0)
    return;
  socket_unwatch(s);
  close(s->fd);
  s->fd = -1;
  if (s->accepted >= 0)
    close(s->accepted);
  s->accepted = -1;
  resource_remove(s->rt, &s->resource);
  socket_stop_waits(s);
}

static Socket *of_resource(Resource *r) {
  return (Socket *)((char *)r - offsetof(Socket, resource));
}

static void describe(Resource *r, char *text, size_t size) {
  Socket *s = of_resource(r);
  char address[ADDRESS_TEXT_SIZE];
  address_format(&s->address.of.any, s->address.size, address, sizeof address);
  snprintf(text, size, "%s%s socket %s", s->listening ? "listening " : "",
           socket_kind(s), address);
}

static void abort_resource(Resource *r) { close_socket(of_resource(r)); }

static const ResourceKind kind = {describe, abort_resource};

/// Closes. A task that waits on it gets an InvalidStateError. Twice is fine.
// @function Socket:close
// @see socket.socket.close
static int l_close(lua_State *L) {
  close_socket(socket_check_any(L, 1));
  return 0;
}

static int l_gc(lua_State *L) {
  Socket *s = socket_check_any(L, 1);
  if (s->fd < 0)
    return 0;
  if (s->rt->loop) {
    close_socket(s);
    return 0;
  }
  close(s->fd); // the loop and its watchers are gone
  if (s->accepted >= 0)
    close(s->accepted);
  s->fd = s->accepted = -1;
  return 0;
}

void socket_check_idle(lua_State *L, const Socket *s) {
  if (s->fd < 0)
    error_raise(L, "InvalidStateError", "the socket is closed");
  socket_check_free(L, s, &s->reading);
  socket_check_free(L, s, &s->writing);
}

int socket_detach(lua_State *L, int arg) {
  Socket *s = socket_check_any(L, arg);
  socket_check_idle(L, s);
  int fd = s->fd;
  socket_unwatch(s);
  if (s->accepted >= 0)
    close(s->accepted);
  s->accepted = -1;
  resource_remove(s->rt, &s->resource);
  s->fd = -1;
  return fd;
}

/// Gives the descriptor away: the Socket is closed without closing it.
// @function Socket:detach
// @return integer; the descriptor stays non-blocking
// @raise InvalidStateError when it is closed, or a task waits on it
// @see socket.socket.detach
static int l_detach(lua_State *L) {
  lua_pushinteger(L, socket_detach(L, 1));
  return 1;
}

// ---- making ----------------------------------------------------------------

static void set_flag(int fd, int level, int option) {
  int one = 1;
  setsockopt(fd, level, option, &one, sizeof one);
}

// A Socket without a descriptor. -> socket
static Socket *new_socket(Runtime *rt, lua_State *L) {
  runtime_check_open(rt, L);
  Socket *s = lua_newuserdatauv(L, sizeof *s, 0);
  memset(s, 0, sizeof *s);
  s->rt = rt;
  s->fd = s->accepted = -1;
  s->maybe_readable = true;
  luaL_setmetatable(L, SOCKET_CLASS);
  return s;
}

static void own(Runtime *rt, lua_State *L, Socket *s, int fd) {
  s->fd = fd;
  socket_watch_init(s);
  resource_add(rt, L, &s->resource, &kind);
}

// -> socket
static Socket *open_socket(Runtime *rt, lua_State *L, int family, int type) {
  Socket *s = new_socket(rt, L);
  s->family = family;
  s->type = type;
  int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    error_raise_errno(L, errno, "socket", NULL);
  own(rt, L, s, fd);
  if (family != AF_UNIX && type == SOCK_STREAM)
    set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
  return s;
}

static int option_of(int fd, int number) {
  int value = 0;
  socklen_t size = sizeof value;
  return getsockopt(fd, SOL_SOCKET, number, &value, &size) < 0 ? -1 : value;
}

// Fills in an empty Socket. The descriptor is closed when that fails.
static void adopt_into(Runtime *rt, lua_State *L, Socket *s, int fd) {
  s->type = option_of(fd, SO_TYPE);
  s->family = option_of(fd, SO_DOMAIN);
  s->listening = option_of(fd, SO_ACCEPTCONN) > 0;
  address_of_socket(fd, &s->address);
  int flags = fcntl(fd, F_GETFL);
  if (!(flags & O_NONBLOCK))
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  own(rt, L, s, fd);
}

static int adopt_main(lua_State *L) { // runtime, descriptor -> socket
  Runtime *rt = lua_touserdata(L, 1);
  Socket *s = new_socket(rt, L);
  adopt_into(rt, L, s, (int)lua_tointeger(L, 2));
  return 1;
}

Socket *socket_adopt(Runtime *rt, lua_State *L, int fd) {
  lua_pushcfunction(L, adopt_main);
  lua_pushlightuserdata(L, rt);
  lua_pushinteger(L, fd);
  if (lua_pcall(L, 2, 1, 0) == LUA_OK)
    return lua_touserdata(L, -1);
  close(fd);
  lua_error(L);
  return NULL;
}

/// Makes a Socket of a descriptor, which it owns from then on and makes
/// non-blocking.
// @function socket.from_fd
// @param fd integer
// @return Socket
// @raise OSError, code EBADF or ENOTSOCK, when it is none
// @see socket.socket.fromfd
static int l_from_fd(lua_State *L) {
  int fd = (int)luaL_checkinteger(L, 1);
  char text[32];
  if (option_of(fd, SO_TYPE) < 0) {
    snprintf(text, sizeof text, "descriptor %d", fd);
    return error_raise_errno(L, errno, "socket", text);
  }
  Runtime *rt = runtime_upvalue(L);
  adopt_into(rt, L, new_socket(rt, L), fd);
  return 1;
}

// Makes a socket of family and type: "inet", "stream". -> socket
static int l_socket(lua_State *L) {
  int family = address_family(luaL_checkstring(L, 1));
  int type = strcmp(luaL_checkstring(L, 2), "dgram") ? SOCK_STREAM : SOCK_DGRAM;
  open_socket(runtime_upvalue(L), L, family, type);
  return 1;
}

// Two sockets connected to each other. -> socket, socket
static int l_socketpair(lua_State *L) { // type
  Runtime *rt = runtime_upvalue(L);
  int type = strcmp(luaL_checkstring(L, 1), "dgram") ? SOCK_STREAM : SOCK_DGRAM;
  Socket *a = new_socket(rt, L), *b = new_socket(rt, L);
  int ends[2];
  if (socketpair(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0)
    return error_raise_errno(L, errno, "socketpair", NULL);
  a->fd = ends[0]; // closed by __gc, should the next call fail
  b->fd = ends[1];
  adopt_into(rt, L, a, ends[0]);
  adopt_into(rt, L, b, ends[1]);
  return 2;
}

// ---- binding ---------------------------------------------------------------

// Binds to {host=, port=} or {path=}.
static int l_bind_address(lua_State *L) {
  Socket *s = socket_check(L);
  Address a;
  address_check(L, 2, s->family, true, &a);
  int rc = bind(s->fd, &a.of.any, a.size), err = errno;
  s->address = a;
  if (rc < 0)
    return socket_raise(L, s, err, "bind");
  address_of_socket(s->fd, &s->address);
  return 0;
}

/// Begins to listen. The kernel holds connections until they are accepted.
// @function Socket:listen
// @param[opt=4096] backlog integer, how many of them
// @raise AddressInUseError or another OSError; InvalidStateError when closed
// @see socket.socket.listen
static int l_listen(lua_State *L) {
  Socket *s = socket_check(L);
  lua_Integer backlog = luaL_optinteger(L, 2, BACKLOG);
  luaL_argcheck(L, backlog >= 0, 2, "the backlog cannot be negative");
  if (listen(s->fd, backlog > INT_MAX ? INT_MAX : (int)backlog) < 0)
    return socket_raise(L, s, errno, "listen");
  s->listening = true;
  address_of_socket(s->fd, &s->address);
  return 0;
}

// Sets the permissions that a Unix socket's file will have, before it is bound.
static int l_set_mode(lua_State *L) { // socket mode
  Socket *s = socket_check(L);
  if (fchmod(s->fd, (mode_t)luaL_checkinteger(L, 2)) < 0)
    return socket_raise(L, s, errno, "chmod");
  return 0;
}

// ---- asking ----------------------------------------------------------------

/// Gives its own address.
// @function Socket:getsockname
// @return {host=, port=} or {path=} ("" when it has no name)
// @raise InvalidStateError when closed
// @see socket.socket.getsockname
static int l_getsockname(lua_State *L) {
  Address a;
  address_of_socket(socket_check(L)->fd, &a);
  address_push(L, &a.of.any, a.size);
  return 1;
}

/// Gives the address of who it is connected to.
// @function Socket:getpeername
// @return {host=, port=} or {path=}
// @raise OSError, code ENOTCONN when it is not connected; InvalidStateError
// when closed
// @see socket.socket.getpeername
static int l_getpeername(lua_State *L) {
  Socket *s = socket_check(L);
  Address a = {.size = sizeof a.of};
  if (getpeername(s->fd, &a.of.any, &a.size) < 0)
    return socket_raise(L, s, errno, "getpeername");
  address_push(L, &a.of.any, a.size);
  return 1;
}

/// Gives the descriptor, which stays the Socket's.
// @function Socket:fileno
// @return integer, -1 when closed
// @see socket.socket.fileno
static int l_fileno(lua_State *L) {
  lua_pushinteger(L, socket_check_any(L, 1)->fd);
  return 1;
}

// The family and type by name. -> "inet", "stream"
static int l_family(lua_State *L) {
  Socket *s = socket_check_any(L, 1);
  lua_pushstring(L, address_family_name(s->family));
  lua_pushstring(L, s->type == SOCK_DGRAM ? "dgram" : "stream");
  lua_pushboolean(L, s->listening);
  return 3;
}

static int l_tostring(lua_State *L) {
  Socket *s = socket_check_any(L, 1);
  char text[ADDRESS_TEXT_SIZE];
  address_format(&s->address.of.any, s->address.size, text, sizeof text);
  lua_pushfstring(L, "Socket: %s %s (%s)", socket_kind(s), text,
                  s->fd < 0      ? "closed"
                  : s->listening ? "listening"
                                 : "open");
  return 1;
}

static const luaL_Reg methods[] = {
    {"bind_address", l_bind_address},
    {"listen",       l_listen      },
    {"set_mode",     l_set_mode    },
    {"close",        l_close       },
    {"detach",       l_detach      },
    {"getsockname",  l_getsockname },
    {"getpeername",  l_getpeername },
    {"fileno",       l_fileno      },
    {"family",       l_family      },
    {NULL,           NULL          },
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc      },
    {"__close",    l_close   },
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

// Closes a descriptor that nobody owns yet.
static int l_close_descriptor(lua_State *L) {
  close((int)luaL_checkinteger(L, 1));
  return 0;
}

static int l_is_open(lua_State *L) { // descriptor
  lua_pushboolean(L, fcntl((int)luaL_checkinteger(L, 1), F_GETFD) >= 0);
  return 1;
}

// The family of a numeric host: "inet" or "inet6"; nil for a name.
static int l_numeric_family(lua_State *L) {
  Address a;
  size_t size;
  const char *host = luaL_checklstring(L, 1, &size);
  if (strlen(host) != size || !address_parse(&a, host, 0))
    return 0;
  lua_pushstring(L, address_family_name(a.of.any.sa_family));
  return 1;
}

// Whether a socket stands at the path, and which: device and inode.
static int l_socket_file(lua_State *L) { // path -> "device:inode" or nil
  struct stat st;
  if (lstat(luaL_checkstring(L, 1), &st) < 0 || !S_ISSOCK(st.st_mode))
    return 0;
  lua_pushfstring(L, "%I:%I", (LUAI_UACINT)st.st_dev, (LUAI_UACINT)st.st_ino);
  return 1;
}

// Raises the system's error for a path that is too long for a socket.
static int l_check_path_size(lua_State *L) { // path what
  size_t size;
  const char *path = luaL_checklstring(L, 1, &size);
  if (size > ADDRESS_PATH_SIZE)
    error_raise_errno(L, ENAMETOOLONG, luaL_checkstring(L, 2), path);
  return 0;
}

static int l_chmod(lua_State *L) { // path mode
  const char *path = luaL_checkstring(L, 1);
  if (chmod(path, (mode_t)luaL_checkinteger(L, 2)) < 0)
    return error_raise_errno(L, errno, "chmod", path);
  return 0;
}

static const luaL_Reg functions[] = {
    {"close_descriptor",   l_close_descriptor},
    {"is_open_descriptor", l_is_open         },
    {"numeric_family",     l_numeric_family  },
    {"socket",             l_socket          },
    {"socketpair",         l_socketpair      },
    {"socket_from_fd",     l_from_fd         },
    {"socket_file",        l_socket_file     },
    {"check_path_size",    l_check_path_size },
    {"chmod",              l_chmod           },
    {NULL,                 NULL              },
};

void socket_open(Runtime *rt, lua_State *L) {
  runtime_new_class(rt, L, SOCKET_CLASS, methods, meta);
  lua_getfield(L, -1, "__index");
  runtime_set_functions(rt, L, socket_wait_methods);
  runtime_set_functions(rt, L, socket_data_methods);
  lua_setfield(L, -3, "socket_methods");
  lua_pop(L, 1);
  runtime_set_functions(rt, L, functions);
  runtime_set_functions(rt, L, socket_option_functions);
}
