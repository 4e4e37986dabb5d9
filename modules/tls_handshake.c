// SPDX-License-Identifier: MIT
//
// The handshake: a task does it on a Stream that nobody reads or writes
// meanwhile. Where the context is chosen by name, it comes back to Lua for that
// once, and goes on.
#include <errno.h>
#include <fcntl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/task.h"
#include "stream_protocol.h"
#include "stream_queue.h"
#include "tls.h"

// ---- what OpenSSL asks -----------------------------------------------------

bool tls_is_plain(const char *name) {
  for (; *name; name++)
    if (*name <= ' ' || *name > '~')
      return false;
  return true;
}

// Reads the name out of the client's extension: a length, a type, a length and
// the name. Nothing else has ever been sent there.
static void take_name(Session *t, const unsigned char *data, size_t size) {
  if (size < 5 || data[2] != TLSEXT_NAMETYPE_host_name)
    return;
  size_t n = (size_t)data[3] << 8 | data[4];
  if (n == 0 || n > size - 5 || n >= TLS_NAME_SIZE)
    return; // OpenSSL will refuse it
  memcpy(t->name, data + 5, n);
  t->name[n] = 0;
  if (strlen(t->name) != n || !tls_is_plain(t->name))
    t->name[0] = 0;
}

int context_on_client_hello(SSL *ssl, int *alert, void *arg) {
  Session *t = SSL_get_app_data(ssl);
  const unsigned char *data;
  size_t size;
  (void)arg;
  if (t->is_quiet) {
    *alert = SSL_AD_INTERNAL_ERROR;
    return SSL_CLIENT_HELLO_ERROR;
  }
  if (t->name_asked)
    return SSL_CLIENT_HELLO_SUCCESS;
  if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &data, &size))
    take_name(t, data, size);
  return SSL_CLIENT_HELLO_RETRY;
}

static void keep(X509 **place, X509 *certificate) {
  X509_free(*place);
  *place = certificate;
  if (certificate)
    X509_up_ref(certificate);
}

// OpenSSL takes an authority for unknown when it cannot open the file.
static int lack_of_descriptors(void) {
  int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return errno == EMFILE || errno == ENFILE ? errno : 0;
  close(fd);
  return 0;
}

// Keeps what was wrong, for the Error.
int context_on_verify(int good, X509_STORE_CTX *store) {
  int index = SSL_get_ex_data_X509_STORE_CTX_idx();
  SSL *ssl = X509_STORE_CTX_get_ex_data(store, index);
  Session *t = ssl ? SSL_get_app_data(ssl) : NULL;
  if (good || !t || SSL_get_verify_mode(ssl) == SSL_VERIFY_NONE)
    return good;
  t->failure.verify = X509_STORE_CTX_get_error(store);
  t->failure.system = lack_of_descriptors();
  keep(&t->failure.certificate, X509_STORE_CTX_get_current_cert(store));
  keep(&t->failure.peer, X509_STORE_CTX_get0_cert(store));
  return good;
}

// ---- beginning -------------------------------------------------------------

static bool is_busy_writing(const Stream *s) {
  const Writer *w = s->writer;
  return w && (w->writers.first || w->drainers.first || w->granted);
}

static void check_startable(lua_State *L, Stream *s) {
  char name[64];
  stream_check_started(L, s);
  if (s->flags & (STREAM_CLOSING | STREAM_CLOSED))
    error_raise(L, "InvalidStateError", "the stream is closed");
  if (session_test(s))
    error_raise(L, "InvalidStateError", "the stream has TLS already");
  if (s->transport != &stream_tcp && s->transport != &stream_unix)
    error_raise(L, "InvalidStateError", "TLS needs a socket, not a %s",
                s->transport->name);
  if (s->flags & STREAM_ENDING)
    error_raise(L, "InvalidStateError", "write_eof was called on the stream");
  if (s->read.wait) {
    task_name(s->rt, task_of_wait(s->read.wait), name, sizeof name);
    error_raise(L, "InvalidStateError", "task '%s' is reading from this stream",
                name);
  }
  if (is_busy_writing(s))
    error_raise(L, "InvalidStateError", "a task is writing to this stream");
  int err = s->read_error ? s->read_error : s->write_error;
  if (err)
    stream_raise(L, s, err, "tls handshake with");
}

