// SPDX-License-Identifier: MIT
//
// Sending and receiving on a Socket, of streams of bytes and of datagrams.
#include <errno.h>
#include <string.h>

#include "host/error.h"
#include "host/task.h"
#include "socket.h"

static bool would_block(int err) { return err == EAGAIN || err == EWOULDBLOCK; }

// ---- receiving -------------------------------------------------------------

// Receives once into the loop's buffer; of a datagram the whole size counts,
// which may be more than there was room for.
static bool receive(Socket *s) {
  struct iovec piece = {s->rt->receive_buffer, s->wanted};
  struct msghdr message = {.msg_name = &s->from.of,
                           .msg_namelen = sizeof s->from.of,
                           .msg_iov = &piece,
                           .msg_iovlen = 1};
  int flags = s->type == SOCK_DGRAM ? MSG_TRUNC : 0;
  do
    s->size = recvmsg(s->fd, &message, flags);
  while (s->size < 0 && errno == EINTR);
  s->error = s->size < 0 ? errno : 0;
  s->from.size = message.msg_namelen;
  if (s->size >= 0 || !would_block(s->error))
    return true;
  s->maybe_readable = false;
  return false;
}

// -> data (nil at end of file)
static int push_data(lua_State *L, Socket *s) {
  if (s->error)
    return socket_raise(L, s, s->error, "receive");
  size_t size = (size_t)s->size;
  if (size == 0 && s->type != SOCK_DGRAM)
    lua_pushnil(L);
  else
    lua_pushlstring(L, s->rt->receive_buffer,
                    size < s->wanted ? size : s->wanted);
  return 1;
}

static int push_received(lua_State *L, void *ud) { return push_data(L, ud); }

static int push_received_from(lua_State *L, void *ud) {
  Socket *s = ud;
  push_data(L, s);
  address_push(L, &s->from.of.any, s->from.size);
  if ((size_t)s->size <= s->wanted)
    return 2;
  lua_pushinteger(L, s->size);
  return 3;
}

static void check_wanted(lua_State *L, Socket *s) {
  lua_Integer n = luaL_optinteger(L, 2, RECEIVE_BUFFER_SIZE);
  luaL_argcheck(L, n > 0, 2, "the number of bytes must be positive");
  socket_check_free(L, s, &s->reading);
  s->wanted = n < RECEIVE_BUFFER_SIZE ? (size_t)n : RECEIVE_BUFFER_SIZE;
}

/// Receives what is there, a datagram at a time. Awaits until there is some.
// @function Socket:recv
// @param[opt=65536] n integer, bytes at most; of a longer datagram the rest is
// lost
// @return string, nil at end of file
// @raise ConnectionResetError, ConnectionRefusedError (a datagram sent before
// found nobody) or another OSError; InvalidStateError when it is closed, also
// while it waits, or another task receives; see Awaiting functions
// @see asyncio.loop.sock_recv
static int l_recv(lua_State *L) {
  Socket *s = socket_check(L);
  check_wanted(L, s);
  return socket_read(L, s, "receive", receive, push_received);
}

/// Receives a datagram and tells who sent it. Awaits.
// @function Socket:recvfrom
// @param[opt=65536] n integer, bytes at most
// @return string, the sender's address (nil on a connected stream), and where
// the datagram was cut its whole size in bytes
// @raise as `recv`
// @see asyncio.loop.sock_recvfrom
static int l_recvfrom(lua_State *L) {
  Socket *s = socket_check(L);
  check_wanted(L, s);
  return socket_read(L, s, "receive", receive, push_received_from);
}

// The same if there is one. -> nothing where there is none
static int l_try_recvfrom(lua_State *L) {
  Socket *s = socket_check(L);
  check_wanted(L, s);
  return receive(s) ? push_received_from(L, s) : 0;
}

// ---- sending ---------------------------------------------------------------

// Index 3 of the frame is the number of bytes that are out.
enum { DATA = 2, SENT = 3 };

static ssize_t send_rest(lua_State *L, Socket *s, const Address *to) {
  size_t size, sent = (size_t)lua_tointeger(L, SENT);
  const char *data = lua_tolstring(L, DATA, &size);
  ssize_t n;
  do
    n = sendto(s->fd, data + sent, size - sent, MSG_NOSIGNAL,
               to ? &to->of.any : NULL, to ? to->size : 0);
  while (n < 0 && errno == EINTR);
  return n;
}

static int raise_send(lua_State *L, Socket *s, int err) {
  return socket_raise(L, s, err, "send");
}

static int push_send(lua_State *L, void *ud);
static int push_sendall(lua_State *L, void *ud);

static int perform_send(lua_State *L, Socket *s, bool now) {
  ssize_t n = now ? send_rest(L, s, NULL) : -1;
  if (n < 0 && now && !would_block(errno))
    return raise_send(L, s, errno);
  if (n < 0)
    return socket_wait_writable(L, s, "send", push_send);
  lua_pushinteger(L, n);
  return 1;
}

static int push_send(lua_State *L, void *ud) {
  return perform_send(L, ud, true);
}

static int perform_sendall(lua_State *L, Socket *s, bool now) {
  while (now) {
    ssize_t n = send_rest(L, s, NULL);
    if (n < 0 && would_block(errno))
      break;
    if (n < 0)
      return raise_send(L, s, errno);
    lua_Integer sent = lua_tointeger(L, SENT) + n;
    lua_pushinteger(L, sent);
    lua_replace(L, SENT);
    if (sent >= (lua_Integer)lua_rawlen(L, DATA))
      return 0;
    now = wait_may_complete(s->rt, L);
  }
  return socket_wait_writable(L, s, "send", push_sendall);
}

