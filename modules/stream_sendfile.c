// SPDX-License-Identifier: MIT
//
// Sending files: the steps that `Stream:sendfile`, in Lua, is made of. The task
// takes the pen, so that nobody's bytes come between, and sends by sendfile(2)
// or, where the kernel cannot, what it has read.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/error.h"
#include "host/task.h"
#include "socket.h"
#include "stream_protocol.h"
#include "stream_queue.h"

enum { READ_AT_MOST = 262144, SEND_AT_MOST = 0x7ffff000 };

static int raise_file(lua_State *L, int err, const char *op, int fd) {
  char text[32];
  snprintf(text, sizeof text, "descriptor %d", fd);
  return error_raise_errno(L, err, op, text);
}

// ---- the pen ---------------------------------------------------------------

static int abort_pen(moonloop_wait *w, void *ud) {
  Writer *writer = ((Stream *)ud)->writer;
  (void)w;
  if (writer)
    writer->pen_wait = NULL;
  return 1;
}

// Given up before it had come to anything.
static int abort_flush(moonloop_wait *w, void *ud) {
  abort_pen(w, ud);
  writer_drop_pen(ud);
  return 1;
}

static void describe_pen(Runtime *rt, moonloop_wait *w, char *text,
                         size_t size) {
  (void)rt;
  stream_describe(w->abort_ud, "sendfile", text, size);
}

// Waits for room, or (not `sends`) until the queue is empty.
static int wait_with_pen(lua_State *L, Stream *s, bool sends,
                         moonloop_push_fn push) {
  Writer *w = s->writer;
  if (!stream_is_alive(s)) {
    if (!sends)
      writer_drop_pen(s);
    return stream_raise(L, s, EBADF, "write");
  }
  moonloop_wait *wait =
      wait_begin_io(s->rt, L, sends ? abort_pen : abort_flush, s, describe_pen);
  if (!sends)
    wait->flags |= WAIT_TELLS;
  w->pen_wait = wait;
  w->pen_sends = sends;
  w->pen_push = push;
  writer_watch(w);
  return moonloop_await(L, wait);
}

static void check_pen(lua_State *L, const Stream *s) {
  if (s->push && s->push->error) // what connection_lost is told too
    stream_raise(L, s, s->push->error, "write");
  if (writer_is_broken(s) || !s->writer || !s->writer->pen_taken ||
      (s->flags & STREAM_CLOSING))
    stream_check_writable(L, s); // says what is wrong
}

static int check_main(lua_State *L) {
  check_pen(L, lua_touserdata(L, 1));
  return 0;
}

static int push_flushed(lua_State *L, void *ud) {
  lua_pushcfunction(L, check_main);
  lua_pushlightuserdata(L, ud);
  if (lua_pcall(L, 1, 0, 0) == LUA_OK)
    return 0;
  writer_drop_pen(ud);
  return lua_error(L);
}

// Either the task has the pen then, or an error is raised.
static int take_pen(lua_State *L, Stream *s) {
  stream_check_writable(L, s);
  wait_check(s->rt, L);
  Writer *w = writer_need(L, s, 1);
  w->pen_taken = true;
  if (stream_unsent(s) == 0)
    return 0;
  return wait_with_pen(L, s, false, push_flushed);
}

static int push_pen_free(lua_State *L, void *ud) { return take_pen(L, ud); }

static int push_pen_granted(lua_State *L, void *ud) {
  writer_take_turn(ud);
  return take_pen(L, ud);
}

// Waits for the turn to write and for everything queued to be out. Until
// `drop_pen` nobody else writes. Awaits.
static int l_take_pen(lua_State *L) {
  Stream *s = stream_check_both(L, 1);
  lua_settop(L, 1);
  stream_check_writable(L, s);
  if (!wait_may_complete(s->rt, L) || writer_must_wait(s))
    return writer_wait_turn(L, s, push_pen_granted, push_pen_free);
  return take_pen(L, s);
}

static int l_drop_pen(lua_State *L) {
  writer_drop_pen(stream_check_both(L, 1));
  return 0;
}

// ---- waiting for what is sent ----------------------------------------------

static int push_source(lua_State *L, void *ud) {
  Stream *s = ud;
  if (s->writer) // it may be the queue that has woken the task
    ev_io_stop(s->rt->loop, &s->writer->source);
  check_pen(L, s);
  return 0;
}

