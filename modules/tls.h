// SPDX-License-Identifier: MIT
//
// TLS: contexts, which hold certificates and rules, and sessions, which filter
// the bytes of a Stream. OpenSSL does the protocol; it reads and writes through
// a BIO of ours that never blocks and never raises a signal.
#ifndef MOONLOOP_TLS_H
#define MOONLOOP_TLS_H

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "stream.h"

typedef struct Context Context;
typedef struct Session Session;
typedef struct Ticket Ticket;

// What the sessions of one TLSContext have in common. It lives as long as one
// of them, also when the TLSContext was collected or has reloaded.
struct Context {
  Runtime *rt;
  int references;
  SSL_CTX *ssl;
  BIO_METHOD *bio;
  bool is_server;
  bool asks_name; // a function in Lua chooses the context by the name
  bool allows_truncation;
  bool caches;           // sessions to resume
  unsigned char *alpn;   // the protocols as they go over the wire, or NULL
  size_t alpn_size;      // of that
  unsigned char sid[16]; // what makes a client's session one of this context
  Ticket *tickets;       // newest first
  int ticket_count;
};

// What went wrong in a session, kept since it may be asked for again.
typedef struct Failure {
  unsigned long code; // OpenSSL's packed error, 0 when there is none
  long verify;        // X509_V_ERR_..., when a certificate was refused
  X509 *certificate;  // that one, which may be an authority's, or NULL
  X509 *peer;         // the peer's own, or NULL
  int system;         // errno when authorities could not be looked for, or 0
} Failure;

// Bytes that wait, [at, size) of them.
typedef struct Bytes {
  char *data;
  size_t at, size, capacity;
} Bytes;

enum { TLS_NAME_SIZE = 256 };

struct Session {
  Transport transport; // the Stream's, for this session alone
  const Transport *below;
  Stream *stream;
  Context *context; // that it was begun with
  Context *chosen;  // by name; the same where there was no choice
  SSL *ssl;         // NULL once the Stream is closed
  Bytes early;      // received before TLS was started
  Bytes out;        // encrypted, and not taken by the descriptor yet
  int end;          // what comes behind the last bytes received: an errno value
                    // or the like, SESSION_OVER, or 0
  char first[8];    // bytes that the peer has sent, the first of them
  bool heard;       // the peer has sent something
  bool at_eof;      // the descriptor has ended
  bool established; // the handshake is over
  bool name_asked;  // the choice by name is over
  bool received;    // data have come behind the handshake
  bool said_end;    // close_notify is on its way
  bool is_quiet;    // nothing is to be said any more
  int io_error;     // errno of the descriptor, 0 when it is well
  Failure failure;
  size_t allowance; // bytes that may be received before others have their turn
  ev_timer again;   // calls for stream_on_readable; looks whether all arrived
  Timer limit;      // of saying the end
  double limit_seconds;
  int on_the_way; // bytes that have not arrived when that was last looked at
  ev_io io;       // the handshake's; of what comes behind the end
  moonloop_wait *wait;      // of the task that does it
  char name[TLS_NAME_SIZE]; // of the server, as the client asked for it, or ""
  char *key;                // of the session in the cache, or NULL: allocated
};

enum {
  SESSION_OVER = -1, // the peer has said that this was all
  // Bytes that OpenSSL may be given in one call, a record's: it goes on by
  // itself as long as what comes is not for us.
  SESSION_ALLOWANCE = 16709
};

// OpenSSL's list of errors has to be empty before most calls; to make it so
// costs more than to look.
static inline void tls_forget_errors(void) {
  if (ERR_peek_error())
    ERR_clear_error();
}

// The session of a Stream, NULL when it has none.
Session *session_test(const Stream *s);

// ---- contexts: tls_context.c

#define TLS_CONTEXT_CLASS "moonloop.TLSContext"

Context *context_check(lua_State *L, int arg);
Context *context_use(Context *c); // takes a reference
void context_drop(Context *c);

// ---- options of contexts: tls_options.c

// Reads the options of the table at index 1 into a new context's SSL_CTX;
// raises what is wrong with them.
void context_configure(lua_State *L, Context *c);

// ---- sessions to resume: tls_cache.c

void cache_open(Context *c);
void cache_clear(Context *c);
// Has the session resume what was kept under its key.
void cache_resume(Session *t);

// ---- bytes below OpenSSL: tls_bio.c

bool session_open_bio(Session *t);

// Sends what waits in `out`. False when not all of it went, with errno set.
bool session_flush(Session *t);

// Throws away what the peer still sends. False when it has ended.
bool session_discard(Session *t);
void bytes_free(Runtime *rt, Bytes *b);
bool bytes_append(Runtime *rt, Bytes *b, const void *data, size_t size);

// ---- the filter: tls_filter.c

void session_init_transport(Session *t);

// The Stream at index `self` can be found from there on.
void session_register(lua_State *L, const Stream *s, int self);

// Whether something that was received waits in the session.
bool session_has_more(const Session *t);

// ---- failures: tls_error.c

// Notes what OpenSSL says of its last call, and forgets it there. Returns what
// it comes to: an errno value, STREAM_FAILED or STREAM_TRUNCATED.
int session_note_failure(Session *t, int ssl_error);

// Pushes the Error of what was noted. -> error
void session_push_error(lua_State *L, const Session *t, int err,
                        const char *op);

// Raises a TLSError with what OpenSSL says, for a context. `what` is the option
// that was wrong.
int tls_raise(lua_State *L, const char *what, const char *text);

// ---- certificates: tls_certificate.c

// Pushes a table with what a certificate says, or nil. -> table
void certificate_push(lua_State *L, X509 *certificate);

// Pushes its names as an Error shows them. -> string
void certificate_push_names(lua_State *L, X509 *certificate);
void certificate_push_time(lua_State *L, const ASN1_TIME *time);
void certificate_push_name(lua_State *L, const X509_NAME *name);

// ---- handshakes: tls_handshake.c

// Ends a handshake that waits, since its Stream was closed.
void handshake_stop(Session *t);
extern const luaL_Reg tls_handshake_functions[];

// Whether a name that the peer sent can be shown: it has nothing in it that a
// terminal or a log would take for something else.
bool tls_is_plain(const char *name);
int context_on_client_hello(SSL *ssl, int *alert, void *arg);
int context_on_verify(int good, X509_STORE_CTX *store);

void tls_context_open(Runtime *rt, lua_State *L);
void tls_open(Runtime *rt, lua_State *L);

#endif
