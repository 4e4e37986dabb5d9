// SPDX-License-Identifier: MIT
//
// What the controls on libev share: failing, a listener on loopback that
// accepts until there is nobody left, the port on standard output, and the end
// when a pipe on standard input closes. A program includes this and gives
// serve() what to do with a new connection.

#ifndef BENCH_SERVER_H
#define BENCH_SERVER_H

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

typedef void OpenConnection(struct ev_loop *loop, int fd);

static inline void __attribute__((noreturn)) fail(const char *what) {
  fprintf(stderr, "control: %s: %s\n", what, strerror(errno));
  exit(1);
}

static inline void listener_on_readable(struct ev_loop *loop, ev_io *watcher,
                                        int events) {
  OpenConnection *connection_open = (OpenConnection *)watcher->data;
  int on = 1;
  (void)events;
  for (;;) {
    int fd = accept4(watcher->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      connection_open(loop, fd);
    } else if (errno == EAGAIN)
      return;
    else if (errno != EINTR && errno != ECONNABORTED)
      fail("accept");
  }
}

static inline int listen_on_loopback(void) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    fail("socket");
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
    fail("bind");
  if (listen(fd, BACKLOG) < 0)
    fail("listen");
  return fd;
}

static inline void print_port(int fd) {
  struct sockaddr_in address;
  socklen_t length = sizeof address;
  if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
    fail("getsockname");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
}

static inline void stdin_on_readable(struct ev_loop *loop, ev_io *watcher,
                                     int events) {
  char ignored[512];
  (void)events;
  if (read(watcher->fd, ignored, sizeof ignored) <= 0)
    ev_break(loop, EVBREAK_ALL);
}

// Only a pipe or a socket can close; a terminal or /dev/null is left alone.
static inline void watch_stdin(struct ev_loop *loop, ev_io *watcher) {
  struct stat s;
  if (fstat(STDIN_FILENO, &s) < 0 ||
      !(S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode)))
    return;
  ev_io_init(watcher, stdin_on_readable, STDIN_FILENO, EV_READ);
  ev_io_start(loop, watcher);
}

// Prints the port, and serves until SIGTERM or until a pipe on standard input
// closes. `connection_open` gets descriptors that do not block.
static inline void serve(OpenConnection *connection_open) {
  ev_io listener, standard_input;
  struct ev_loop *loop = ev_loop_new(EVFLAG_AUTO);
  if (!loop)
    fail("ev_loop_new");
  int fd = listen_on_loopback();
  ev_io_init(&listener, listener_on_readable, fd, EV_READ);
  listener.data = (void *)connection_open;
  ev_io_start(loop, &listener);
  watch_stdin(loop, &standard_input);
  print_port(fd);
  ev_run(loop, 0);
}

#endif
