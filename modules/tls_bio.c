// SPDX-License-Identifier: MIT
//
// The BIO between OpenSSL and a Stream's descriptor. It gives first what was
// received before TLS was started. What it is asked to write it always takes:
// what the descriptor refuses waits here, so that no call of OpenSSL's has to
// be made again with the same bytes.
#include <errno.h>
#include <string.h>

#include "tls.h"

// More than this waits only if the peer asks for answers and takes none.
enum { OUT_AT_MOST = 262144 };

// ---- bytes -----------------------------------------------------------------

void bytes_free(Runtime *rt, Bytes *b) {
  runtime_free(rt, b->data, b->capacity);
  *b = (Bytes){0};
}

bool bytes_append(Runtime *rt, Bytes *b, const void *data, size_t size) {
  if (b->size + size > b->capacity) {
    size_t capacity = b->size + size;
    char *grown = runtime_realloc(rt, b->data, b->capacity, capacity);
    if (!grown)
      return false;
    b->data = grown;
    b->capacity = capacity;
  }
  memcpy(b->data + b->size, data, size);
  b->size += size;
  return true;
}

// ---- writing ---------------------------------------------------------------

static bool would_block(int err) { return err == EAGAIN || err == EWOULDBLOCK; }

// The first counts: a reset, say, becomes a broken pipe when one goes on.
static void note_error(Session *t, int err) {
  if (!t->io_error)
    t->io_error = err;
}

// Gives the descriptor what it takes of `size` bytes. -1: it is broken.
static ssize_t send_now(Session *t, const char *data, size_t size) {
  size_t sent = 0;
  while (sent < size) {
    struct iovec piece = {(char *)data + sent, size - sent};
    ssize_t n = t->below->send(t->stream, &piece, 1);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0 && would_block(errno))
      break;
    if (n < 0) {
      note_error(t, errno);
      return -1;
    }
    sent += (size_t)n;
  }
  return (ssize_t)sent;
}

bool session_flush(Session *t) {
  Bytes *out = &t->out;
  if (out->size > out->at) {
    ssize_t n = send_now(t, out->data + out->at, out->size - out->at);
    if (n < 0)
      return false;
    out->at += (size_t)n;
  }
  if (out->at < out->size) {
    errno = EAGAIN;
    return false;
  }
  bytes_free(t->stream->rt, out);
  t->stream->flags &= ~(unsigned)STREAM_HELD;
  return true;
}

static int bio_write(BIO *bio, const char *data, size_t size, size_t *written) {
  Session *t = BIO_get_data(bio);
  ssize_t sent = 0;
  BIO_clear_retry_flags(bio);
  if (t->out.size == 0)
    sent = send_now(t, data, size);
  if (sent < 0)
    return 0;
  size_t left = size - (size_t)sent;
  if (left > 0 && (t->out.size - t->out.at + left > OUT_AT_MOST ||
                   !bytes_append(t->stream->rt, &t->out, data + sent, left))) {
    note_error(t, ENOBUFS);
    return 0;
  }
  *written = size;
  return 1;
}

// ---- reading ---------------------------------------------------------------

static size_t take_early(Session *t, char *data, size_t size) {
  Bytes *early = &t->early;
  size_t n = early->size - early->at;
  if (n > size)
    n = size;
  memcpy(data, early->data + early->at, n);
  early->at += n;
  if (early->at == early->size)
    bytes_free(t->stream->rt, early);
  return n;
}

static void note_first(Session *t, const char *data, size_t size) {
  if (t->heard)
    return;
  t->heard = true;
  memcpy(t->first, data, size < sizeof t->first ? size : sizeof t->first);
}

static ssize_t receive(Session *t, void *data, size_t size) {
  ssize_t n;
  do
    n = t->below->receive(t->stream, data, size);
  while (n < 0 && errno == EINTR);
  return n;
}

bool session_discard(Session *t) {
  ssize_t n = 1;
  for (int i = 0; i < 16 && n > 0; i++)
    n = receive(t, t->stream->rt->receive_buffer, RECEIVE_BUFFER_SIZE);
  return n > 0 || (n < 0 && would_block(errno));
}

static int bio_read(BIO *bio, char *data, size_t size, size_t *received) {
  Session *t = BIO_get_data(bio);
  ssize_t n;
  BIO_clear_retry_flags(bio);
  if (t->early.size > 0) {
    *received = take_early(t, data, size);
    note_first(t, data, *received);
    return 1;
  }
  if (t->allowance == 0) { // the descriptor will tell again that there is more
    BIO_set_retry_read(bio);
    return 0;
  }
  n = receive(t, data, size);
  if (n > 0)
    t->allowance -= (size_t)n < t->allowance ? (size_t)n : t->allowance;
  if (n < 0 && would_block(errno)) {
    BIO_set_retry_read(bio);
  } else if (n < 0) {
    note_error(t, errno);
  } else if (n == 0) {
    t->at_eof = true;
  } else {
    *received = (size_t)n;
    note_first(t, data, (size_t)n);
  }
  return n > 0;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
  const Session *t = BIO_get_data(bio);
  (void)number, (void)pointer;
  if (command == BIO_CTRL_EOF)
    return t->at_eof;
  return command == BIO_CTRL_FLUSH; // all is sent as soon as it can be
}

// ---- making ----------------------------------------------------------------

static BIO_METHOD *new_method(void) {
  BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "moonloop");
  if (!method)
    return NULL;
  BIO_meth_set_write_ex(method, bio_write);
  BIO_meth_set_read_ex(method, bio_read);
  BIO_meth_set_ctrl(method, bio_control);
  return method;
}

bool session_open_bio(Session *t) {
  Context *c = t->context;
  if (!c->bio)
    c->bio = new_method();
  BIO *bio = c->bio ? BIO_new(c->bio) : NULL;
  if (!bio)
    return false;
  BIO_set_data(bio, t);
  BIO_set_init(bio, 1);
  SSL_set_bio(t->ssl, bio, bio); // which owns it
  return true;
}
