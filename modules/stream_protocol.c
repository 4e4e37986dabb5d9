// SPDX-License-Identifier: MIT
//
// Transports and protocols: a Stream in push mode. The loop calls the functions
// of the protocol, one at a time and outside any task; only `pause_writing`
// comes from within a `write`, so that who writes until told to stop does stop.
// The loop holds the Transport until `connection_lost` was called, which is the
// last of them.
#include "stream_protocol.h"

#include <errno.h>
#include <string.h>

#include "host/error.h"
#include "host/handle.h"
#include "host/report.h"
#include "stream_queue.h"

// ---- calling the protocol --------------------------------------------------

static int method_main(lua_State *L) { // transport name args... -> result
  int nargs = lua_gettop(L) - 2;
  lua_getiuservalue(L, 1, PUSH_PROTOCOL);
  lua_pushvalue(L, 2);
  if (lua_gettable(L, -2) == LUA_TNIL)
    return 0;
  lua_replace(L, 1);
  lua_replace(L, 2);
  lua_call(L, nargs + 1, 1);
  return 1;
}

// error ->
static void report_error(lua_State *L, Stream *s, int self, const char *name) {
  lua_createtable(L, 0, 6);
  lua_pushfstring(L, "error in a protocol's %s", name);
  lua_setfield(L, -2, "message");
  lua_pushvalue(L, -2);
  lua_setfield(L, -2, "error");
  lua_pushvalue(L, self);
  lua_setfield(L, -2, "transport");
  lua_getiuservalue(L, self, PUSH_PROTOCOL);
  lua_setfield(L, -2, "protocol");
  error_push_traceback(s->rt, L, -2);
  lua_setfield(L, -2, "traceback");
  report_context(s->rt, L);
  lua_pop(L, 1);
}

// A function raised: the connection ends with that error. error ->
static void take_error(lua_State *L, Stream *s, int self, const char *name) {
  lua_pushvalue(L, -1);
  report_error(L, s, self, name);
  if (s->flags & STREAM_CLOSED) {
    lua_pop(L, 1);
    return;
  }
  lua_setiuservalue(L, self, PUSH_ERROR);
  stream_abort(s);
}

// Calls a function of the protocol with the nargs values on top, which it pops.
// The Transport is at `self`. No task runs meanwhile.
static void call(lua_State *L, Stream *s, int self, const char *name,
                 int nargs) {
  Runtime *rt = s->rt;
  int base = lua_gettop(L) - nargs;
  lua_pushcfunction(L, error_handler);
  lua_pushcfunction(L, method_main);
  lua_pushvalue(L, self);
  lua_pushstring(L, name);
  lua_rotate(L, base + 1, 4); // handler, function, transport, name, args
  Handle *handle = s->push->handle;
  Handle *outer_handle = handle_enter(handle);
  Running outer = runtime_enter(rt, NULL, L);
  int status = lua_pcall(L, nargs + 2, 1, base + 1);
  runtime_leave(rt, outer);
  s->push->answer = status == LUA_OK && lua_toboolean(L, -1);
  if (status != LUA_OK)
    take_error(L, s, self, name);
  handle_leave(handle, outer_handle);
  lua_settop(L, base);
}

// From the loop: `main` is given the Stream and a size.
static void call_main(Stream *s, lua_CFunction main, size_t size) {
  lua_State *S = s->rt->scratch;
  lua_pushcfunction(S, main);
  lua_pushlightuserdata(S, s);
  lua_pushinteger(S, (lua_Integer)size);
  runtime_call(s->rt, 2, "a protocol could not be called");
}

// Puts the Transport on an empty stack. -> transport
static Stream *push_self(lua_State *L) { // stream size
  Stream *s = lua_touserdata(L, 1);
  anchor_push(s->rt, L, s->anchor);
  return s;
}

// ---- what comes in ---------------------------------------------------------

static int data_main(lua_State *L) { // stream size
  Stream *s = push_self(L);
  lua_getiuservalue(L, 3, PUSH_PROTOCOL);
  if (lua_getfield(L, 4, "data_received") == LUA_TNIL)
    return 0;
  lua_insert(L, 4); // stream size transport function protocol
  lua_pushlstring(L, s->rt->receive_buffer, (size_t)lua_tointeger(L, 2));
  lua_call(L, 2, 0);
  return 0;
}

