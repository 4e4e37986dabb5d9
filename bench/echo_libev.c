// SPDX-License-Identifier: MIT
//
// The control of the echo and memory workloads: what plain good C on libev
// does with one process. One static receive buffer, the read watcher armed
// once for each connection, every piece sent back at once; the write watcher
// runs only while a socket is full, and reading rests meanwhile. Prints its
// port, serves until SIGTERM or until a pipe on its standard input closes.

#define _GNU_SOURCE 1 // accept4

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ev.h>

enum { RECEIVE_BYTES = 65536, BACKLOG = 4096 };

typedef struct Connection {
  ev_io reading, writing;
  char *unsent; // what a full socket did not take; NULL while there is none
  size_t offset, length;
} Connection;

static char buffer[RECEIVE_BYTES];

static void fail(const char *what) {
  fprintf(stderr, "echo_libev: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void connection_close(struct ev_loop *loop, Connection *c) {
  ev_io_stop(loop, &c->reading);
  ev_io_stop(loop, &c->writing);
  close(c->reading.fd);
  free(c->unsent);
  free(c);
}

// How much the socket took; -1 when the connection is broken.
static ssize_t send_some(int fd, const char *bytes, size_t length) {
  ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);
  if (n >= 0)
    return n;
  return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static void keep_unsent(struct ev_loop *loop, Connection *c, const char *bytes,
                        size_t length) {
  c->unsent = malloc(length);
  if (!c->unsent)
    fail("malloc");
  memcpy(c->unsent, bytes, length);
  c->offset = 0;
  c->length = length;
  ev_io_stop(loop, &c->reading);
  ev_io_start(loop, &c->writing);
}

static void connection_on_writable(struct ev_loop *loop, ev_io *watcher,
                                   int events) {
  Connection *c = watcher->data;
  (void)events;
  ssize_t n = send_some(watcher->fd, c->unsent + c->offset, c->length);
  if (n < 0) {
    connection_close(loop, c);
    return;
  }
  c->offset += (size_t)n;
  c->length -= (size_t)n;
  if (c->length > 0)
    return;
  free(c->unsent);
  c->unsent = NULL;
  ev_io_stop(loop, &c->writing);
  ev_io_start(loop, &c->reading);
}

static void connection_on_readable(struct ev_loop *loop, ev_io *watcher,
                                   int events) {
  Connection *c = watcher->data;
  (void)events;
  ssize_t got = recv(watcher->fd, buffer, sizeof buffer, 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  ssize_t sent = got > 0 ? send_some(watcher->fd, buffer, (size_t)got) : -1;
  if (sent < 0)
    connection_close(loop, c);
  else if (sent < got)
    keep_unsent(loop, c, buffer + sent, (size_t)(got - sent));
}

static void connection_open(struct ev_loop *loop, int fd) {
  int on = 1;
  Connection *c = malloc(sizeof *c);
  if (!c)
    fail("malloc");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  c->unsent = NULL;
  ev_io_init(&c->reading, connection_on_readable, fd, EV_READ);
  ev_io_init(&c->writing, connection_on_writable, fd, EV_WRITE);
  c->reading.data = c->writing.data = c;
  ev_io_start(loop, &c->reading);
}

static void listener_on_readable(struct ev_loop *loop, ev_io *watcher,
                                 int events) {
  (void)events;
  for (;;) {
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
      connection_open(loop, fd);
    else if (errno == EAGAIN)
      return;
    else if (errno != EINTR && errno != ECONNABORTED)
      fail("accept");
  }
}

static int listen_on_loopback(int port) {
  int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    fail("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
    fail("bind");
  if (listen(fd, BACKLOG) < 0)
    fail("listen");
  return fd;
}

static void print_port(int fd) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
    fail("getsockname");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
}

static void stdin_on_readable(struct ev_loop *loop, ev_io *watcher,
                              int events) {
  char ignored[512];
  (void)events;
  if (read(watcher->fd, ignored, sizeof ignored) <= 0)
    ev_break(loop, EVBREAK_ALL);
}

// Only a pipe or a socket can close; a terminal or /dev/null is left alone.
static void watch_stdin(struct ev_loop *loop, ev_io *watcher) {
  struct stat s;
  if (fstat(STDIN_FILENO, &s) < 0 ||
      !(S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode)))
    return;
  ev_io_init(watcher, stdin_on_readable, STDIN_FILENO, EV_READ);
  ev_io_start(loop, watcher);
}

int main(int argc, char **argv) {
  ev_io listener, standard_input;
  if (argc > 1 && strcmp(argv[1], "--version") == 0) {
    printf("libev %d.%d\n", ev_version_major(), ev_version_minor());
    return 0;
  }
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  if (!loop)
    fail("ev_loop_new");
  int fd = listen_on_loopback(argc > 1 ? atoi(argv[1]) : 0);
  ev_io_init(&listener, listener_on_readable, fd, EV_READ);
  ev_io_start(loop, &listener);
  watch_stdin(loop, &standard_input);
  print_port(fd);
  ev_run(loop, 0);
  return 0;
}
