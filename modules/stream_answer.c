// SPDX-License-Identifier: MIT
//
// Answering a request to read: whether what a Stream holds is enough for it,
// and the result or the error that it comes to.
#include "host/error.h"
#include "stream.h"

bool stream_is_answerable(Stream *s) {
  ReadRequest *r = &s->read;
  size_t size = stream_held(s);
  bool over = s->read_error != 0 || (s->flags & STREAM_EOF);
  switch ((ReadMode)r->mode) {
  case READ_SOME:
  case READ_PEEK:
    return size > 0 || over;
  case READ_ALL:
    return over;
  case READ_EXACT:
    return size >= r->want || over;
  case READ_UNTIL:
    break;
  }
  size_t end = size > 0 ? stream_find_separator(s) : 0;
  r->want = (uint32_t)end;
  return end > 0 || over || size > s->limit;
}

static int push_bytes(lua_State *L, Stream *s, size_t size) {
  lua_pushlstring(L, s->data + s->start, size);
  stream_consume(s, size);
  return 1;
}

static int push_some(lua_State *L, Stream *s, size_t size) {
  if (s->read.mode == READ_SOME)
    return push_bytes(L, s, size);
  lua_pushlstring(L, s->data + s->start, size);
  return 1;
}

// The part that came before the end stays readable, but where the end was none:
// then the Error has what was asked for as far as it came.
static int raise_read_error(lua_State *L, Stream *s) {
  ReadRequest *r = &s->read;
  stream_push_error(L, s, s->read_error, "read");
  if (s->read_error != STREAM_TRUNCATED || r->mode < READ_ALL)
    return lua_error(L);
  push_bytes(L, s, stream_held(s));
  lua_setfield(L, -2, "partial");
  if (r->mode == READ_EXACT) {
    lua_pushinteger(L, (lua_Integer)r->want);
    lua_setfield(L, -2, "expected");
  }
  return lua_error(L);
}

static int raise_incomplete(lua_State *L, Stream *s) {
  ReadRequest *r = &s->read;
  size_t size = stream_held(s);
  if (r->mode == READ_EXACT)
    error_push(L, "IncompleteReadError",
               "%I bytes were read of %I, then the stream ended",
               (LUAI_UACINT)size, (LUAI_UACINT)r->want);
  else
    error_push(L, "IncompleteReadError",
               "the stream ended after %I bytes without the separator",
               (LUAI_UACINT)size);
  push_bytes(L, s, size);
  lua_setfield(L, -2, "partial");
  if (r->mode == READ_EXACT) {
    lua_pushinteger(L, (lua_Integer)r->want);
    lua_setfield(L, -2, "expected");
  }
  return lua_error(L);
}

static int raise_overrun(lua_State *L, Stream *s) {
  error_push(L, "LimitOverrunError",
             "no separator within %I bytes, which the option `limit` sets; the "
             "data stays readable",
             (LUAI_UACINT)s->limit);
  // What can be taken away without losing a part of a separator.
  lua_pushinteger(L, s->read.scanned > 0 ? s->read.scanned : 1);
  lua_setfield(L, -2, "consumed");
  return lua_error(L);
}

static int answer_exact(lua_State *L, Stream *s) {
  if (stream_held(s) >= s->read.want)
    return push_bytes(L, s, s->read.want);
  if (s->read_error)
    return raise_read_error(L, s);
  if (stream_held(s) > 0)
    return raise_incomplete(L, s);
  lua_pushnil(L);
  return 1;
}

static int answer_until(lua_State *L, Stream *s) {
  ReadRequest *r = &s->read;
  if (r->want > 0 && r->want <= s->limit)
    return push_bytes(L, s, r->want);
  if (r->want > 0 || stream_held(s) > s->limit)
    return raise_overrun(L, s);
  if (s->read_error)
    return raise_read_error(L, s);
  if (stream_held(s) > 0 && r->may_lack)
    return push_bytes(L, s, stream_held(s));
  if (stream_held(s) > 0)
    return raise_incomplete(L, s);
  lua_pushnil(L);
  return 1;
}

int stream_answer(lua_State *L, Stream *s) {
  size_t size = stream_held(s);
  switch ((ReadMode)s->read.mode) {
  case READ_EXACT:
    return answer_exact(L, s);
  case READ_UNTIL:
    return answer_until(L, s);
  case READ_ALL:
    if (s->read_error)
      return raise_read_error(L, s);
    return push_bytes(L, s, size);
  case READ_SOME:
  case READ_PEEK:
    break;
  }
  if (size > 0)
    return push_some(L, s, size < s->read.want ? size : s->read.want);
  if (s->read_error)
    return raise_read_error(L, s);
  lua_pushnil(L);
  return 1;
}
