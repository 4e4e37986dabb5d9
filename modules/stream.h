// SPDX-License-Identifier: MIT
//
// The Stream: one descriptor read and written by tasks. Its bytes pass through
// a transport of five functions, of which a plain socket is the first.
#ifndef MOONLOOP_STREAM_H
#define MOONLOOP_STREAM_H

#include <sys/uio.h>

#include "host/resource.h"
#include "host/runtime.h"
#include "host/wait.h"
#include "socket_address.h"

typedef struct Stream Stream;
typedef struct Writer Writer;

// How bytes get through. Like the system calls they stand for, they return -1
// with errno set, EAGAIN when they would block.
typedef struct Transport {
  const char *name; // "tcp": in what the inspector shows
  ssize_t (*receive)(Stream *s, void *data, size_t size);
  ssize_t (*send)(Stream *s, const struct iovec *pieces, int count);
  int (*shut_write)(Stream *s); // tells the peer that nothing more comes
  void (*close)(Stream *s);     // lets go of the descriptor
} Transport;

extern const Transport stream_tcp;

enum {
  STREAM_EOF = 1,     // the peer has said its last byte
  STREAM_MORE = 2,    // the last read filled its buffer: there may be more
  STREAM_CLOSING = 4, // close() was called, unsent data is going out
  STREAM_CLOSED = 8,  // the descriptor is gone
  STREAM_ENDING = 16, // write_eof() was called
  STREAM_ENDED = 32,  // and has been carried out
  STREAM_ABORTED = 64 // unsent data was dropped by abort()
};

typedef enum ReadMode {
  READ_SOME,  // whatever is there, up to `want`
  READ_ALL,   // until end of file
  READ_EXACT, // `want` bytes
  READ_UNTIL  // up to and with a separator
} ReadMode;

// Separators to look for; the bytes belong to who made it.
typedef struct Separators {
  const void *data; // the only one, or an array of struct iovec
  uint32_t size;    // of the only one
  uint32_t count;   // in the array; 0 when there is only one
} Separators;

typedef struct ReadRequest {
  moonloop_wait *wait; // of the task that reads, NULL when none does
  size_t want;
  size_t scanned; // where a separator can begin that was not looked at yet
  Separators separators;
  ReadMode mode;
  bool may_lack;  // the last piece may lack its separator
  unsigned fresh; // bytes at the loop's receive buffer that are the result
} ReadRequest;

struct Stream {
  Runtime *rt;
  const Transport *transport;
  ev_io io; // reading
  Resource resource;
  WaitList closers; // tasks in wait_closed
  char *data;       // what was received and not read yet: [start, end)
  uint32_t start, end, capacity;
  uint32_t limit;
  ReadRequest read;
  Writer *writer; // NULL while nothing waits to be sent
  Address peer;
  int fd;
  int anchor; // holds the userdata while unsent data goes out
  uint16_t flags;
  int16_t read_error; // errno values; once set, for good
  int16_t write_error;
};

#define STREAM_CLASS "moonloop.Stream"

static inline Stream *stream_check_any(lua_State *L) {
  return luaL_checkudata(L, 1, STREAM_CLASS);
}

// Raises InvalidStateError when it was closed.
Stream *stream_check(lua_State *L);

// "127.0.0.1:80", the peer.
void stream_name(const Stream *s, char *text, size_t size);

// Raises the Error for an errno value, saying what was done.
int stream_raise(lua_State *L, const Stream *s, int err, const char *op);

// Lets go of the descriptor and wakes who waits for that.
void stream_finish_close(Stream *s);

// ---- what was received: stream_buffer.c

static inline size_t stream_held(const Stream *s) { return s->end - s->start; }

// Appends. False when memory is out.
bool stream_keep(Stream *s, const char *data, size_t size);
void stream_consume(Stream *s, size_t size);
void stream_drop_data(Stream *s);

// Where the first separator of the request ends, counted from the first byte
// held; 0 when there is none yet.
size_t stream_find_separator(Stream *s);

// ---- reading: stream_read.c

void stream_watch(Stream *s);
void stream_unwatch(Stream *s);
void stream_on_readable(struct ev_loop *loop, ev_io *io, int revents);
// Ends a read under way with InvalidStateError.
void stream_stop_reader(Stream *s);
extern const luaL_Reg stream_read_methods[];

// ---- writing: stream_write.c

size_t stream_unsent(const Stream *s);
void stream_drop_writer(Stream *s);
// Ends writes and drains that wait with the Stream's state of now.
void stream_stop_writers(Stream *s);
extern const luaL_Reg stream_write_methods[];

void stream_open(Runtime *rt, lua_State *L);

#endif
