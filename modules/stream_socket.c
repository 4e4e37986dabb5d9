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

// Closed with something unread, TCP resets the connection and drops what the
// peer has not got yet. So what came is thrown away first, unless there is no
// end of it.
static void tcp_close(Stream *s) {
  const unsigned done = STREAM_EOF | STREAM_ABORTED;
  if (!(s->flags & done) && !s->read_error && !s->write_error)
    for (int i = 0; i < 16; i++)
      if (recv(s->fd, s->rt->receive_buffer, RECEIVE_BUFFER_SIZE,
               MSG_DONTWAIT | MSG_TRUNC) <= 0)
        break;
  stream_close_descriptor(s);
}

const Transport stream_tcp = {
    "tcp", socket_receive, socket_send, socket_shut_write, tcp_close, NULL};

const Transport stream_unix = {"unix",
                               socket_receive,
                               socket_send,
                               socket_shut_write,
                               stream_close_descriptor,
                               NULL};
