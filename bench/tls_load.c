// SPDX-License-Identifier: MIT
//
// The load generator of the tls_echo workload: the closed loop of load.h over
// TLS 1.3 with OpenSSL. Connections and handshakes are made one after another
// before the clock starts. The certificate is not looked at: the server is a
// child of the benchmark, and a look at it would cost the handshake alone.

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include "client.h"

typedef struct Link {
  int fd;
  SSL *tls;
} Link;

static void __attribute__((noreturn)) fail_tls(const char *what) {
  ERR_print_errors_fp(stderr);
  fail("%s: TLS failed", what);
}

static SSL_CTX *client_context(void) {
  static SSL_CTX *context;
  if (context)
    return context;
  context = SSL_CTX_new(TLS_client_method());
  if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION))
    fail_tls("context");
  SSL_CTX_set_read_ahead(context, 1);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

static void link_open(Link *link, int port) {
  link->fd = connect_to(port);
  link->tls = SSL_new(client_context());
  if (!link->tls || !SSL_set_fd(link->tls, link->fd))
    fail_tls("SSL_new");
  if (SSL_connect(link->tls) != 1)
    fail_tls("handshake");
  if (fcntl(link->fd, F_SETFL, fcntl(link->fd, F_GETFL) | O_NONBLOCK) < 0)
    fail_errno("O_NONBLOCK");
}

// What a call of OpenSSL carried, where it is not a failure.
static size_t carried(Link *link, const char *what, int result) {
  if (result > 0)
    return (size_t)result;
  switch (SSL_get_error(link->tls, result)) {
  case SSL_ERROR_WANT_READ:
  case SSL_ERROR_WANT_WRITE:
    return 0;
  case SSL_ERROR_ZERO_RETURN:
    fail("the server closed a connection");
  default:
    fail_tls(what);
  }
}

// A batch is at most 16 MiB, so its length is an int.
static size_t link_send(Link *link, const char *bytes, size_t length) {
  return carried(link, "send", SSL_write(link->tls, bytes, (int)length));
}

static size_t link_receive(Link *link, char *bytes, size_t size) {
  return carried(link, "recv", SSL_read(link->tls, bytes, (int)size));
}

static int link_holds(const Link *link) { return SSL_has_pending(link->tls); }

static void link_close(Link *link) {
  SSL_shutdown(link->tls);
  SSL_free(link->tls);
  close(link->fd);
}

#include "load.h"

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
  return load_main(argc, argv);
}
