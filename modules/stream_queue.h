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
  Piece *first;
  Piece *last;
  size_t unsent;
  size_t high, low;  // water marks
  WaitList writers;  // tasks in write, in their order
  WaitList drainers; // tasks in drain
  bool granted;      // the first writer was woken and has not written yet
};

// Queues data[0, size) of the string at `index`. Raises when memory is out.
void writer_queue(lua_State *L, Writer *w, int index, const char *data,
                  size_t size);

// Fills in what is to be sent next. Returns the number of pieces.
int writer_gather(Writer *w, struct iovec *pieces, int most);

// Takes `size` sent bytes off the queue.
void writer_advance(Writer *w, size_t size);
void writer_drop_pieces(Writer *w);

#endif
