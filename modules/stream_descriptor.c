// SPDX-License-Identifier: MIT
//
// The transports of descriptors that are no sockets: pipes, terminals, both
// ends of a pseudo-terminal, files; and the standard streams, whatever they
// are. A descriptor that others share is never made non-blocking: a pipe or
// terminal is opened once more by its name in /proc, which gives a file
// description of its own; where that fails, each call first asks whether it
// would block.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "stream_protocol.h"

// What a terminal takes without blocking once it says that it is writable.
enum { TERMINAL_PIECE = 256 };

// ---- SIGPIPE ---------------------------------------------------------------

void quiet_pipe_begin(QuietPipe *q) {
  sigset_t pipe, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &q->mask);
  q->was_pending = false;
  if (!sigismember(&q->mask, SIGPIPE))
    return; // unblocked until now, none can be pending
  sigpending(&pending);
  q->was_pending = sigismember(&pending, SIGPIPE) == 1;
}

void quiet_pipe_end(const QuietPipe *q, bool broken) {
  const struct timespec now = {0, 0};
  int err = errno;
  sigset_t pipe;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  if (broken && !q->was_pending)
    while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
      ;
  pthread_sigmask(SIG_SETMASK, &q->mask, NULL);
  errno = err;
}

// ---- Lua files --------------------------------------------------------------

luaL_Stream **stream_file_of(Stream *s) {
  return s->push ? push_file(s) : (luaL_Stream **)(s + 1);
}

// Its number may be anybody's then; a description of our own stays ours.
static bool has_lost_file(const Stream *s) {
  luaL_Stream *file = NULL;
  if ((s->flags & STREAM_BORROWED) && !(s->flags & STREAM_STANDARD))
    file = *stream_file_of((Stream *)s);
  return file && !file->closef;
}

static bool has_lost_descriptor(const Stream *s) {
  return s->fd == s->original && has_lost_file(s);
}

bool stream_is_alive(const Stream *s) {
  return !has_lost_descriptor(s) && fcntl(s->fd, F_GETFD) >= 0;
}

// ---- reading and writing ---------------------------------------------------

// Whether a call on a shared descriptor would not block; else errno is EAGAIN.
static bool is_ready(const Stream *s, short events) {
  if (has_lost_descriptor(s)) {
    errno = EBADF;
    return false;
  }
  if (!(s->flags & STREAM_BLOCKING))
    return true;
  struct pollfd p = {.fd = s->fd, .events = events};
  if (poll(&p, 1, 0) > 0)
    return true;
  errno = EAGAIN;
  return false;
}

static ssize_t fd_receive(Stream *s, void *data, size_t size) {
  return is_ready(s, POLLIN) ? read(s->fd, data, size) : -1;
}

// The last holder of the other end has gone.
static ssize_t tty_receive(Stream *s, void *data, size_t size) {
  ssize_t n = fd_receive(s, data, size);
  return n < 0 && errno == EIO ? 0 : n;
}

static ssize_t write_blocking(Stream *s, const struct iovec *piece) {
  size_t most = s->transport == &stream_pipe ? PIPE_BUF : TERMINAL_PIECE;
  return write(s->fd, piece->iov_base,
               piece->iov_len < most ? piece->iov_len : most);
}

static ssize_t fd_send(Stream *s, const struct iovec *pieces, int count) {
  QuietPipe quiet;
  if (!is_ready(s, POLLOUT))
    return -1;
  quiet_pipe_begin(&quiet);
  ssize_t n = s->flags & STREAM_BLOCKING ? write_blocking(s, pieces)
                                         : writev(s->fd, pieces, count);
  quiet_pipe_end(&quiet, n < 0 && errno == EPIPE);
  return n;
}

// ---- letting go ------------------------------------------------------------

// Puts /dev/null in the place of a descriptor whose number others go on using.
static int replace_by_null(int fd) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) { // descriptors are out: this one's place will do
    close(fd);
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
  }
  if (null < 0)
    return -1;
  if (null == fd)
    return 0;
  int rc = dup2(null, fd) < 0 ? -1 : 0;
  close(null);
  return rc;
}

void stream_close_descriptor(Stream *s) {
  if (s->fd != s->original)
    close(s->fd);
  if (s->original < 0 || has_lost_file(s))
    return;
  bool stays = (s->flags & STREAM_STANDARD) && (s->flags & STREAM_DROPPED);
  if (!stays)
    replace_by_null(s->original);
}

// The reader of a pipe learns of the end when nobody can write any more.
static int pipe_shut_write(Stream *s) {
  if (s->original >= 0 && !has_lost_file(s) && replace_by_null(s->original) < 0)
    return -1;
  return s->fd == s->original ? 0 : replace_by_null(s->fd);
}

static int file_shut_write(Stream *s) {
  (void)s;
  return 0;
}

const Transport stream_pipe = {
    "pipe", fd_receive, fd_send, pipe_shut_write, stream_close_descriptor,
    NULL};
const Transport stream_tty = {
    "tty", tty_receive, fd_send, NULL, stream_close_descriptor, NULL};
const Transport stream_pty = {
    "pty", tty_receive, fd_send, NULL, stream_close_descriptor, NULL};
const Transport stream_device = {
    "device", fd_receive, fd_send, NULL, stream_close_descriptor, NULL};
const Transport stream_file = {
    "file", fd_receive, fd_send, file_shut_write, stream_close_descriptor,
    NULL};