static int push_sendall(lua_State *L, void *ud) {
  return perform_sendall(L, ud, true);
}

static Socket *check_sending(lua_State *L) {
  Socket *s = socket_check(L);
  luaL_checkstring(L, DATA); // a number becomes its text in place
  socket_check_free(L, s, &s->writing);
  return s;
}

/// Sends some of the data, as much as is taken at once. Awaits until there is
/// room.
// @function Socket:send
// @param data string
// @return integer, bytes sent; a datagram goes out whole
// @raise BrokenPipeError, ConnectionResetError, ConnectionRefusedError (a
// datagram sent before found nobody) or another OSError (code EMSGSIZE: a
// datagram too long); InvalidStateError when it is closed, also while it waits,
// or another task sends; see Awaiting functions
// @see socket.socket.send
static int l_send(lua_State *L) {
  Socket *s = check_sending(L);
  lua_settop(L, DATA);
  lua_pushinteger(L, 0);
  return perform_send(L, s, wait_may_complete(s->rt, L));
}

/// Sends all of the data. Awaits. Cancelled, a part may have been sent.
// @function Socket:sendall
// @param data string
// @raise as `send`
// @see asyncio.loop.sock_sendall
static int l_sendall(lua_State *L) {
  Socket *s = check_sending(L);
  lua_settop(L, DATA);
  lua_pushinteger(L, 0);
  return perform_sendall(L, s, wait_may_complete(s->rt, L));
}

// ---- to an address ---------------------------------------------------------

enum { TO = 4 }; // index of the Address, a userdata

static int push_sendto(lua_State *L, void *ud);

static int raise_sendto(lua_State *L, int err) {
  const Address *to = lua_touserdata(L, TO);
  char text[ADDRESS_TEXT_SIZE];
  address_format(&to->of.any, to->size, text, sizeof text);
  return error_raise_errno(L, err, "send", text);
}

static int perform_sendto(lua_State *L, Socket *s, bool now) {
  ssize_t n = now ? send_rest(L, s, lua_touserdata(L, TO)) : -1;
  if (n < 0 && now && !would_block(errno))
    return raise_sendto(L, errno);
  // The system calls a Unix socket writable that is connected to nobody.
  if (n < 0 && now && s->family == AF_UNIX)
    return socket_wait_retry(L, s, "send", push_sendto);
  if (n < 0)
    return socket_wait_writable(L, s, "send", push_sendto);
  lua_pushinteger(L, n);
  return 1;
}

static int push_sendto(lua_State *L, void *ud) {
  return perform_sendto(L, ud, true);
}

static void check_to(lua_State *L, Socket *s) { // socket data address
  Address to;
  address_check(L, 3, s->family, false, &to);
  lua_settop(L, DATA);
  lua_pushinteger(L, 0);
  *(Address *)lua_newuserdatauv(L, sizeof to, 0) = to;
}

// Sends a datagram to {host=, port=} or {path=}. Awaits. -> bytes
static int l_sendto_address(lua_State *L) {
  Socket *s = check_sending(L);
  check_to(L, s);
  s->retry_delay = 0;
  return perform_sendto(L, s, wait_may_complete(s->rt, L));
}

// Sends a datagram if that needs no waiting; without an address to who it is
// connected to. -> whether it was sent
static int l_try_send(lua_State *L) { // socket data [address]
  Socket *s = check_sending(L);
  const Address *to = NULL;
  if (lua_isnoneornil(L, 3)) {
    lua_settop(L, DATA);
    lua_pushinteger(L, 0);
  } else {
    check_to(L, s);
    to = lua_touserdata(L, TO);
  }
  ssize_t n = send_rest(L, s, to);
  if (n < 0 && !would_block(errno))
    return to ? raise_sendto(L, errno) : raise_send(L, s, errno);
  lua_pushboolean(L, n >= 0);
  return 1;
}

/// Ends one direction, or both.
// @function Socket:shutdown
// @param how "read", "write" or "both"
// @raise OSError, code ENOTCONN when it is not connected; InvalidStateError
// when it is closed
// @see socket.socket.shutdown
static int l_shutdown(lua_State *L) {
  static const char *const words[] = {"read", "write", "both", NULL};
  static const int values[] = {SHUT_RD, SHUT_WR, SHUT_RDWR};
  Socket *s = socket_check(L);
  const char *word = luaL_checkstring(L, 2);
  int i = 0;
  while (words[i] && strcmp(words[i], word) != 0)
    i++;
  luaL_argcheck(L, words[i], 2, "'read', 'write' or 'both' expected");
  if (shutdown(s->fd, values[i]) < 0)
    return socket_raise(L, s, errno, "shutdown");
  return 0;
}

const luaL_Reg socket_data_methods[] = {
    {"recv",           l_recv          },
    {"recvfrom",       l_recvfrom      },
    {"try_recvfrom",   l_try_recvfrom  },
    {"send",           l_send          },
    {"sendall",        l_sendall       },
    {"sendto_address", l_sendto_address},
    {"try_send",       l_try_send      },
    {"shutdown",       l_shutdown      },
    {NULL,             NULL            },
};
