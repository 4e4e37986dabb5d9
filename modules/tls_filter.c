// SPDX-License-Identifier: MIT
//
// A session as the transport of a Stream: what is received, sent and said at
// the end goes through OpenSSL.
#include <errno.h>
#include <linux/sockios.h>
#include <math.h>
#include <string.h>
#include <sys/ioctl.h>

#include "stream_protocol.h"
#include "tls.h"

// Pieces shorter than this are put together before they are encrypted.
enum { RECORD_SIZE = 16384, JOINED_AT_MOST = 8192 };

static ssize_t filter_receive(Stream *s, void *data, size_t size);

Session *session_test(const Stream *s) {
  bool mine = s->transport->receive == filter_receive;
  return mine ? (Session *)s->transport : NULL; // its first member
}

static Session *session_of(const Stream *s) { return (Session *)s->transport; }

// ---- receiving -------------------------------------------------------------

// What the last call that gave nothing has to say; 0 when more may come.
static int end_after(Session *t, int rc) {
  int ssl_error = SSL_get_error(t->ssl, rc);
  if (ssl_error == SSL_ERROR_WANT_READ)
    return 0;
  if (ssl_error == SSL_ERROR_ZERO_RETURN && !t->at_eof)
    return SESSION_OVER; // the peer has said so, before the descriptor ended
  int err = session_note_failure(t, ssl_error);
  bool allowed = err == STREAM_TRUNCATED && t->chosen->allows_truncation;
  return allowed ? SESSION_OVER : err;
}

bool session_has_more(const Session *t) {
  return t->early.size > 0 || SSL_has_pending(t->ssl);
}

static ssize_t filter_receive(Stream *s, void *data, size_t size) {
  Session *t = session_of(s);
  size_t total = 0, n;
  while (total < size && !t->end) {
    t->allowance = SESSION_ALLOWANCE;
    tls_forget_errors();
    int rc = SSL_read_ex(t->ssl, (char *)data + total, size - total, &n);
    if (rc <= 0) {
      t->end = end_after(t, rc);
      break;
    }
    total += n;
    t->received = true;
    if (!session_has_more(t))
      break; // the descriptor tells when there is more
  }
  if (total > 0) {
    if (t->end)
      s->flags |= STREAM_MORE; // of which it does not tell
    return (ssize_t)total;
  }
  if (t->end == SESSION_OVER)
    return 0;
  errno = t->end ? t->end : EAGAIN;
  return -1;
}

static void on_again(struct ev_loop *loop, ev_timer *timer, int revents) {
  Stream *s = timer->data;
  if (!ev_is_active(&s->io))
    return;
  if (s->push && s->rt->in_lua > 0) // no protocol is called inside a call
    ev_timer_start(loop, timer);
  else
    stream_on_readable(loop, &s->io, revents);
}

static void read_again(Stream *s) {
  Session *t = session_of(s);
  ev_timer_start(s->rt->loop, &t->again); // in the loop's next round
}

// ---- sending ---------------------------------------------------------------

static int fail(Session *t, int rc) {
  int ssl_error = SSL_get_error(t->ssl, rc);
  errno = t->io_error ? t->io_error : session_note_failure(t, ssl_error);
  return -1;
}

// Encrypts as much as finds its way out. Returns how much that was, -1 when the
// session is broken.
static ssize_t encrypt(Session *t, const char *data, size_t size) {
  size_t done = 0, n;
  while (done < size && t->out.size == 0) {
    tls_forget_errors();
    int rc = SSL_write_ex(t->ssl, data + done, size - done, &n);
    if (rc <= 0)
      return fail(t, rc);
    done += n;
  }
  return (ssize_t)done;
}

// Copies short pieces behind each other into the loop's buffer. Returns how
// many of them there are; `joined` becomes what to encrypt.
static int join(Stream *s, const struct iovec *pieces, int count,
                struct iovec *joined) {
  char *buffer = s->rt->receive_buffer;
  size_t size = 0;
  int n = 0;
  *joined = pieces[0];
  while (n < count && pieces[n].iov_len <= JOINED_AT_MOST &&
         size + pieces[n].iov_len <= RECORD_SIZE) {
    memcpy(buffer + size, pieces[n].iov_base, pieces[n].iov_len);
    size += pieces[n++].iov_len;
  }
  if (n < 2)
    return 1;
  *joined = (struct iovec){buffer, size};
  return n;
}

static ssize_t filter_send(Stream *s, const struct iovec *pieces, int count) {
  Session *t = session_of(s);
  size_t total = 0;
  if (!session_flush(t))
    return -1;
  for (int i = 0; i < count && t->out.size == 0;) {
    struct iovec next = pieces[i];
    i += count - i > 1 ? join(s, pieces + i, count - i, &next) : 1;
    ssize_t n = encrypt(t, next.iov_base, next.iov_len);
    if (n < 0)
      return -1;
    total += (size_t)n;
  }
  if (t->out.size > 0)
    s->flags |= STREAM_HELD;
  return (ssize_t)total;
}

// ---- the end ---------------------------------------------------------------

// Seconds until it is looked again whether all has arrived.
static const double LOOK_AFTER = 0.01, LOOK_AFTER_AT_MOST = 1;

static void on_limit(Runtime *rt, Timer *timer) {
  Session *t = (Session *)((char *)timer - offsetof(Session, limit));
  Stream *s = t->stream;
  (void)rt;
  if (s->flags & STREAM_LINGERS) { // the kernel has it all
    stream_finish_close(s);
    return;
  }
  s->write_error = ETIMEDOUT;
  if (s->push)
    push_fail(s, ETIMEDOUT);
  else
    stream_finish_close(s);
}

