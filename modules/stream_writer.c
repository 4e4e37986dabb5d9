// SPDX-License-Identifier: MIT
//
// The Writer of a Stream: it is there while a full descriptor has not taken
// everything, with the watcher that waits for room and the tasks that wait for
// their turn, first in, first out. One of them may take the pen and keep it
// over several writes: who sends a file.
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "host/task.h"
#include "stream_protocol.h"
#include "stream_queue.h"

enum { PIECES_AT_ONCE = 64 };

size_t stream_unsent(const Stream *s) {
  const unsigned held = STREAM_HELD | STREAM_LINGERS;
  size_t queued = s->writer ? s->writer->unsent : 0;
  if (!(s->flags & held) || s->write_error)
    return queued;
  return queued + s->transport->filter->held(s);
}

// ---- the turn --------------------------------------------------------------

// Seconds until a terminal that nobody reads is tried again.
static const double RETRY = 0.05;

static void unwatch(Writer *w) {
  ev_io_stop(w->stream->rt->loop, &w->io);
  ev_timer_stop(w->stream->rt->loop, &w->retry);
}

bool writer_watch(Writer *w) {
  if (ev_is_active(&w->io))
    return true;
  if (!stream_is_alive(w->stream))
    return false; // libev would end the process
  ev_io_start(w->stream->rt->loop, &w->io);
  return true;
}

static void release_anchor(Stream *s) {
  if (s->push)
    return; // it is the protocol's, as long as that is at work
  anchor_drop(s->rt, s->rt->scratch, s->anchor);
  s->anchor = LUA_NOREF;
}

void stream_drop_writer(Stream *s) {
  Writer *w = s->writer;
  if (!w)
    return;
  if (s->rt->loop) {
    unwatch(w);
    ev_io_stop(s->rt->loop, &w->source);
  }
  writer_drop_pieces(w);
  s->writer = NULL;
  runtime_free(s->rt, w, sizeof *w);
  release_anchor(s);
}

// Each goes on with the function that its wait was begun with.
static void wake_all(WaitList *list, Stream *s) {
  while (list->first) {
    Task *t = list->first;
    wait_list_remove(list, t);
    wait_wake_later(&t->wait, t->wait.push, s);
  }
}

void writer_grant_next(Writer *w) {
  if (w->granted || w->pen_taken || !w->writers.first || w->unsent > w->high)
    return;
  Task *t = w->writers.first;
  wait_list_remove(&w->writers, t);
  w->granted = true;
  wait_wake_later(&t->wait, t->wait.push, w->stream);
}

bool writer_must_wait(const Stream *s) {
  const Writer *w = s->writer;
  return w && (w->unsent > w->high || w->writers.first || w->granted ||
               w->pen_taken);
}

bool writer_is_broken(const Stream *s) {
  return (s->flags & STREAM_CLOSED) || s->write_error ||
         s->read_error == ECONNRESET;
}

static bool is_needed(const Writer *w) {
  return stream_unsent(w->stream) > 0 || w->writers.first ||
         w->drainers.first || w->granted || w->pen_taken;
}

void writer_drop_idle(Stream *s) {
  if (s->writer && !is_needed(s->writer))
    stream_drop_writer(s);
}

void stream_stop_writers(Stream *s) {
  Writer *w = s->writer;
  if (!w)
    return;
  wake_all(&w->writers, s);
  wake_all(&w->drainers, s);
  moonloop_wait *pen = w->pen_wait;
  w->pen_wait = NULL;
  ev_io_stop(s->rt->loop, &w->source);
  if (pen)
    wait_wake_later(pen, w->pen_push, s);
}

// Nothing can be written any more: who waits to is told so.
static void give_up(Stream *s) {
  stream_stop_writers(s);
  writer_drop_idle(s);
}

// ---- sending ---------------------------------------------------------------

// The queue is empty: what was asked to happen then.
static void when_sent(Stream *s) {
  Writer *w = s->writer;
  if (!w->pen_wait)
    unwatch(w);
  if ((s->flags & STREAM_ENDING) && !(s->flags & STREAM_ENDED)) {
    s->flags |= STREAM_ENDED;
    s->transport->shut_write(s);
  }
  if (s->flags & STREAM_CLOSING) {
    if (stream_announce_end(s))
      stream_finish_close(s);
    else
      stream_await_end(s);
  } else if (stream_unsent(s) > 0) {
    writer_watch(w);
  } else {
    writer_drop_idle(s);
  }
}

void writer_fail(Stream *s, int err) {
  s->write_error = (int16_t)err;
  if (!s->writer)
    return;
  writer_drop_pieces(s->writer);
  stream_stop_writers(s);
  when_sent(s);
}

// The same, whoever is at work.
static void fail(Stream *s, int err) {
  if (s->push)
    push_fail(s, err);
  else
    writer_fail(s, err);
}

static void on_retry(struct ev_loop *loop, ev_timer *timer, int revents) {
  Writer *w = timer->data;
  (void)loop, (void)revents;
  if (!writer_watch(w))
    fail(w->stream, EBADF);
}

