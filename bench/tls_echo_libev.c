// SPDX-License-Identifier: MIT
//
// The control of the tls_echo workload, tls_echo_libev PEM: what plain good C
// on libev and OpenSSL does with one process. TLS 1.3 and its default cipher;
// OpenSSL reads ahead, so a record costs one recv, and gives its buffers back
// between records; one static buffer for the plain bytes, the read watcher
// armed once for each connection. The write watcher runs only while a socket
// is full, and reading rests meanwhile. The file PEM has the key and the
// certificate.

#define _GNU_SOURCE 1 // accept4

#include "server.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>

typedef struct Connection {
  ev_io reading, writing;
  SSL *tls;
  char *unsent; // what a full socket did not take; NULL while there is none
  int length;
} Connection;

static char buffer[RECEIVE_BYTES];
static SSL_CTX *context;

static void __attribute__((noreturn)) fail_tls(const char *what) {
  ERR_print_errors_fp(stderr);
  fail(what);
}

static void connection_close(struct ev_loop *loop, Connection *c) {
  ev_io_stop(loop, &c->reading);
  ev_io_stop(loop, &c->writing);
  SSL_shutdown(c->tls);
  SSL_free(c->tls);
  ERR_clear_error();
  close(c->reading.fd);
  free(c->unsent);
  free(c);
}

// Whether a call of OpenSSL that gave `result` may be tried again later.
static int can_wait(Connection *c, int result) {
  int reason = SSL_get_error(c->tls, result);
  return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE;
}

static void keep_unsent(struct ev_loop *loop, Connection *c, int length) {
  c->unsent = malloc((size_t)length);
  if (!c->unsent)
    fail("malloc");
  memcpy(c->unsent, buffer, (size_t)length);
  c->length = length;
  ev_io_stop(loop, &c->reading);
  ev_io_start(loop, &c->writing);
}

// Sends back every record that has come. OpenSSL holds on to what it read
// ahead, and of that the watcher knows nothing.
static void echo_records(struct ev_loop *loop, Connection *c) {
  do {
    int got = SSL_read(c->tls, buffer, sizeof buffer);
    if (got <= 0) {
      if (!can_wait(c, got))
        connection_close(loop, c);
      return;
    }
    int sent = SSL_write(c->tls, buffer, got);
    if (sent <= 0) {
      if (can_wait(c, sent))
        keep_unsent(loop, c, got);
      else
        connection_close(loop, c);
      return;
    }
  } while (SSL_has_pending(c->tls));
}

static void connection_on_readable(struct ev_loop *loop, ev_io *watcher,
                                   int events) {
  (void)events;
  echo_records(loop, watcher->data);
}

static void connection_on_writable(struct ev_loop *loop, ev_io *watcher,
                                   int events) {
  Connection *c = watcher->data;
  (void)events;
  int sent = SSL_write(c->tls, c->unsent, c->length);
  if (sent <= 0) {
    if (!can_wait(c, sent))
      connection_close(loop, c);
    return;
  }
  free(c->unsent);
  c->unsent = NULL;
  ev_io_stop(loop, &c->writing);
  ev_io_start(loop, &c->reading);
  echo_records(loop, c);
}

static void connection_open(struct ev_loop *loop, int fd) {
  Connection *c = malloc(sizeof *c);
  if (!c)
    fail("malloc");
  c->unsent = NULL;
  c->tls = SSL_new(context);
  if (!c->tls || !SSL_set_fd(c->tls, fd))
    fail_tls("SSL_new");
  SSL_set_accept_state(c->tls);
  ev_io_init(&c->reading, connection_on_readable, fd, EV_READ);
  ev_io_init(&c->writing, connection_on_writable, fd, EV_WRITE);
  c->reading.data = c->writing.data = c;
  ev_io_start(loop, &c->reading);
}

static SSL_CTX *server_context(const char *pem) {
  SSL_CTX *new = SSL_CTX_new(TLS_server_method());
  if (!new || !SSL_CTX_set_min_proto_version(new, TLS1_3_VERSION))
    fail_tls("context");
  if (SSL_CTX_use_certificate_chain_file(new, pem) != 1 ||
      SSL_CTX_use_PrivateKey_file(new, pem, SSL_FILETYPE_PEM) != 1)
    fail_tls(pem);
  SSL_CTX_set_read_ahead(new, 1);
  SSL_CTX_set_mode(new, SSL_MODE_RELEASE_BUFFERS |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return new;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: tls_echo_libev PEM\n");
    return 2;
  }
  signal(SIGPIPE, SIG_IGN);
  context = server_context(argv[1]);
  serve(connection_open);
  return 0;
}