static void on_source(struct ev_loop *loop, ev_io *io, int revents) {
  Writer *w = io->data;
  moonloop_wait *wait = w->pen_wait;
  (void)revents;
  ev_io_stop(loop, io);
  w->pen_wait = NULL;
  if (wait)
    moonloop_wake(wait, push_source, w->stream);
}

static int abort_source(moonloop_wait *w, void *ud) {
  Stream *s = ud;
  if (s->writer)
    ev_io_stop(s->rt->loop, &s->writer->source);
  return abort_pen(w, ud);
}

static void describe_source(Runtime *rt, moonloop_wait *w, char *text,
                            size_t size) {
  const Writer *writer = ((Stream *)w->abort_ud)->writer;
  (void)rt;
  snprintf(text, size, "sendfile, for descriptor %d to be readable",
           writer ? writer->source.fd : -1);
}

// With the pen: waits until a pipe or the like has something to read, or the
// stream cannot be written any more; or for no reason. What a filter holds goes
// out meanwhile. Awaits.
static int l_wait_source(lua_State *L) { // stream fd
  Stream *s = stream_check_both(L, 1);
  int fd = (int)luaL_checkinteger(L, 2);
  check_pen(L, s);
  if (fcntl(fd, F_GETFD) < 0)
    return raise_file(L, errno, "read", fd);
  Writer *w = s->writer;
  w->pen_wait = wait_begin_io(s->rt, L, abort_source, s, describe_source);
  w->pen_sends = stream_unsent(s) == 0;
  w->pen_push = push_source;
  ev_io_init(&w->source, on_source, fd, EV_READ);
  w->source.data = w;
  ev_io_start(s->rt->loop, &w->source);
  if (!w->pen_sends)
    writer_watch(w);
  return moonloop_await(L, w->pen_wait);
}

// ---- sending ---------------------------------------------------------------

static bool would_block(int err) { return err == EAGAIN || err == EWOULDBLOCK; }

static int raise_sending(lua_State *L, Stream *s, int err) {
  if (s->push)
    push_fail(s, err);
  else
    writer_fail(s, err);
  return stream_raise(L, s, err, "write");
}

static bool takes_files(const Stream *s) {
  const Transport *t = s->transport;
  return (t == &stream_tcp || t == &stream_unix || t == &stream_pipe) &&
         s->fd != s->original; // which may block
}

// Errors of the connection. What else sendfile(2) says may be the file's fault:
// reading will tell.
static bool is_of_stream(int err) {
  return err == EPIPE || err == ECONNRESET || err == ETIMEDOUT ||
         err == ENOTCONN || err == EHOSTUNREACH || err == ENETUNREACH ||
         err == ENETDOWN || err == ECONNABORTED || err == EHOSTDOWN;
}

static ssize_t send_file(Stream *s, int fd, off_t at, size_t count) {
  QuietPipe quiet;
  ssize_t n;
  quiet_pipe_begin(&quiet);
  do
    n = sendfile(s->fd, fd, &at, count);
  while (n < 0 && errno == EINTR);
  quiet_pipe_end(&quiet, n < 0 && errno == EPIPE);
  return n;
}

static int push_send_file(lua_State *L, void *ud) { // stream fd offset count
  Stream *s = ud;
  check_pen(L, s);
  lua_Integer count = lua_tointeger(L, 4);
  ssize_t n = send_file(s, (int)lua_tointeger(L, 2), lua_tointeger(L, 3),
                        count < SEND_AT_MOST ? (size_t)count : SEND_AT_MOST);
  if (n < 0 && would_block(errno))
    return wait_with_pen(L, s, true, push_send_file);
  if (n < 0)
    return is_of_stream(errno) ? raise_sending(L, s, errno) : 0;
  lua_pushinteger(L, n);
  return 1;
}

// Sends from a file at an offset as much as is taken. Awaits until it is some.
// -> bytes, 0 at the end of the file, nil where that cannot be done
static int l_send_file(lua_State *L) { // stream fd offset count
  Stream *s = stream_check_both(L, 1);
  check_pen(L, s);
  if (!takes_files(s))
    return 0;
  if (!wait_may_complete(s->rt, L))
    return wait_with_pen(L, s, true, push_send_file);
  return push_send_file(L, s);
}