// Raises unless TLS can be started on a stream. A protocol is not called from
// then on, until `tls_begin` or `tls_let_go`. -> whether something is unsent
static int l_tls_prepare(lua_State *L) { // stream
  Stream *s = stream_check_both(L, 1);
  if (s->writer && s->writer->pen_taken)
    error_raise(L, "InvalidStateError", "a task is writing to this stream");
  check_startable(L, s);
  if (s->push) {
    s->flags |= STREAM_PREPARING;
    stream_unwatch(s);
  }
  lua_pushboolean(L, stream_unsent(s) > 0);
  return 1;
}

// For a protocol: what was kept from it while TLS was started.
static void go_on(lua_State *L, Stream *s) {
  push_read_on(s);
  if (s->push->writing_paused && !(s->flags & STREAM_CLOSED))
    writer_watch(writer_need(L, s, 1)); // from which it is told
}

// It came to nothing, and the stream is as it was.
static int l_tls_let_go(lua_State *L) { // stream
  Stream *s = stream_check_both(L, 1);
  if (!(s->flags & STREAM_PREPARING))
    return 0;
  s->flags &= ~(unsigned)STREAM_PREPARING;
  go_on(L, s);
  return 0;
}

// What was received is for TLS to read.
static void take_early(Session *t, Stream *s) {
  t->early = (Bytes){s->data, s->start, s->end, s->capacity};
  s->data = NULL;
  s->start = s->end = s->capacity = 0;
  if (t->early.at == t->early.size)
    bytes_free(s->rt, &t->early);
}

// Asks for a host by name (or numeric address) and has its certificate looked
// at for that.
static bool expect_host(Session *t, const char *name, bool numeric) {
  SSL *ssl = t->ssl;
  snprintf(t->name, sizeof t->name, "%s", name);
  if (numeric)
    return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
  SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                             X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return SSL_set_tlsext_host_name(ssl, name) && SSL_set1_host(ssl, name);
}

static bool keep_key(Session *t, const char *key) {
  size_t size = strlen(key) + 1;
  t->key = runtime_realloc(t->stream->rt, NULL, 0, size);
  if (t->key)
    memcpy(t->key, key, size);
  return t->key != NULL;
}

// The session becomes the Stream's before anything else can fail: it is freed
// with it.
static Session *new_session(lua_State *L, Stream *s, Context *c) {
  Session *t = runtime_realloc(s->rt, NULL, 0, sizeof *t);
  if (!t)
    luaL_error(L, "not enough memory");
  memset(t, 0, sizeof *t);
  t->stream = s;
  t->below = s->transport;
  t->context = context_use(c);
  t->chosen = context_use(c);
  session_init_transport(t);
  stream_unwatch(s);
  s->transport = &t->transport;
  s->flags |= STREAM_STARTING;
  s->flags &= ~(unsigned)(STREAM_MORE | STREAM_EOF | STREAM_PREPARING);
  take_early(t, s);
  return t;
}

// Who it is to be, and what is known of earlier sessions. Returns what is
// wrong.
static const char *set_up(Session *t, const char *name, bool numeric,
                          const char *key) {
  t->ssl = SSL_new(t->context->ssl);
  if (!t->ssl || !session_open_bio(t))
    return "there is no memory for a session";
  SSL_set_app_data(t->ssl, t);
  if (t->context->is_server) {
    SSL_set_accept_state(t->ssl);
    return NULL;
  }
  SSL_set_connect_state(t->ssl);
  if (name && !expect_host(t, name, numeric))
    return "no certificate can be for the option 'server_hostname'";
  if (key && t->context->caches && keep_key(t, key))
    cache_resume(t);
  return NULL;
}

