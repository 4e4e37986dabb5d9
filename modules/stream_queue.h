// SPDX-License-Identifier: MIT
//
// The Writer of a Stream: what is queued to be sent and who waits for that.
#ifndef MOONLOOP_STREAM_QUEUE_H
#define MOONLOOP_STREAM_QUEUE_H

#include "stream.h"

typedef struct Piece Piece;

// A string that is waiting to be sent: copied behind the struct when short,
// anchored when long.
struct Piece {
  Piece *next;
  const char *data;
  size_t size;
  size_t sent;
  size_t room; // bytes that can still be copied behind it
  size_t allocated;
  int anchor;
};

struct Writer {
  Stream *stream;
  ev_io io;
  ev_io source;   // what a file is sent from, waited for by who has the pen
  ev_timer retry; // where no event tells of room
  Piece *first;
  Piece *last;
  size_t unsent;
  size_t high, low;        // water marks
  WaitList writers;        // tasks in write, in their order
  WaitList drainers;       // tasks in drain
  bool granted;            // the first writer was woken and has not written yet
  bool pen_taken;          // a task sends a file: no other writes meanwhile
  bool pen_sends;          // for room, and not for the queue to be empty
  moonloop_wait *pen_wait; // that task, while it waits
  moonloop_push_fn pen_push;
};

enum { HIGH_WATER = 65536, LOW_WATER = 16384 };

// The Stream's Writer, made when there is none; `self` is the userdata.
Writer *writer_need(lua_State *L, Stream *s, int self);

// Begins to watch for room. False when the descriptor was closed behind the
// Stream's back.
bool writer_watch(Writer *w);

// Wakes the first task that waits to write if it may.
void writer_grant_next(Writer *w);

// Whether a task that wants to write has to wait for its turn.
bool writer_must_wait(const Stream *s);

// Whether nobody can write any more.
bool writer_is_broken(const Stream *s);

// Frees the Writer if it has nothing to do.
void writer_drop_idle(Stream *s);

// The Stream met an error while sending.
void writer_fail(Stream *s, int err);

// As the transport's `send`, but for EINTR.
ssize_t writer_send(Stream *s, const struct iovec *pieces, int count);

// Waits for one's turn among those who write, or where it has come for the
// task's next turn. Then goes on with `granted`, which has to begin with
// `writer_take_turn`, or with `free`. Awaits.
int writer_wait_turn(lua_State *L, Stream *s, moonloop_push_fn granted,
                     moonloop_push_fn free);

// In the task whose turn has come. Everything may have changed meanwhile.
void writer_take_turn(Stream *s);

// The pen is free again: what waited for that goes on.
void writer_drop_pen(Stream *s);

// Queues data[0, size) of the string at `index`. Raises when memory is out.
void writer_queue(lua_State *L, Writer *w, int index, const char *data,
                  size_t size);

// Fills in what is to be sent next. Returns the number of pieces.
int writer_gather(Writer *w, struct iovec *pieces, int most);

// Takes `size` sent bytes off the queue.
void writer_advance(Writer *w, size_t size);
void writer_drop_pieces(Writer *w);

#endif
