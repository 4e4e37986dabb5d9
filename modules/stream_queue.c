// SPDX-License-Identifier: MIT
//
// The queue of a Writer: short strings are copied together, long ones anchored
// so that they need not be copied.
#include "stream_queue.h"

#include <string.h>

enum { COPY_AT_MOST = 16384, SMALLEST_PIECE = 4096 };

static void free_piece(Runtime *rt, Piece *p) {
  anchor_drop(rt, rt->scratch, p->anchor);
  runtime_free(rt, p, p->allocated);
}

static Piece *new_piece(Runtime *rt, lua_State *L, size_t room) {
  Piece *p = runtime_realloc(rt, NULL, 0, sizeof *p + room);
  if (!p)
    luaL_error(L, "not enough memory");
  *p = (Piece){.allocated = sizeof *p + room,
               .room = room,
               .anchor = LUA_NOREF,
               .data = (char *)(p + 1)};
  return p;
}

static void link_piece(Writer *w, Piece *p) {
  if (w->last)
    w->last->next = p;
  else
    w->first = p;
  w->last = p;
}

static void copy_into(Writer *w, Piece *p, const char *data, size_t size) {
  memcpy((char *)(p + 1) + p->size, data, size);
  p->size += size;
  p->room -= size;
  w->unsent += size;
}

void writer_queue(lua_State *L, Writer *w, int index, const char *data,
                  size_t size) {
  Runtime *rt = w->stream->rt;
  Piece *p = w->last;
  if (p && p->room >= size) {
    copy_into(w, p, data, size);
    return;
  }
  if (size <= COPY_AT_MOST) {
    p = new_piece(rt, L, size < SMALLEST_PIECE ? SMALLEST_PIECE : size);
    link_piece(w, p);
    copy_into(w, p, data, size);
    return;
  }
  p = new_piece(rt, L, 0);
  link_piece(w, p); // empty, until nothing can fail any more
  lua_pushvalue(L, index);
  p->anchor = anchor_take(rt, L);
  p->data = data;
  p->size = size;
  w->unsent += size;
}

void writer_drop_pieces(Writer *w) {
  while (w->first) {
    Piece *next = w->first->next;
    free_piece(w->stream->rt, w->first);
    w->first = next;
  }
  w->last = NULL;
  w->unsent = 0;
}

void writer_advance(Writer *w, size_t size) {
  w->unsent -= size;
  while (w->first && size >= w->first->size - w->first->sent) {
    Piece *p = w->first;
    size -= p->size - p->sent;
    w->first = p->next;
    if (!w->first)
      w->last = NULL;
    free_piece(w->stream->rt, p);
  }
  if (size > 0)
    w->first->sent += size;
}

int writer_gather(Writer *w, struct iovec *pieces, int most) {
  int count = 0;
  for (Piece *p = w->first; p && count < most; p = p->next)
    pieces[count++] =
        (struct iovec){(char *)p->data + p->sent, p->size - p->sent};
  return count;
}
