// SPDX-License-Identifier: MIT
//
// Addresses of sockets. Numeric ones only: names are another module's.
#include "socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

socklen_t address_size(const Address *a) {
  return a->any.sa_family == AF_INET6 ? sizeof a->in6 : sizeof a->in;
}

static bool parse_scope(Address *a, const char *scope) {
  a->in6.sin6_scope_id = if_nametoindex(scope);
  if (a->in6.sin6_scope_id == 0)
    a->in6.sin6_scope_id = (uint32_t)strtoul(scope, NULL, 10);
  return a->in6.sin6_scope_id != 0;
}

static bool parse_v6(Address *a, const char *host, int port) {
  char bare[INET6_ADDRSTRLEN];
  size_t n = strcspn(host, "%");
  if (n >= sizeof bare)
    return false;
  memcpy(bare, host, n);
  bare[n] = 0;
  if (inet_pton(AF_INET6, bare, &a->in6.sin6_addr) != 1)
    return false;
  a->in6.sin6_family = AF_INET6;
  a->in6.sin6_port = htons((uint16_t)port);
  return host[n] == 0 || parse_scope(a, host + n + 1);
}

bool address_parse(Address *a, const char *host, int port) {
  memset(a, 0, sizeof *a);
  if (inet_pton(AF_INET, host, &a->in.sin_addr) != 1)
    return parse_v6(a, host, port);
  a->in.sin_family = AF_INET;
  a->in.sin_port = htons((uint16_t)port);
  return true;
}

// The host alone; returns the port, or -1 for an unknown family.
static int host_of(const Address *a, char *text, size_t size) {
  if (a->any.sa_family == AF_INET) {
    inet_ntop(AF_INET, &a->in.sin_addr, text, (socklen_t)size);
    return ntohs(a->in.sin_port);
  }
  if (a->any.sa_family != AF_INET6)
    return -1;
  inet_ntop(AF_INET6, &a->in6.sin6_addr, text, (socklen_t)size);
  size_t n = strlen(text);
  if (a->in6.sin6_scope_id && n + 12 < size)
    snprintf(text + n, size - n, "%%%u", (unsigned)a->in6.sin6_scope_id);
  return ntohs(a->in6.sin6_port);
}

void address_format(const Address *a, char *text, size_t size) {
  char host[ADDRESS_TEXT_SIZE];
  int port = host_of(a, host, sizeof host);
  if (port < 0)
    snprintf(text, size, "?");
  else if (a->any.sa_family == AF_INET6)
    snprintf(text, size, "[%s]:%d", host, port);
  else
    snprintf(text, size, "%s:%d", host, port);
}

void address_push(lua_State *L, const Address *a) {
  char host[ADDRESS_TEXT_SIZE];
  int port = host_of(a, host, sizeof host);
  if (port < 0) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, 0, 2);
  lua_pushstring(L, host);
  lua_setfield(L, -2, "host");
  lua_pushinteger(L, port);
  lua_setfield(L, -2, "port");
}
