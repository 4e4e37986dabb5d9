// SPDX-License-Identifier: MIT
//
// Making a Stream of whatever there is: a socket, a pipe, a terminal, a file,
// one of the standard descriptors, the master of a new pseudo-terminal.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"
#include "host/watch.h"
#include "socket.h"
#include "stream_protocol.h"

enum { DEFAULT_LIMIT = 1 << 20 };

static uint32_t check_limit(lua_State *L, int arg) {
  lua_Integer limit = luaL_optinteger(L, arg, DEFAULT_LIMIT);
  luaL_argcheck(L, limit > 0 && limit <= INT32_MAX, arg,
                "option 'limit' is out of range");
  return (uint32_t)limit;
}

Stream *stream_new(Runtime *rt, lua_State *L, size_t extra, int values) {
  runtime_check_open(rt, L);
  Stream *s = lua_newuserdatauv(L, sizeof *s + extra, values);
  memset(s, 0, sizeof *s + extra);
  s->rt = rt;
  s->transport = &stream_tcp;
  s->fd = s->original = -1;
  s->anchor = LUA_NOREF;
  s->flags = STREAM_CLOSED; // until it has something to close
  s->limit = DEFAULT_LIMIT;
  return s;
}

// Names a Stream that has no numeric address.
static void set_label(lua_State *L, Stream *s, const char *text) {
  size_t size = strlen(text) + 1;
  s->label = runtime_realloc(s->rt, NULL, 0, size);
  if (!s->label)
    luaL_error(L, "not enough memory");
  memcpy(s->label, text, size);
}

void stream_free(Stream *s) {
  if (s->transport->filter)
    s->transport->filter->free(s);
  if (s->label)
    runtime_free(s->rt, s->label, strlen(s->label) + 1);
  s->label = NULL;
  if (s->push && s->push->names)
    runtime_free(s->rt, s->push->names, sizeof *s->push->names);
}

// A Stream for tasks, with the limit at `arg`. -> stream
static Stream *new_stream(lua_State *L, int arg, int values) {
  uint32_t limit = check_limit(L, arg);
  size_t extra = values > 0 ? sizeof(luaL_Stream *) : 0;
  Stream *s = stream_new(runtime_upvalue(L), L, extra, values);
  s->limit = limit;
  luaL_setmetatable(L, STREAM_CLASS);
  return s;
}

// ---- sockets ---------------------------------------------------------------

// A Unix socket is known by the end that has a name.
static void label_unix(lua_State *L, Stream *s, int fd, Address *peer) {
  char text[ADDRESS_TEXT_SIZE];
  if (peer->size <= sizeof(sa_family_t))
    address_of_socket(fd, peer);
  address_format(&peer->of.any, peer->size, text, sizeof text);
  set_label(L, s, text);
}

static void own_socket(lua_State *L, Stream *s, int fd) {
  Address peer;
  address_of_peer(fd, &peer);
  int family = peer.size > 0 ? peer.of.any.sa_family : AF_UNSPEC;
  if (family == AF_UNIX && !s->label)
    label_unix(L, s, fd, &peer);
  else if (family != AF_UNIX)
    s->peer = peer.of.ip;
  stream_own(L, s, fd, family == AF_UNIX ? &stream_unix : &stream_tcp);
}

void stream_own_socket(lua_State *L, Stream *s, int arg) {
  if (lua_isinteger(L, arg)) {
    own_socket(L, s, (int)lua_tointeger(L, arg));
    return;
  }
  socket_check_idle(L, socket_check_any(L, arg));
  own_socket(L, s, socket_check_any(L, arg)->fd); // may fail
  socket_detach(L, arg);                          // cannot
}

// Makes a Stream of a Socket (which it empties) or of a connected socket's
// descriptor that it then owns. -> stream
static int l_stream(lua_State *L) { // socket or descriptor, [limit]
  Stream *s = new_stream(L, 2, 0);
  stream_own_socket(L, s, 1);
  return 1;
}

// ---- other descriptors -----------------------------------------------------

// Whether epoll can watch it; what it cannot, /dev/null say, never blocks.
static bool is_pollable(int fd) {
  struct epoll_event event = {.events = EPOLLIN};
  int probe = epoll_create1(EPOLL_CLOEXEC);
  bool refused = probe >= 0 &&
                 epoll_ctl(probe, EPOLL_CTL_ADD, fd, &event) < 0 &&
                 errno == EPERM;
  if (probe >= 0)
    close(probe);
  return !refused;
}

static const Transport *kind_of(int fd) {
  struct stat st;
  if (fstat(fd, &st) < 0)
    return NULL;
  if (S_ISFIFO(st.st_mode))
    return &stream_pipe;
  if (S_ISSOCK(st.st_mode))
    return &stream_unix;
  if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode) || S_ISDIR(st.st_mode))
    return &stream_file;
  if (isatty(fd))
    return &stream_tty;
  return is_pollable(fd) ? &stream_device : &stream_file;
}

static void label_descriptor(lua_State *L, Stream *s, int fd) {
  char text[32];
  snprintf(text, sizeof text, "descriptor %d", fd);
  set_label(L, s, text);
}

static void own_descriptor(lua_State *L, Stream *s, int fd, unsigned flags) {
  const Transport *transport = kind_of(fd);
  int err = errno;
  if (!s->label && transport != &stream_unix)
    label_descriptor(L, s, fd);
  if (!transport)
    error_raise_errno(L, err, "open", s->label);
  int status = fcntl(fd, F_GETFL);
  if (transport != &stream_file && !(status & O_NONBLOCK) &&
      !(flags & STREAM_BORROWED))
    fcntl(fd, F_SETFL, status | O_NONBLOCK);
  if (transport == &stream_unix)
    own_socket(L, s, fd);
  else
    stream_own(L, s, fd, transport);
  if (transport == &stream_file)
    flags |= STREAM_FILE | STREAM_MORE;
  s->flags |= flags;
}

