// SPDX-License-Identifier: MIT
//
// Addresses of sockets. Numeric ones and paths only: names are another
// module's.
#include "socket_address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t PATH_AT = offsetof(struct sockaddr_un, sun_path);

// ---- reading ---------------------------------------------------------------

static bool parse_scope(Address *a, const char *scope) {
  struct sockaddr_in6 *in6 = &a->of.in6;
  in6->sin6_scope_id = if_nametoindex(scope);
  if (in6->sin6_scope_id == 0)
    in6->sin6_scope_id = (uint32_t)strtoul(scope, NULL, 10);
  return in6->sin6_scope_id != 0;
}

static bool parse_v6(Address *a, const char *host, int port) {
  char bare[INET6_ADDRSTRLEN];
  size_t n = strcspn(host, "%");
  if (n >= sizeof bare)
    return false;
  memcpy(bare, host, n);
  bare[n] = 0;
  if (inet_pton(AF_INET6, bare, &a->of.in6.sin6_addr) != 1)
    return false;
  a->of.in6.sin6_family = AF_INET6;
  a->of.in6.sin6_port = htons((uint16_t)port);
  a->size = sizeof a->of.in6;
  return host[n] == 0 || parse_scope(a, host + n + 1);
}

bool address_parse(Address *a, const char *host, int port) {
  memset(a, 0, sizeof *a);
  if (inet_pton(AF_INET, host, &a->of.in.sin_addr) != 1)
    return parse_v6(a, host, port);
  a->of.in.sin_family = AF_INET;
  a->of.in.sin_port = htons((uint16_t)port);
  a->size = sizeof a->of.in;
  return true;
}

// Takes a path, or an abstract name behind a zero byte. False when it is longer
// than ADDRESS_PATH_SIZE.
static bool set_path(Address *a, const char *path, size_t size) {
  memset(a, 0, sizeof *a);
  if (size > ADDRESS_PATH_SIZE)
    return false;
  a->of.un.sun_family = AF_UNIX;
  memcpy(a->of.un.sun_path, path, size);
  bool abstract = size > 0 && path[0] == 0;
  a->size = (socklen_t)(PATH_AT + size + (abstract || size == 0 ? 0 : 1));
  return true;
}

static void check_path(lua_State *L, int arg, int family, Address *a) {
  size_t size;
  if (lua_type(L, -1) != LUA_TSTRING)
    luaL_argerror(L, arg, "field 'path' of an address must be a string");
  const char *path = lua_tolstring(L, -1, &size);
  if (family != AF_UNSPEC && family != AF_UNIX)
    luaL_argerror(L, arg, "an address {host=, port=} is expected, not a path");
  if (!set_path(a, path, size))
    luaL_argerror(L, arg, "the path is too long (107 bytes at most)");
  if (size > 1 && path[0] != 0 && memchr(path, 0, size))
    luaL_argerror(L, arg, "the path has a zero byte in it");
}

static int check_port(lua_State *L, int arg, bool may_lack) {
  int is_integer;
  if (lua_getfield(L, arg, "port") == LUA_TNIL && may_lack) {
    lua_pop(L, 1);
    return 0;
  }
  lua_Integer port = lua_tointegerx(L, -1, &is_integer);
  lua_pop(L, 1);
  if (!is_integer)
    luaL_argerror(L, arg, "field 'port' of an address must be an integer");
  if (port < 0 || port > 65535)
    luaL_argerror(L, arg, "field 'port' of an address is out of range");
  return (int)port;
}

void address_check(lua_State *L, int arg, int family, bool may_lack,
                   Address *a) {
  luaL_checktype(L, arg, LUA_TTABLE);
  if (lua_getfield(L, arg, "path") != LUA_TNIL) {
    check_path(L, arg, family, a);
    lua_pop(L, 1);
    return;
  }
  if (family == AF_UNIX)
    luaL_argerror(L, arg, "an address {path=} is expected");
  int port = check_port(L, arg, may_lack);
  const char *host = family == AF_INET6 ? "::" : "0.0.0.0";
  int type = lua_getfield(L, arg, "host");
  if (type != LUA_TSTRING && !(may_lack && type == LUA_TNIL))
    luaL_argerror(L, arg, "field 'host' of an address must be a string");
  if (type == LUA_TSTRING)
    host = lua_tostring(L, -1);
  if (!address_parse(a, host, port))
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "host '%s' is no numeric address", host));
  if (family != AF_UNSPEC && a->of.any.sa_family != family)
    luaL_argerror(L, arg,
                  lua_pushfstring(L, "host '%s' is not of family '%s'", host,
                                  address_family_name(family)));
  lua_pop(L, 2);
}