static int push_send_held(lua_State *L, void *ud) { // stream data sent
  Stream *s = ud;
  check_pen(L, s);
  size_t size, sent = (size_t)lua_tointeger(L, 3);
  const char *data = lua_tolstring(L, 2, &size);
  struct iovec piece = {(char *)data + sent, size - sent};
  ssize_t n = writer_send(s, &piece, 1);
  if (n < 0 && would_block(errno))
    return wait_with_pen(L, s, true, push_send_held);
  if (n < 0)
    return raise_sending(L, s, errno);
  lua_pushinteger(L, n);
  return 1;
}

// Sends what is left of a string behind its first `sent` bytes, as much as is
// taken. Awaits until it is some. -> bytes
static int l_send_held(lua_State *L) { // stream data sent
  Stream *s = stream_check_both(L, 1);
  check_pen(L, s);
  if (!wait_may_complete(s->rt, L))
    return wait_with_pen(L, s, true, push_send_held);
  return push_send_held(L, s);
}

// ---- files -----------------------------------------------------------------

// Opens a file for reading. -> descriptor
static int l_open_file(lua_State *L) { // path
  const char *path = luaL_checkstring(L, 1);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return error_raise_errno(L, errno, "open", path);
  lua_pushinteger(L, fd);
  return 1;
}

// -> whether it has a place to read from, and what it is (raises for a folder)
static int l_is_seekable(lua_State *L) { // fd [path]
  int fd = (int)luaL_checkinteger(L, 1);
  struct stat st;
  int err = fstat(fd, &st) < 0 ? errno : S_ISDIR(st.st_mode) ? EISDIR : 0;
  if (err && lua_isstring(L, 2))
    return error_raise_errno(L, err, "sendfile", lua_tostring(L, 2));
  if (err)
    return raise_file(L, err, "sendfile", fd);
  lua_pushboolean(L, S_ISREG(st.st_mode) || S_ISBLK(st.st_mode));
  return 1;
}

// Reads from a file, at an offset where one is given. -> string, "" at its end
static int l_read_file(lua_State *L) { // fd, offset or nil, count
  int fd = (int)luaL_checkinteger(L, 1);
  lua_Integer count = luaL_checkinteger(L, 3);
  size_t room = count < READ_AT_MOST ? (size_t)count : READ_AT_MOST;
  luaL_Buffer b;
  char *data = luaL_buffinitsize(L, &b, room);
  ssize_t n;
  struct pollfd p = {.fd = fd, .events = POLLIN};
  if (lua_isnil(L, 2) && poll(&p, 1, 0) == 0)
    return 0; // a pipe that others read too, and were faster
  do
    n = lua_isnil(L, 2) ? read(fd, data, room)
                        : pread(fd, data, room, lua_tointeger(L, 2));
  while (n < 0 && errno == EINTR);
  if (n < 0 && would_block(errno))
    return 0; // somebody else was faster: not the end
  if (n < 0)
    return raise_file(L, errno, "read", fd);
  luaL_pushresultsize(&b, (size_t)n);
  return 1;
}

// How much Lua has read ahead of a file, which no descriptor gives any more.
static int l_buffered(lua_State *L) { // file -> bytes
  luaL_Stream *file = luaL_testudata(L, 1, LUA_FILEHANDLE);
  luaL_argcheck(L, file && file->closef, 1, "an open file is expected");
  lua_pushinteger(L, (lua_Integer)stream_buffered(file->f));
  return 1;
}

static int l_seek_descriptor(lua_State *L) { // fd offset
  lseek((int)luaL_checkinteger(L, 1), luaL_checkinteger(L, 2), SEEK_SET);
  return 0;
}

// The descriptor of a Lua file, or of an object that has one.
static int l_descriptor_of(lua_State *L) {
  luaL_Stream *file = luaL_testudata(L, 1, LUA_FILEHANDLE);
  luaL_argcheck(L, file && file->closef, 1, "an open file is expected");
  lua_pushinteger(L, fileno(file->f));
  return 1;
}

static const luaL_Reg functions[] = {
    {"take_pen",        l_take_pen       },
    {"drop_pen",        l_drop_pen       },
    {"wait_source",     l_wait_source    },
    {"send_file",       l_send_file      },
    {"send_held",       l_send_held      },
    {"open_file",       l_open_file      },
    {"is_seekable",     l_is_seekable    },
    {"read_file",       l_read_file      },
    {"seek_descriptor", l_seek_descriptor},
    {"descriptor_of",   l_descriptor_of  },
    {"buffered",        l_buffered       },
    {NULL,              NULL             },
};

void stream_sendfile_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
}
