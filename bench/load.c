// SPDX-License-Identifier: MIT
//
// The load generator of the echo workloads: the closed loop of load.h over
// plain TCP.

#include "client.h"

typedef struct Link {
  int fd;
} Link;

static void link_open(Link *link, int port) { link->fd = connect_to(port); }

static size_t link_send(Link *link, const char *bytes, size_t length) {
  ssize_t n = send(link->fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && errno != EAGAIN && errno != EINTR)
    fail_errno("send");
  return n > 0 ? (size_t)n : 0;
}

static size_t link_receive(Link *link, char *bytes, size_t size) {
  ssize_t n = recv(link->fd, bytes, size, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return 0;
  if (n < 0)
    fail_errno("recv");
  if (n == 0)
    fail("the server closed a connection");
  return (size_t)n;
}

static int link_holds(const Link *link) {
  (void)link;
  return 0;
}

static void link_close(Link *link) { close(link->fd); }

#include "load.h"

int main(int argc, char **argv) { return load_main(argc, argv); }