// A description of our own of what `fd` is open on, or -1.
static int reopen(int fd, const Transport *transport) {
  char path[32];
  unsigned number;
  if (transport != &stream_pipe && transport != &stream_tty)
    return -1;
  if (ioctl(fd, TIOCGPTN, &number) == 0)
    return -1; // a master: opening it would make another one
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int access = fcntl(fd, F_GETFL) & O_ACCMODE;
  return open(path, access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

// The same with a descriptor that others go on using, and must not find
// non-blocking.
static void own_shared(lua_State *L, Stream *s, int fd, unsigned flags) {
  const Transport *transport = kind_of(fd);
  int own = transport ? reopen(fd, transport) : -1;
  if (own < 0 && (transport == &stream_pipe || transport == &stream_tty ||
                  transport == &stream_device))
    flags |= STREAM_BLOCKING;
  // Of a FIFO opened when its writers had gone, epoll does not tell the end.
  if (own >= 0 && (flags & STREAM_READ_ONLY) && transport == &stream_pipe)
    flags |= STREAM_FILE | STREAM_MORE;
  s->original = fd;
  if (!s->label && transport != &stream_unix)
    label_descriptor(L, s, fd);
  own_descriptor(L, s, own >= 0 ? own : fd, flags | STREAM_BORROWED);
}

// The descriptor of a Lua file, an object with fileno(), or an integer. `owned`
// tells whether nobody else will close it.
static int check_descriptor(lua_State *L, int arg, bool *owned) {
  luaL_Stream *file = luaL_testudata(L, arg, LUA_FILEHANDLE);
  *owned = lua_isinteger(L, arg);
  if (!file)
    return watch_check_fd(L, arg);
  luaL_argcheck(L, file->closef, arg, "the file is closed");
  fflush(file->f);
  return fileno(file->f);
}

// The flags for "read", "write" or "both".
static unsigned check_direction(lua_State *L, int arg) {
  static const char *const words[] = {"read", "write", "both", NULL};
  static const unsigned flags[] = {STREAM_READ_ONLY, STREAM_WRITE_ONLY, 0};
  return flags[luaL_checkoption(L, arg, NULL, words)];
}

// What C has read of a file and Lua not yet.
static void take_over_buffer(lua_State *L, Stream *s, int arg) {
  luaL_Stream *file = luaL_testudata(L, arg, LUA_FILEHANDLE);
  size_t size = file ? stream_buffered(file->f) : 0;
  if (size == 0)
    return;
  char *data = lua_newuserdatauv(L, size, 0);
  size = fread(data, 1, size, file->f);
  if (!stream_keep(s, data, size))
    luaL_error(L, "not enough memory");
  lua_pop(L, 1);
}

size_t stream_buffered(FILE *f) {
  return (size_t)(f->_IO_read_end - f->_IO_read_ptr); // glibc has no function
}

void stream_own_any(lua_State *L, Stream *s, int arg, int direction) {
  bool owned;
  int fd = check_descriptor(L, arg, &owned);
  unsigned flags = check_direction(L, direction);
  *stream_file_of(s) = luaL_testudata(L, arg, LUA_FILEHANDLE);
  if (owned && fd > STDERR_FILENO)
    own_descriptor(L, s, fd, flags);
  else
    own_shared(L, s, fd, flags);
  if (!(flags & STREAM_WRITE_ONLY))
    take_over_buffer(L, s, arg);
}

// Makes a Stream of a pipe's end or the like, which it owns; of a Lua file's
// too, which lives on with /dev/null in its place. -> stream
static int l_pipe_stream(lua_State *L) { // fd or file, direction, [limit]
  Stream *s = new_stream(L, 3, 1);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, -2, 1); // the file lives as long
  stream_own_any(L, s, 1, 2);
  return 1;
}

// ---- standard streams ------------------------------------------------------

// Makes the Stream that stands for descriptor 0, 1 or 2. -> stream
static int l_standard_stream(lua_State *L) { // descriptor [limit]
  static const char *const names[] = {"stdin", "stdout", "stderr"};
  int fd = (int)luaL_checkinteger(L, 1);
  luaL_argcheck(L, fd >= 0 && fd <= 2, 1, "no standard descriptor");
  Stream *s = new_stream(L, 2, 0);
  set_label(L, s, names[fd]);
  unsigned flags = fd == 0 ? STREAM_READ_ONLY : STREAM_WRITE_ONLY;
  own_shared(L, s, fd, flags | STREAM_STANDARD);
  s->resource.run_id = RESOURCE_OF_NO_RUN;
  return 1;
}

// ---- pseudo-terminals ------------------------------------------------------

// -> the master as a stream, the path of the slave
static int l_open_pty(lua_State *L) { // [limit]
  char path[64];
  Stream *s = new_stream(L, 1, 0);
  int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return error_raise_errno(L, errno, "open", "a pseudo-terminal");
  s->transport = &stream_pty;
  s->fd = fd;
  s->flags = 0; // collected, it is closed, should something fail
  if (grantpt(fd) < 0 || unlockpt(fd) < 0 || ptsname_r(fd, path, sizeof path))
    return error_raise_errno(L, errno, "open", "a pseudo-terminal");
  set_label(L, s, path);
  stream_own(L, s, fd, &stream_pty);
  lua_pushstring(L, path);
  return 2;
}

static const luaL_Reg functions[] = {
    {"stream",          l_stream         },
    {"pipe_stream",     l_pipe_stream    },
    {"standard_stream", l_standard_stream},
    {"open_pty",        l_open_pty       },
    {NULL,              NULL             },
};

void stream_make_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