static int data_failed(lua_State *L) { // stream error
  Stream *s = lua_touserdata(L, 1);
  anchor_push(s->rt, L, s->anchor);
  lua_pushvalue(L, 2);
  take_error(L, s, 3, "data_received");
  return 0;
}

// What happens most: with one protected call, and no coroutine entered.
static void deliver(Stream *s, size_t size) {
  Runtime *rt = s->rt;
  lua_State *S = rt->scratch;
  Handle *handle = s->push->handle;
  Handle *outer = handle_enter(handle);
  lua_pushcfunction(S, error_handler);
  lua_pushcfunction(S, data_main);
  lua_pushlightuserdata(S, s);
  lua_pushinteger(S, (lua_Integer)size);
  if (!runtime_try(rt, 2, 0)) { // handler error
    lua_pushcfunction(S, data_failed);
    lua_replace(S, 1);
    lua_pushlightuserdata(S, s);
    lua_insert(S, 2);
    runtime_call(rt, 2, "a protocol could not be called");
  }
  lua_settop(S, 0);
  handle_leave(handle, outer);
}

// What C had read ahead of a Lua file comes first.
static int held_main(lua_State *L) { // stream size
  Stream *s = push_self(L);
  lua_pushlstring(L, s->data + s->start, stream_held(s));
  stream_drop_data(s);
  call(L, s, 3, "data_received", 1);
  return 0;
}

static int eof_main(lua_State *L) { // stream size
  Stream *s = push_self(L);
  call(L, s, 3, "eof_received", 0);
  if (s->push->answer && !(s->flags & STREAM_READ_ONLY))
    return 0;
  if (s->writer && s->writer->pen_taken)
    s->push->closes_later = true;
  else
    stream_begin_close(L, s, 3);
  return 0;
}

void push_after_file(Stream *s) {
  if (s->push->closes_later)
    stream_begin_close(s->rt->scratch, s, 0);
}

// Something stirs on a descriptor that is only written to: the other end is
// gone. What a socket may have received is dropped.
static void look_for_end(Stream *s) {
  if (s->transport != &stream_pipe && stream_receive(s) != 0)
    return;
  stream_unwatch(s);
  push_fail(s, EPIPE);
}

static void on_held(Runtime *rt, Ready *r) {
  Push *p = (Push *)((char *)r - offsetof(Push, held));
  Stream *s = p->stream;
  (void)rt;
  p->held_queued = false;
  if (stream_held(s) > 0 && !p->reading_paused)
    call_main(s, held_main, 0);
  push_read_on(s);
}

void push_on_readable(Stream *s) {
  if (s->rt->in_lua > 0)
    return; // it will come again
  if (s->flags & STREAM_WRITE_ONLY) {
    look_for_end(s);
    return;
  }
  ssize_t n = stream_receive(s);
  if (n > 0)
    deliver(s, (size_t)n);
  else if (n == 0 && s->read_error)
    push_fail(s, s->read_error);
  else if (n == 0)
    call_main(s, eof_main, 0);
  stream_come_again(s);
}

static bool is_watchable(const Stream *s) {
  return !(s->flags & STREAM_WRITE_ONLY) || s->transport == &stream_pipe ||
         s->transport == &stream_unix;
}

static void queue_held(Stream *s) {
  if (!s->push->held_queued)
    ready_push(s->rt, &s->push->held);
  s->push->held_queued = true;
}

void push_read_on(Stream *s) {
  const unsigned no_more = STREAM_CLOSING | STREAM_CLOSED | STREAM_EOF |
                           STREAM_STARTING | STREAM_PREPARING;
  if (s->push->made && !s->push->reading_paused && !(s->flags & no_more) &&
      is_watchable(s)) {
    if (stream_held(s) > 0)
      queue_held(s);
    else if (!stream_watch(s))
      push_fail(s, EBADF);
  }
}

// ---- the beginning and the end ---------------------------------------------

