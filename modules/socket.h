// SPDX-License-Identifier: MIT
//
// Sockets: the Lua module under all that talks to the network.
#ifndef MOONLOOP_SOCKET_H
#define MOONLOOP_SOCKET_H

#include "host/resource.h"
#include "host/runtime.h"
#include "host/wait.h"
#include "socket_address.h"

typedef struct Socket Socket;

// A task that waits in one direction, and how it goes on.
typedef struct SocketWait {
  moonloop_wait *wait; // NULL when nobody waits
  ev_io io;
  const char *what; // "accept": in what the inspector shows
  // Reading only: tries in the callback. False: there is nothing yet.
  bool (*attempt)(Socket *s);
  moonloop_push_fn push;
} SocketWait;

struct Socket {
  Runtime *rt;
  Resource resource;
  SocketWait reading, writing;
  Timer retry; // of a write, where no event tells when it may work
  double retry_delay;
  Address address; // what messages name: it is bound or connected to that
  Address from;    // of what was received
  size_t wanted;   // bytes to receive at most
  ssize_t size;    // received; the whole datagram's where it was longer
  int fd;          // -1 when closed
  int accepted;    // a connection taken and not given out yet, or -1
  int error;       // what an attempt ended with
  int family, type;
  bool listening;
  bool maybe_readable; // an attempt may succeed at once
};

#define SOCKET_CLASS "moonloop.Socket"

static inline Socket *socket_check_any(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, SOCKET_CLASS);
}

// The one at index 1; raises InvalidStateError when it was closed.
Socket *socket_check(lua_State *L);

// Raises the Error for an errno value, naming the socket's address.
int socket_raise(lua_State *L, const Socket *s, int err, const char *op);

// "tcp", "udp" or "unix".
const char *socket_kind(const Socket *s);

// Raises unless it is open and no task waits on it.
void socket_check_idle(lua_State *L, const Socket *s);

// Takes the descriptor out of the Socket at `arg`, which is closed then. Raises
// when it is no open Socket, or a task waits on it.
int socket_detach(lua_State *L, int arg);

// Makes a Socket that owns the descriptor, whatever happens. -> socket
Socket *socket_adopt(Runtime *rt, lua_State *L, int fd);

// ---- waiting: socket_wait.c

void socket_watch_init(Socket *s);
void socket_unwatch(Socket *s);
// Ends what waits with InvalidStateError.
void socket_stop_waits(Socket *s);

// Tries at once if that can be, else waits until the attempt succeeds in the
// callback; then `push` gives the result.
int socket_read(lua_State *L, Socket *s, const char *what,
                bool (*attempt)(Socket *s), moonloop_push_fn push);

// Waits until the socket is writable; `push` goes on from there.
int socket_wait_writable(lua_State *L, Socket *s, const char *what,
                         moonloop_push_fn push);

// Waits for a while instead, longer each time until `retry_delay` is set to 0.
int socket_wait_retry(lua_State *L, Socket *s, const char *what,
                      moonloop_push_fn push);

// Raises InvalidStateError when a task waits in that direction.
void socket_check_free(lua_State *L, const Socket *s, const SocketWait *side);

extern const luaL_Reg socket_wait_methods[];

// ---- data: socket_data.c; options: socket_options.c

extern const luaL_Reg socket_data_methods[];
extern const luaL_Reg socket_option_functions[];

void socket_open(Runtime *rt, lua_State *L);

#endif