// A pseudo-terminal whose other end nobody has open takes nothing more, and is
// called ready for ever.
static void wait_for_room(Writer *w) {
  struct pollfd p = {.fd = w->stream->fd, .events = POLLOUT};
  if (poll(&p, 1, 0) <= 0 || (p.revents & POLLOUT))
    return;
  ev_io_stop(w->stream->rt->loop, &w->io);
  ev_timer_set(&w->retry, RETRY, 0);
  ev_timer_start(w->stream->rt->loop, &w->retry);
}

ssize_t writer_send(Stream *s, const struct iovec *pieces, int count) {
  ssize_t n;
  // What C's own functions have written comes before.
  if (s->original == STDOUT_FILENO && __fpending(stdout) > 0)
    fflush(stdout);
  do
    n = s->transport->send(s, pieces, count);
  while (n < 0 && errno == EINTR);
  return n;
}

// Sends what is queued. False when nothing more is to be done.
static bool send_queued(Writer *w) {
  Stream *s = w->stream;
  struct iovec pieces[PIECES_AT_ONCE];
  ssize_t n = writer_send(s, pieces, writer_gather(w, pieces, PIECES_AT_ONCE));
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
    if (s->transport == &stream_pty)
      wait_for_room(w);
    return false;
  }
  if (n < 0) {
    fail(s, errno);
    return false;
  }
  writer_advance(w, (size_t)n);
  return true;
}

// The task that has the pen goes on: nothing comes after.
static void wake_pen(Writer *w) {
  moonloop_wait *wait = w->pen_wait;
  w->pen_wait = NULL;
  unwatch(w);
  moonloop_wake(wait, w->pen_push, w->stream);
}

static void on_writable(struct ev_loop *loop, ev_io *io, int revents) {
  Writer *w = io->data;
  Stream *s = w->stream;
  (void)loop, (void)revents;
  s->rt->events++;
  if (s->push && s->rt->in_lua > 0)
    return; // the protocol cannot be called inside a call; it comes again
  bool is_for_pen = w->pen_taken && w->pen_sends;
  if (stream_unsent(s) > 0 && !is_for_pen && !send_queued(w))
    return;
  if (w->pen_wait && (is_for_pen || stream_unsent(s) == 0)) {
    wake_pen(w);
    return;
  }
  if (w->unsent <= w->low) {
    wake_all(&w->drainers, s);
    writer_grant_next(w);
  }
  if (s->push)
    push_resume_writing(s); // which may do anything
  if (s->writer && stream_unsent(s) == 0)
    when_sent(s);
}

Writer *writer_need(lua_State *L, Stream *s, int self) {
  if (s->writer)
    return s->writer;
  Runtime *rt = s->rt;
  int anchor = s->anchor;
  if (!s->push) { // unsent data is sent even if nobody holds the Stream
    lua_pushvalue(L, self);
    anchor = anchor_take(rt, L);
  }
  Writer *w = runtime_realloc(rt, NULL, 0, sizeof *w);
  if (!w && !s->push)
    anchor_drop(rt, L, anchor);
  if (!w)
    luaL_error(L, "not enough memory");
  memset(w, 0, sizeof *w);
  w->stream = s;
  w->high = HIGH_WATER;
  w->low = LOW_WATER;
  ev_io_init(&w->io, on_writable, s->fd, EV_WRITE);
  ev_init(&w->retry, on_retry);
  w->io.data = w->retry.data = w;
  if (s->push)
    push_water_marks(s, &w->high, &w->low);
  s->anchor = anchor;
  s->writer = w;
  return w;
}

// ---- waiting for the turn --------------------------------------------------

static int abort_turn(moonloop_wait *w, void *ud) {
  Writer *writer = ((Stream *)ud)->writer;
  if (w->state == WAIT_WOKEN) { // its turn had come, and is the next one's now
    if (writer && writer->granted) {
      writer->granted = false;
      writer_grant_next(writer);
    }
    return 1;
  }
  wait_list_remove(&writer->writers, task_of_wait(w));
  return 1;
}

static void describe_turn(Runtime *rt, moonloop_wait *w, char *text,
                          size_t size) {
  (void)rt;
  stream_describe(w->abort_ud, "write", text, size);
}

int writer_wait_turn(lua_State *L, Stream *s, moonloop_push_fn granted,
                     moonloop_push_fn free) {
  moonloop_wait *w = wait_begin_io(s->rt, L, abort_turn, s, describe_turn);
  if (!writer_must_wait(s)) {
    wait_wake_later(w, free, s);
    return moonloop_await(L, w);
  }
  w->flags |= WAIT_TELLS;
  w->push = granted;
  wait_list_add(&s->writer->writers, task_of_wait(w));
  return moonloop_await(L, w);
}

void writer_take_turn(Stream *s) {
  if (!s->writer)
    return;
  s->writer->granted = false;
  if (writer_is_broken(s) || (s->flags & STREAM_ENDING))
    give_up(s);
}

void writer_drop_pen(Stream *s) {
  Writer *w = s->writer;
  if (!w || !w->pen_taken)
    return;
  w->pen_taken = false;
  w->pen_wait = NULL;
  ev_io_stop(s->rt->loop, &w->source);
  if (stream_unsent(s) > 0 || s->push) { // a protocol is told from the loop
    if (!writer_watch(w))
      fail(s, EBADF);
    else if (s->push)
      push_after_file(s);
    return;
  }
  wake_all(&w->drainers, s);
  writer_grant_next(w);
  when_sent(s);
}