// ---- writing ---------------------------------------------------------------

// The host alone; returns the port, or -1 for a family without.
static int host_of(const struct sockaddr *a, char *text, size_t room) {
  const struct sockaddr_in *in = (const struct sockaddr_in *)a;
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)a;
  if (a->sa_family == AF_INET) {
    inet_ntop(AF_INET, &in->sin_addr, text, (socklen_t)room);
    return ntohs(in->sin_port);
  }
  if (a->sa_family != AF_INET6)
    return -1;
  inet_ntop(AF_INET6, &in6->sin6_addr, text, (socklen_t)room);
  size_t n = strlen(text);
  if (in6->sin6_scope_id && n + 12 < room)
    snprintf(text + n, room - n, "%%%u", (unsigned)in6->sin6_scope_id);
  return ntohs(in6->sin6_port);
}

// The path's bytes, "" for an unnamed socket.
static size_t path_of(const struct sockaddr *a, socklen_t size,
                      const char **path) {
  *path = ((const struct sockaddr_un *)a)->sun_path;
  if (size <= PATH_AT)
    return 0;
  return **path ? strnlen(*path, size - PATH_AT) : size - PATH_AT;
}

static void format_path(const struct sockaddr *a, socklen_t size, char *text,
                        size_t room) {
  const char *path;
  size_t n = path_of(a, size, &path);
  if (n == 0)
    snprintf(text, room, "unnamed");
  else if (*path == 0)
    snprintf(text, room, "@%.*s", (int)n - 1, path + 1);
  else if (n < room)
    snprintf(text, room, "%.*s", (int)n, path);
  else
    snprintf(text, room, "...%.*s", (int)(room - 4), path + n - (room - 4));
}

void address_format(const struct sockaddr *a, socklen_t size, char *text,
                    size_t room) {
  char host[ADDRESS_TEXT_SIZE];
  if (size == 0) {
    snprintf(text, room, "unnamed");
    return;
  }
  if (a->sa_family == AF_UNIX) {
    format_path(a, size, text, room);
    return;
  }
  int port = host_of(a, host, sizeof host);
  if (port < 0)
    snprintf(text, room, "?");
  else if (a->sa_family == AF_INET6)
    snprintf(text, room, "[%s]:%d", host, port);
  else
    snprintf(text, room, "%s:%d", host, port);
}

void address_push(lua_State *L, const struct sockaddr *a, socklen_t size) {
  char host[ADDRESS_TEXT_SIZE];
  if (size > 0 && a->sa_family == AF_UNIX) {
    const char *path;
    size_t n = path_of(a, size, &path);
    lua_createtable(L, 0, 1);
    lua_pushlstring(L, path, n);
    lua_setfield(L, -2, "path");
    return;
  }
  int port = size > 0 ? host_of(a, host, sizeof host) : -1;
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

void address_of_socket(int fd, Address *a) {
  memset(a, 0, sizeof *a);
  a->size = sizeof a->of;
  if (fd < 0 || getsockname(fd, &a->of.any, &a->size) < 0)
    a->size = 0;
}

void address_of_peer(int fd, Address *a) {
  memset(a, 0, sizeof *a);
  a->size = sizeof a->of;
  if (fd < 0 || getpeername(fd, &a->of.any, &a->size) < 0)
    a->size = 0;
}

// ---- families --------------------------------------------------------------

static const struct {
  const char *name;
  int family;
} families[] = {
    {"inet",  AF_INET },
    {"inet6", AF_INET6},
    {"unix",  AF_UNIX }
};

int address_family(const char *name) {
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (strcmp(families[i].name, name) == 0)
      return families[i].family;
  return AF_UNSPEC;
}

const char *address_family_name(int family) {
  for (size_t i = 0; i < sizeof families / sizeof *families; i++)
    if (families[i].family == family)
      return families[i].name;
  return "unknown";
}
