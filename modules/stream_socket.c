// SPDX-License-Identifier: MIT
//
// The plain socket transport. Each call says itself that it must not block, so
// that a socket shared with other processes may stay as they have it.
#include "stream.h"

static ssize_t socket_receive(Stream *s, void *data, size_t size) {
  return recv(s->fd, data, size, MSG_DONTWAIT);
}

static ssize_t socket_send(Stream *s, const struct iovec *pieces, int count) {
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
  if (count == 1)
    return send(s->fd, pieces->iov_base, pieces->iov_len, flags);
  struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                           .msg_iovlen = (size_t)count};
  return sendmsg(s->fd, &message, flags);
}

static int socket_shut_write(Stream *s) { return shutdown(s->fd, SHUT_WR); }

const Transport stream_tcp = {"tcp", socket_receive, socket_send,
                              socket_shut_write, stream_close_descriptor};

const Transport stream_unix = {"unix", socket_receive, socket_send,
                               socket_shut_write, stream_close_descriptor};
