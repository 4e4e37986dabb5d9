// SPDX-License-Identifier: MIT
//
// The Stream: one descriptor read and written by tasks, or (a Transport in Lua)
// by a protocol whose functions are called. Its bytes pass through a transport
// of five functions, one set for each kind of descriptor.
#ifndef MOONLOOP_STREAM_H
#define MOONLOOP_STREAM_H

#include <stdio.h>
#include <sys/uio.h>

#include "host/resource.h"
#include "host/runtime.h"
#include "host/wait.h"
#include "socket_address.h"

typedef struct Stream Stream;
typedef struct Writer Writer;
typedef struct Push Push;

// How bytes get through. Like the system calls they stand for, they return -1
// with errno set, EAGAIN when they would block.
typedef struct Transport {
  const char *name; // "tcp": in what the inspector shows
  ssize_t (*receive)(Stream *s, void *data, size_t size);
  ssize_t (*send)(Stream *s, const struct iovec *pieces, int count);
  int (*shut_write)(Stream *s); // tells the peer that nothing more comes, or
                                // NULL where that cannot be told
  void (*close)(Stream *s);     // lets go of the descriptor
  const struct Filter *filter;  // NULL where bytes are as the descriptor has
                                // them
} Transport;

// What a transport has in addition that changes the bytes on their way: it
// stands on another one, and may hold some of them.
typedef struct Filter {
  // Has stream_on_readable called once more: there is something to receive that
  // no event of the descriptor tells of.
  void (*read_again)(Stream *s);
  // Pushes the Error for STREAM_FAILED or STREAM_TRUNCATED. -> error
  void (*push_error)(lua_State *L, const Stream *s, int err, const char *op);
  // The transport below.
  const Transport *(*below)(const Stream *s);
  // How many bytes it has that are not sent.
  size_t (*held)(const Stream *s);
  // Pushes the Stream's userdata, or nil while it is being collected.
  void (*push)(lua_State *L, const Stream *s);
  // Frees what is left of it; the Stream has the transport below again.
  void (*free)(Stream *s);
} Filter;

// What errors can be beside errno values: what a filter alone can explain, and
// an end of the descriptor that the peer did not announce.
enum { STREAM_FAILED = 10000, STREAM_TRUNCATED };

enum {
  STREAM_EOF = 1,           // the peer has said its last byte
  STREAM_MORE = 2,          // the last read filled its buffer: try again
  STREAM_CLOSING = 4,       // close() was called, unsent data is going out
  STREAM_CLOSED = 8,        // the descriptor is gone
  STREAM_ENDING = 16,       // write_eof() was called
  STREAM_ENDED = 32,        // and has been carried out
  STREAM_ABORTED = 64,      // unsent data was dropped by abort()
  STREAM_READ_ONLY = 128,   // one direction of a pipe
  STREAM_WRITE_ONLY = 256,  // the other
  STREAM_FILE = 512,        // never blocks: a regular file, /dev/null
  STREAM_BLOCKING = 1024,   // shared and blocking: looked at before each call
  STREAM_BORROWED = 2048,   // stands for what others use: `original`
  STREAM_STANDARD = 4096,   // is `moonloop.stdin` or the like
  STREAM_DROPPED = 8192,    // closed by nobody's wish: a standard one stays
  STREAM_STARTING = 16384,  // a filter is being set up: nobody reads or writes
  STREAM_HELD = 32768,      // the filter has bytes that are not sent
  STREAM_LINGERS = 65536,   // all is sent; the filter waits for it to arrive
  STREAM_PREPARING = 131072 // what is unsent goes out before a filter is set
                            // up: a protocol is not called, and may not write
};

typedef enum ReadMode {
  READ_SOME,  // whatever is there, up to `want`
  READ_PEEK,  // the same, and it stays there
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
  uint32_t want;
  uint32_t scanned; // where a separator can begin that was not looked at yet
  Separators separators;
  uint32_t fresh; // bytes at the loop's receive buffer that are the result
  uint8_t mode;
  bool may_lack; // the last piece may lack its separator
} ReadRequest;

// What each read and write looks at comes first.
struct Stream {
  Runtime *rt;
  const Transport *transport;
  ev_io io;   // reading
  char *data; // what was received and not read yet: [start, end)
  uint32_t start, end, capacity;
  uint32_t limit;
  ReadRequest read;
  Writer *writer; // NULL while nothing waits to be sent
  Push *push;     // NULL where tasks read
  int fd;
  uint32_t flags;
  int16_t read_error; // errno values and the like; once set, for good
  int16_t write_error;
  int anchor; // holds the userdata while unsent data goes out, or a protocol is
              // at work
  int original; // the descriptor that it stands for, which others use; or -1
  WaitList closers; // tasks in wait_closed
  char *label;      // names it where `peer` does not: allocated
  IpAddress peer;
  Resource resource;
};

#define STREAM_CLASS "moonloop.Stream"
#define STREAM_PUSH_CLASS "moonloop.Transport"

static inline Stream *stream_check_any(lua_State *L) {
  return luaL_checkudata(L, 1, STREAM_CLASS);
}

// Whether the descriptor is still what it was: a Lua file whose descriptor it
// uses may have been closed, and any number be somebody else's by then.
bool stream_is_alive(const Stream *s);

// Of either class.
Stream *stream_check_both(lua_State *L, int arg);

// Raises InvalidStateError when it was closed.
Stream *stream_check(lua_State *L);

// Raises InvalidStateError while a filter is being set up.
int stream_raise_starting(lua_State *L);
static inline void stream_check_started(lua_State *L, const Stream *s) {
  if (s->flags & STREAM_STARTING)
    stream_raise_starting(L);
}