// Puts a session on a stream; `tls_handshake` is to follow.
static int l_tls_begin(lua_State *L) { // stream context name numeric key limit
  Stream *s = stream_check_both(L, 1);
  Context *c = context_check(L, 2);
  const char *name = luaL_optstring(L, 3, NULL);
  const char *key = luaL_optstring(L, 5, NULL);
  lua_Number limit = luaL_checknumber(L, 6);
  check_startable(L, s);
  session_register(L, s, 1);
  Session *t = new_session(L, s, c);
  t->limit_seconds = limit;
  tls_forget_errors();
  const char *problem = set_up(t, name, lua_toboolean(L, 4), key);
  if (problem) {
    stream_finish_close(s);
    return tls_raise(L, "tls handshake", problem);
  }
  tls_forget_errors();
  return 0;
}

// ---- waiting ---------------------------------------------------------------

static int push_step(lua_State *L, void *ud);

static int abort_handshake(moonloop_wait *w, void *ud) {
  Session *t = ud;
  (void)w;
  t->wait = NULL;
  ev_io_stop(t->stream->rt->loop, &t->io);
  return 1;
}

static void describe_handshake(Runtime *rt, moonloop_wait *w, char *text,
                               size_t size) {
  char name[ADDRESS_TEXT_SIZE];
  (void)rt;
  stream_name(((Session *)w->abort_ud)->stream, name, sizeof name);
  snprintf(text, size, "tls handshake with %s", name);
}

static int push_stopped(lua_State *L, void *ud) {
  (void)ud;
  return error_raise(L, "InvalidStateError",
                     "the stream was closed during the TLS handshake");
}

void handshake_stop(Session *t) {
  moonloop_wait *w = t->wait;
  t->wait = NULL;
  if (ev_is_active(&t->io))
    ev_io_stop(t->stream->rt->loop, &t->io);
  if (w)
    wait_wake_later(w, push_stopped, NULL);
}

static void on_io(struct ev_loop *loop, ev_io *io, int revents) {
  Session *t = io->data;
  moonloop_wait *w = t->wait;
  (void)revents;
  t->stream->rt->events++;
  ev_io_stop(loop, io);
  t->wait = NULL;
  moonloop_wake(w, push_step, t);
}

static int wait_for(lua_State *L, Session *t, int events) {
  Stream *s = t->stream;
  if (!stream_is_alive(s)) // libev would end the process
    return stream_raise(L, s, EBADF, "tls handshake with");
  moonloop_wait *w =
      wait_begin_io(s->rt, L, abort_handshake, t, describe_handshake);
  ev_io_init(&t->io, on_io, s->fd, events);
  t->io.data = t;
  ev_io_start(s->rt->loop, &t->io);
  t->wait = w;
  return moonloop_await(L, w);
}

// ---- stepping --------------------------------------------------------------

static int raise_failure(lua_State *L, Session *t, int err) {
  t->is_quiet = true;
  session_push_error(L, t, err, "tls handshake with");
  return lua_error(L);
}

static int finish(lua_State *L, Session *t) { // -> "done"
  Stream *s = t->stream;
  t->established = true;
  s->flags &= ~(unsigned)STREAM_STARTING;
  if (session_has_more(t))
    s->flags |= STREAM_MORE;
  if (s->push) {
    s->push->reading_paused = false; // asyncio gives a new transport here
    go_on(L, s);
  }
  lua_pushliteral(L, "done");
  return 1;
}

static int push_name(lua_State *L, Session *t) { // -> "name", name or nil
  t->name_asked = true;
  lua_pushliteral(L, "name");
  if (t->name[0])
    lua_pushstring(L, t->name);
  else
    lua_pushnil(L);
  return 2;
}

