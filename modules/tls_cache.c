// SPDX-License-Identifier: MIT
//
// Sessions to resume: what servers gave to the clients of a context, newest
// first, under a key that names host, port and name.
#include <string.h>

#include "tls.h"

struct Ticket {
  Ticket *next;
  SSL_SESSION *session;
  size_t key_size;
  char key[]; // not terminated
};

enum {
  TICKETS_AT_MOST = 1000,
  TICKETS_OF_ONE = 4 // with the same key: TLS 1.3 uses each of them once
};

static void free_ticket(Context *c, Ticket *k) {
  SSL_SESSION_free(k->session);
  runtime_free(c->rt, k, sizeof *k + k->key_size);
  c->ticket_count--;
}

static bool has_key(const Ticket *k, const char *key, size_t size) {
  return k->key_size == size && memcmp(k->key, key, size) == 0;
}

// Drops what is too old: of the same key, and altogether.
static void shorten(Context *c, const char *key, size_t size) {
  int all = 0, same = 0;
  for (Ticket **at = &c->tickets; *at;) {
    Ticket *k = *at;
    all++;
    same += has_key(k, key, size);
    if (all <= TICKETS_AT_MOST &&
        (same <= TICKETS_OF_ONE || !has_key(k, key, size))) {
      at = &k->next;
      continue;
    }
    *at = k->next;
    free_ticket(c, k);
  }
}

// A server has given a session. Returns 1 when it is kept.
static int on_new_session(SSL *ssl, SSL_SESSION *session) {
  Session *t = SSL_get_app_data(ssl);
  if (!t || !t->key)
    return 0;
  Context *c = t->context;
  size_t size = strlen(t->key);
  Ticket *k = runtime_realloc(c->rt, NULL, 0, sizeof *k + size);
  if (!k)
    return 0;
  k->session = session;
  k->key_size = size;
  memcpy(k->key, t->key, size);
  k->next = c->tickets;
  c->tickets = k;
  c->ticket_count++;
  shorten(c, t->key, size);
  return 1;
}

void cache_open(Context *c) {
  SSL_CTX_set_session_cache_mode(c->ssl, SSL_SESS_CACHE_CLIENT |
                                             SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(c->ssl, on_new_session);
}

void cache_clear(Context *c) {
  while (c->tickets) {
    Ticket *k = c->tickets;
    c->tickets = k->next;
    free_ticket(c, k);
  }
}

static bool is_for_once(const SSL_SESSION *session) {
  return SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
}

void cache_resume(Session *t) {
  Context *c = t->context;
  size_t size = t->key ? strlen(t->key) : 0;
  for (Ticket **at = &c->tickets; *at && size > 0; at = &(*at)->next) {
    Ticket *k = *at;
    if (!has_key(k, t->key, size))
      continue;
    bool usable = SSL_SESSION_is_resumable(k->session);
    if (usable)
      SSL_set_session(t->ssl, k->session); // takes a reference of its own
    if (!usable || is_for_once(k->session)) {
      *at = k->next;
      free_ticket(c, k);
    }
    return;
  }
}