static void say_end(Session *t) {
  t->said_end = true;
  tls_forget_errors();
  SSL_shutdown(t->ssl); // -1 only when it is broken, as all else will be then
  tls_forget_errors();
}

// The limit is for the case that nothing goes on.
static void set_limit(Session *t) {
  Runtime *rt = t->stream->rt;
  timer_stop(rt, &t->limit);
  timer_try_start(rt, &t->limit, clock_now(rt) + t->limit_seconds);
}

// Whether the peer's system has everything that was sent, our end included.
static bool has_arrived(Session *t) {
  int before = t->on_the_way;
  if (ioctl(t->stream->fd, SIOCOUTQ, &t->on_the_way) < 0)
    return true;
  if (t->on_the_way < before)
    set_limit(t);
  return t->on_the_way == 0;
}

static void on_look(struct ev_loop *loop, ev_timer *timer, int revents) {
  Stream *s = timer->data;
  (void)revents;
  if (has_arrived(session_of(s))) {
    stream_finish_close(s);
    return;
  }
  timer->repeat = fmin(2 * timer->repeat, LOOK_AFTER_AT_MOST);
  ev_timer_again(loop, timer);
}

static void on_behind_end(struct ev_loop *loop, ev_io *io, int revents) {
  Session *t = io->data;
  (void)loop, (void)revents;
  if (!session_discard(t) || has_arrived(t))
    stream_finish_close(t->stream);
}

// A server of TLS 1.3 sends tickets once it is done with its part of the
// handshake, before any data. Where they reach a descriptor that is closed they
// are answered with a reset, and what the kernel has not sent by then is lost.
static bool expects_tickets(const Session *t) {
  return t->below == &stream_tcp && !t->context->is_server && !t->received &&
         SSL_version(t->ssl) >= TLS1_3_VERSION;
}

// So the descriptor stays until all has arrived.
static void linger(Session *t) {
  Stream *s = t->stream;
  t->below->shut_write(s);
  if (has_arrived(t) || !stream_is_alive(s))
    return;
  s->flags |= STREAM_LINGERS;
  ev_timer_stop(s->rt->loop, &t->again);
  ev_timer_init(&t->again, on_look, LOOK_AFTER, LOOK_AFTER);
  ev_timer_start(s->rt->loop, &t->again);
  ev_io_init(&t->io, on_behind_end, s->fd, EV_READ);
  t->io.data = t;
  ev_io_start(s->rt->loop, &t->io);
}

// Says close_notify, once. Called again when the Stream is closing.
static int filter_shut_write(Stream *s) {
  const unsigned at_work = STREAM_HELD | STREAM_LINGERS;
  Session *t = session_of(s);
  if (t->is_quiet || !t->established || (s->flags & STREAM_LINGERS))
    return 0;
  if (!t->said_end)
    say_end(t);
  if (t->out.size > 0)
    s->flags |= STREAM_HELD;
  else if ((s->flags & STREAM_CLOSING) && expects_tickets(t))
    linger(t);
  if ((s->flags & STREAM_CLOSING) && (s->flags & at_work) &&
      !timer_is_active(&t->limit))
    set_limit(t);
  return 0;
}

static void filter_close(Stream *s) {
  Session *t = session_of(s);
  if (s->rt->loop) {
    ev_timer_stop(s->rt->loop, &t->again);
    timer_stop(s->rt, &t->limit);
    handshake_stop(t);
  }
  SSL_free(t->ssl);
  t->ssl = NULL;
  bytes_free(s->rt, &t->early);
  bytes_free(s->rt, &t->out);
  s->flags &= ~(unsigned)(STREAM_HELD | STREAM_LINGERS);
  t->below->close(s);
}

// ---- making ----------------------------------------------------------------

static void push_error(lua_State *L, const Stream *s, int err, const char *op) {
  session_push_error(L, session_of(s), err, op);
}

static const Transport *below(const Stream *s) { return session_of(s)->below; }

static size_t held(const Stream *s) {
  const Session *t = session_of(s);
  return s->flags & STREAM_HELD ? t->out.size - t->out.at
                                : (size_t)t->on_the_way;
}

static const char SESSIONS_KEY; // registry: Stream -> its userdata, weak

void session_register(lua_State *L, const Stream *s, int self) {
  if (lua_rawgetp(L, LUA_REGISTRYINDEX, &SESSIONS_KEY) != LUA_TTABLE) {
    lua_pop(L, 1);
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "v");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &SESSIONS_KEY);
  }
  lua_pushvalue(L, self);
  lua_rawsetp(L, -2, s);
  lua_pop(L, 1);
}

static void push_self(lua_State *L, const Stream *s) { // -> stream or nil
  lua_rawgetp(L, LUA_REGISTRYINDEX, &SESSIONS_KEY);
  lua_rawgetp(L, -1, s);
  lua_remove(L, -2);
}

static void free_session(Stream *s) {
  Session *t = session_of(s);
  Runtime *rt = s->rt;
  X509_free(t->failure.certificate);
  X509_free(t->failure.peer);
  context_drop(t->context);
  context_drop(t->chosen);
  runtime_free(rt, t->key, t->key ? strlen(t->key) + 1 : 0);
  s->transport = t->below;
  runtime_free(rt, t, sizeof *t);
}

static const Filter filter = {read_again, push_error, below,
                              held,       push_self,  free_session};

void session_init_transport(Session *t) {
  t->transport =
      (Transport){"tls",        filter_receive, filter_send, filter_shut_write,
                  filter_close, &filter};
  ev_timer_init(&t->again, on_again, 0, 0);
  t->again.data = t->stream;
  t->limit.fire = on_limit;
}
