// SPDX-License-Identifier: MIT
//
// The control of the echo and memory workloads: what plain good C on libev
// does with one process. One static receive buffer, the read watcher armed
// once for each connection, every piece sent back at once; the write watcher
// runs only while a socket is full, and reading rests meanwhile.

#define _GNU_SOURCE 1 // accept4

#include "server.h"

typedef struct Connection {
  ev_io reading, writing;
  char *unsent; // what a full socket did not take; NULL while there is none
  size_t offset, length;
} Connection;

static char buffer[RECEIVE_BYTES];

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
  Connection *c = malloc(sizeof *c);
  if (!c)
    fail("malloc");
  c->unsent = NULL;
  ev_io_init(&c->reading, connection_on_readable, fd, EV_READ);
  ev_io_init(&c->writing, connection_on_writable, fd, EV_WRITE);
  c->reading.data = c->writing.data = c;
  ev_io_start(loop, &c->reading);
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "--version") == 0) {
    printf("libev %d.%d\n", ev_version_major(), ev_version_minor());
    return 0;
  }
  serve(connection_open);
  return 0;
}
