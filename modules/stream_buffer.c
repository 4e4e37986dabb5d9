// SPDX-License-Identifier: MIT
//
// What a Stream has received and nobody has read yet: one piece of memory that
// is given back as soon as it is empty, and the search for separators in it.
#include <string.h>

#include "stream.h"

enum { SMALLEST_BUFFER = 512 };

// ---- the buffer ------------------------------------------------------------

void stream_drop_data(Stream *s) {
  runtime_free(s->rt, s->data, s->capacity);
  s->data = NULL;
  s->start = s->end = s->capacity = 0;
}

static bool make_room(Stream *s, size_t size) {
  if (s->start > 0 && s->end + size > s->capacity) {
    memmove(s->data, s->data + s->start, stream_held(s));
    s->end -= s->start;
    s->start = 0;
  }
  if (s->end + size <= s->capacity)
    return true;
  size_t capacity = s->capacity ? s->capacity : SMALLEST_BUFFER;
  while (capacity < s->end + size)
    capacity *= 2;
  if (s->end + size > UINT32_MAX)
    return false;
  if (capacity > UINT32_MAX)
    capacity = UINT32_MAX;
  char *data = runtime_realloc(s->rt, s->data, s->capacity, capacity);
  if (!data)
    return false;
  s->data = data;
  s->capacity = (uint32_t)capacity;
  return true;
}

bool stream_keep(Stream *s, const char *data, size_t size) {
  if (size == 0)
    return true;
  if (!make_room(s, size))
    return false;
  memcpy(s->data + s->end, data, size);
  s->end += (uint32_t)size;
  return true;
}

bool stream_unread(Stream *s, const char *data, size_t size) {
  if (!make_room(s, size))
    return false;
  char *at = s->data + s->start;
  memmove(at + size, at, stream_held(s));
  memcpy(at, data, size);
  s->end += (uint32_t)size;
  return true;
}

void stream_consume(Stream *s, size_t size) {
  s->start += (uint32_t)size;
  if (s->start == s->end)
    stream_drop_data(s); // an idle connection holds nothing
}

// ---- separators ------------------------------------------------------------

static size_t longest(const Separators *seps) {
  const struct iovec *list = seps->data;
  size_t size = seps->count == 0 ? seps->size : 0;
  for (uint32_t i = 0; i < seps->count; i++)
    if (list[i].iov_len > size)
      size = list[i].iov_len;
  return size;
}

// Where a separator begins and ends, counted from the first byte held; `end` is
// 0 when there is none.
typedef struct Found {
  size_t begin, end;
} Found;

static Found find_one(const struct iovec *sep, const char *data, size_t from,
                      size_t size) {
  const char *at =
      memmem(data + from, size - from, sep->iov_base, sep->iov_len);
  size_t begin = at ? (size_t)(at - data) : 0;
  return (Found){begin, at ? begin + sep->iov_len : 0};
}

// Of several separators the one that ends first, as asyncio has it.
static Found find_first(const Separators *seps, const char *data, size_t from,
                        size_t size) {
  struct iovec single = {(void *)seps->data, seps->size};
  if (seps->count == 0)
    return find_one(&single, data, from, size);
  const struct iovec *list = seps->data;
  Found best = {0, 0};
  for (uint32_t i = 0; i < seps->count; i++) {
    Found found = find_one(&list[i], data, from, size);
    if (found.end && (!best.end || found.end < best.end))
      best = found;
  }
  return best;
}

size_t stream_find_separator(Stream *s) {
  ReadRequest *r = &s->read;
  size_t size = stream_held(s);
  size_t tail = longest(&r->separators) - 1;
  Found found =
      find_first(&r->separators, s->data + s->start, r->scanned, size);
  if (found.end)
    r->scanned = (uint32_t)found.begin;
  else
    r->scanned = size > tail ? (uint32_t)(size - tail) : 0;
  return found.end;
}