void push_connection_made(lua_State *L, Stream *s) {
  if (!s->push->handle || (s->flags & (STREAM_CLOSING | STREAM_CLOSED)))
    return; // it has ended before it began
  s->push->made = true;
  lua_pushvalue(L, 1);
  call(L, s, 1, "connection_made", 1);
  push_read_on(s);
}

static int lost_main(lua_State *L) { // stream size
  Stream *s = push_self(L);
  if (s->push->error)
    stream_push_error(L, s, s->push->error, "connection");
  else
    lua_getiuservalue(L, 3, PUSH_ERROR);
  call(L, s, 3, "connection_lost", 1);
  return 0;
}

static int owner_main(lua_State *L) { // stream size
  push_self(L);
  if (lua_getiuservalue(L, 3, PUSH_OWNER) == LUA_TNIL)
    return 0;
  lua_pushvalue(L, 3);
  lua_call(L, 1, 0);
  return 0;
}

static void on_lost(Runtime *rt, Ready *r) {
  Push *p = (Push *)((char *)r - offsetof(Push, ready));
  Stream *s = p->stream;
  if (p->made)
    call_main(s, lost_main, 0);
  call_main(s, owner_main, 0);
  handle_let_go(p->handle);
  p->handle = NULL;
  anchor_drop(rt, rt->scratch, s->anchor);
  s->anchor = LUA_NOREF;
}

luaL_Stream **push_file(Stream *s) { return &s->push->file; }

// For `connection_lost` to ask for.
static void keep_names(Stream *s) {
  Names *names = runtime_realloc(s->rt, NULL, 0, sizeof *names);
  s->push->names = names;
  if (!names)
    return;
  address_of_socket(s->fd, &names->own);
  if (stream_bottom(s) == &stream_unix)
    address_of_peer(s->fd, &names->peer);
}

void push_lost(Stream *s) {
  Push *p = s->push;
  if (p->over || s->anchor == LUA_NOREF)
    return;
  p->over = true;
  const Transport *bottom = stream_bottom(s);
  if (bottom == &stream_tcp || bottom == &stream_unix)
    keep_names(s);
  ready_push(s->rt, &p->ready);
}

void push_forget(Stream *s) { s->push->over = true; }

void push_fail(Stream *s, int err) {
  if (s->flags & STREAM_CLOSED)
    return;
  s->push->error = err;
  stream_abort(s);
}

// ---- flow control ----------------------------------------------------------

void push_water_marks(const Stream *s, size_t *high, size_t *low) {
  *high = s->push->high;
  *low = s->push->low;
}

static int resume_main(lua_State *L) { // stream size
  call(L, push_self(L), 3, "resume_writing", 0);
  return 0;
}

void push_resume_writing(Stream *s) {
  Push *p = s->push;
  const unsigned not_now = STREAM_CLOSED | STREAM_STARTING | STREAM_PREPARING;
  if (!p->writing_paused || (s->flags & not_now) || stream_unsent(s) > p->low)
    return;
  p->writing_paused = false;
  call_main(s, resume_main, 0);
}

void push_pause_if_full(lua_State *L, Stream *s) {
  Push *p = s->push;
  if (p->writing_paused || stream_unsent(s) <= p->high)
    return;
  p->writing_paused = true;
  call(L, s, 1, "pause_writing", 0);
}

// ---- making ----------------------------------------------------------------

Stream *push_new(lua_State *L) {
  Runtime *rt = runtime_upvalue(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  Stream *s = stream_new(rt, L, sizeof(Push), PUSH_VALUES);
  Push *p = (Push *)(s + 1);
  p->stream = s;
  p->ready.run = on_lost;
  p->held.run = on_held;
  p->high = HIGH_WATER;
  p->low = LOW_WATER;
  s->push = p;
  luaL_setmetatable(L, STREAM_PUSH_CLASS);
  lua_pushvalue(L, 2);
  lua_setiuservalue(L, -2, PUSH_PROTOCOL);
  return s;
}

void push_hold(lua_State *L, Stream *s) {
  s->push->handle = handle_new_standing(s->rt, L);
  lua_pushvalue(L, -1);
  s->anchor = anchor_take(s->rt, L);
}