// "127.0.0.1:80", the peer, or what else it is known by.
void stream_name(const Stream *s, char *text, size_t size);

// The same for the inspector: "read tcp 127.0.0.1:80".
void stream_describe(const Stream *s, const char *what, char *text,
                     size_t size);

// Pushes the Error for an errno value or the like, saying what was done; the
// other one raises it. -> error
void stream_push_error(lua_State *L, const Stream *s, int err, const char *op);
int stream_raise(lua_State *L, const Stream *s, int err, const char *op);

// The transport that has the descriptor, below a filter.
const Transport *stream_bottom(const Stream *s);

// Flushes, then closes. The stream is at index `self`, but for a protocol's.
void stream_begin_close(lua_State *L, Stream *s, int self);
void stream_abort(Stream *s);

// Everything is out: tells the peer that this was all, where a filter has words
// for that. False when it is not done with that yet.
bool stream_announce_end(Stream *s);

// What is left to do then: the Writer sends what is held, unless the filter
// sees to the rest itself.
void stream_await_end(Stream *s);

// Lets go of the descriptor and wakes who waits for that.
void stream_finish_close(Stream *s);

// ---- making: stream_make.c

// A Stream without a descriptor, closed; `extra` bytes lie behind it. -> stream
Stream *stream_new(Runtime *rt, lua_State *L, size_t extra, int values);

// Gives it its descriptor; on an error that stays the caller's.
void stream_own(lua_State *L, Stream *s, int fd, const Transport *transport);

// The same with the descriptor of a connected socket at `arg`: a Socket (which
// is emptied) or an integer.
void stream_own_socket(lua_State *L, Stream *s, int arg);

// The same with the descriptor at `arg`, which it owns, or that of a Lua file
// or an object, which stays that's; at `direction` are "read", "write" or
// "both".
void stream_own_any(lua_State *L, Stream *s, int arg, int direction);

// How much C has read ahead of a file.
size_t stream_buffered(FILE *f);

// What is not freed with the descriptor.
void stream_free(Stream *s);
void stream_make_open(Runtime *rt, lua_State *L);

// ---- the kinds of descriptors: stream_socket.c, stream_descriptor.c

extern const Transport stream_tcp;
extern const Transport stream_unix;
extern const Transport stream_pipe;
extern const Transport stream_tty;
extern const Transport stream_pty;
extern const Transport stream_device;
extern const Transport stream_file;

// The Lua file whose descriptor it uses, kept behind the Stream.
luaL_Stream **stream_file_of(Stream *s);

// What every transport's `close` comes down to: a number that others go on
// using gets /dev/null.
void stream_close_descriptor(Stream *s);

// Around a call that might raise SIGPIPE: keeps it from being delivered.
typedef struct QuietPipe {
  sigset_t mask;
  bool was_pending;
} QuietPipe;

void quiet_pipe_begin(QuietPipe *q);
void quiet_pipe_end(const QuietPipe *q, bool broken);

// ---- what was received: stream_buffer.c

static inline size_t stream_held(const Stream *s) { return s->end - s->start; }

// Appends. False when memory is out.
bool stream_keep(Stream *s, const char *data, size_t size);
void stream_consume(Stream *s, size_t size);

// Puts bytes that were read back in front. False when memory is out.
bool stream_unread(Stream *s, const char *data, size_t size);
void stream_drop_data(Stream *s);

// Where the first separator of the request ends, counted from the first byte
// held; 0 when there is none yet.
size_t stream_find_separator(Stream *s);

// Whether the request can be answered from what is held; also with an error.
bool stream_is_answerable(Stream *s);

// Answers it: pushes the result, or raises.
int stream_answer(lua_State *L, Stream *s);

// ---- reading: stream_read.c

// Sees to it that a filter's bytes are come back for.
void stream_read_again(Stream *s);
static inline void stream_come_again(Stream *s) {
  if (s->flags & STREAM_MORE)
    stream_read_again(s);
}

// False when the descriptor was closed behind the Stream's back.
bool stream_watch(Stream *s);
void stream_unwatch(Stream *s);
void stream_on_readable(struct ev_loop *loop, ev_io *io, int revents);

// Receives once into the loop's buffer. Returns the size, 0 at the end of the
// file or on an error (both noted), -1 when there is nothing.
ssize_t stream_receive(Stream *s);

// Bytes were put in front: a reader that waits looks again.
void stream_look_again(Stream *s);

// Ends a read under way with InvalidStateError.
void stream_stop_reader(Stream *s);
extern const luaL_Reg stream_read_methods[];

// ---- writing: stream_write.c

size_t stream_unsent(const Stream *s);
void stream_drop_writer(Stream *s);
// Ends writes and drains that wait with the Stream's state of now.
void stream_stop_writers(Stream *s);

// Raises unless the program may write.
void stream_check_writable(lua_State *L, const Stream *s);

// Replaces the numbers among the values from `first` up by their text; raises
// where there is something else than these and strings.
void stream_check_strings(lua_State *L, int first);

// The same with the list at index 2, whose strings it puts in its place.
void stream_unpack_list(lua_State *L);

// Sends the strings at index 2 and up, at once or when there is room. False
// when the Stream has an error.
bool stream_send(lua_State *L, Stream *s);

// Ends the writing side after what is queued. The stream is at index 1.
void stream_end_writing(lua_State *L, Stream *s);
bool stream_can_end_writing(const Stream *s);
extern const luaL_Reg stream_write_methods[];

// ---- sending files: stream_sendfile.c

void stream_sendfile_open(Runtime *rt, lua_State *L);

void stream_open(Runtime *rt, lua_State *L);

#endif
