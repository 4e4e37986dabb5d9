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
  if (capacity > UINT32_MAX)
    return false;
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

// Where `sep` ends in data[from, size), counted from data; 0 when it is not
// there.
static size_t find_one(const struct iovec *sep, const char *data, size_t from,
                       size_t size) {
  const char *at =
      memmem(data + from, size - from, sep->iov_base, sep->iov_len);
  return at ? (size_t)(at - data) + sep->iov_len : 0;
}

// Of several separators the one that ends first, as asyncio has it.
static size_t find_first(const Separators *seps, const char *data, size_t from,
                         size_t size) {
  if (seps->count == 0) {
    struct iovec single = {(void *)seps->data, seps->size};
    return find_one(&single, data, from, size);
  }
  const struct iovec *list = seps->data;
  size_t best = 0;
  for (uint32_t i = 0; i < seps->count; i++) {
    size_t end = find_one(&list[i], data, from, size);
    if (end && (!best || end < best))
      best = end;
  }
  return best;
}

size_t stream_find_separator(Stream *s) {
  ReadRequest *r = &s->read;
  size_t size = stream_held(s);
  size_t end = find_first(&r->separators, s->data + s->start, r->scanned, size);
  size_t tail = longest(&r->separators) - 1;
  if (!end)
    r->scanned = size > tail ? (uint32_t)(size - tail) : 0;
  return end;
}