// Goes on until something has to be waited for, or a choice to be made.
static int push_step(lua_State *L, void *ud) {
  Session *t = ud;
  if (!t->ssl)
    return push_stopped(L, NULL);
  if (!session_flush(t) && errno != EAGAIN)
    return raise_failure(L, t, t->io_error);
  t->allowance = SESSION_ALLOWANCE;
  tls_forget_errors();
  int rc = SSL_do_handshake(t->ssl);
  if (rc == 1)
    return t->out.size == 0 ? finish(L, t) : wait_for(L, t, EV_WRITE);
  int ssl_error = SSL_get_error(t->ssl, rc);
  if (ssl_error == SSL_ERROR_WANT_READ)
    return wait_for(L, t, t->out.size > 0 ? EV_READ | EV_WRITE : EV_READ);
  if (ssl_error == SSL_ERROR_WANT_CLIENT_HELLO_CB)
    return push_name(L, t);
  return raise_failure(L, t, session_note_failure(t, ssl_error));
}

static Session *check_session(lua_State *L) {
  Session *t = session_test(stream_check_both(L, 1));
  if (!t || !t->ssl)
    error_raise(L, "InvalidStateError",
                "the stream was closed during the TLS handshake");
  return t;
}

// Does the handshake. Awaits. -> "done", or "name" and the name that the client
// asks for, or nil: then `tls_choose` has to follow, and this again
static int l_tls_handshake(lua_State *L) { // stream
  Session *t = check_session(L);
  wait_check(t->stream->rt, L);
  return push_step(L, t);
}

// Has the session go on with another context.
static int l_tls_choose(lua_State *L) { // stream context
  Session *t = check_session(L);
  Context *c = context_check(L, 2);
  SSL_set_SSL_CTX(t->ssl, c->ssl);
  SSL_set_verify(t->ssl, SSL_CTX_get_verify_mode(c->ssl), context_on_verify);
  SSL_set_min_proto_version(t->ssl, (int)SSL_CTX_get_min_proto_version(c->ssl));
  SSL_set_max_proto_version(t->ssl, (int)SSL_CTX_get_max_proto_version(c->ssl));
  context_drop(t->chosen);
  t->chosen = context_use(c);
  return 0;
}

// No context was chosen: the peer is told that this is our fault.
static int l_tls_refuse(lua_State *L) { // stream
  Session *t = session_test(stream_check_both(L, 1));
  if (!t || !t->ssl)
    return 0;
  t->is_quiet = true;
  SSL_do_handshake(t->ssl);
  tls_forget_errors();
  return 0;
}

// The handshake has failed: lets go of the descriptor so that the alert which
// tells why still reaches the peer. A protocol that was told of its connection
// is given the error.
static int l_tls_give_up(lua_State *L) { // stream error
  Stream *s = stream_check_both(L, 1);
  Session *t = session_test(s);
  if (t)
    t->is_quiet = true;
  lua_settop(L, 2);
  if (s->push)
    lua_setiuservalue(L, 1, PUSH_ERROR);
  if (!(s->flags & STREAM_CLOSED))
    stream_finish_close(s);
  return 0;
}

// Whether the peer has sent anything.
static int l_tls_heard(lua_State *L) {
  const Session *t = session_test(stream_check_both(L, 1));
  lua_pushboolean(L, t && t->heard);
  return 1;
}

const luaL_Reg tls_handshake_functions[] = {
    {"tls_prepare",   l_tls_prepare  },
    {"tls_let_go",    l_tls_let_go   },
    {"tls_begin",     l_tls_begin    },
    {"tls_handshake", l_tls_handshake},
    {"tls_choose",    l_tls_choose   },
    {"tls_refuse",    l_tls_refuse   },
    {"tls_give_up",   l_tls_give_up  },
    {"tls_heard",     l_tls_heard    },
    {NULL,            NULL           },
};
