// SPDX-License-Identifier: MIT
//
// The options of sockets by their names. How a value looks in Lua follows from
// what the option holds: a flag is a boolean, SO_LINGER seconds or false, a
// membership {group=, interface=}. What a program gives is checked in Lua.
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>

#include "host/error.h"
#include "socket.h"

typedef enum OptionKind {
  FLAG,
  INTEGER,
  TEXT,
  LINGER,
  CREDENTIALS,
  MEMBERSHIP,
  MEMBERSHIP6
} OptionKind;

typedef struct Option {
  const char *name;
  int level, number;
  OptionKind kind;
} Option;

#define SO(name, kind)                                                         \
  { #name, SOL_SOCKET, name, kind }
#define TCP(name, kind)                                                        \
  { #name, IPPROTO_TCP, name, kind }
#define IP4(name, kind)                                                        \
  { #name, IPPROTO_IP, name, kind }
#define IP6(name, kind)                                                        \
  { #name, IPPROTO_IPV6, name, kind }

static const Option options[] = {
    SO(SO_REUSEADDR, FLAG),
    SO(SO_REUSEPORT, FLAG),
    SO(SO_BROADCAST, FLAG),
    SO(SO_KEEPALIVE, FLAG),
    SO(SO_OOBINLINE, FLAG),
    SO(SO_DONTROUTE, FLAG),
    SO(SO_ACCEPTCONN, FLAG),
    SO(SO_PASSCRED, FLAG),
    SO(SO_RCVBUF, INTEGER),
    SO(SO_SNDBUF, INTEGER),
    SO(SO_RCVLOWAT, INTEGER),
    SO(SO_PRIORITY, INTEGER),
    SO(SO_MARK, INTEGER),
    SO(SO_INCOMING_CPU, INTEGER),
    SO(SO_BUSY_POLL, INTEGER),
    SO(SO_TYPE, INTEGER),
    SO(SO_DOMAIN, INTEGER),
    SO(SO_PROTOCOL, INTEGER),
    SO(SO_ERROR, INTEGER),
    SO(SO_LINGER, LINGER),
    SO(SO_BINDTODEVICE, TEXT),
    SO(SO_PEERCRED, CREDENTIALS),
    TCP(TCP_NODELAY, FLAG),
    TCP(TCP_CORK, FLAG),
    TCP(TCP_QUICKACK, FLAG),
    TCP(TCP_FASTOPEN_CONNECT, FLAG),
    TCP(TCP_KEEPIDLE, INTEGER),
    TCP(TCP_KEEPINTVL, INTEGER),
    TCP(TCP_KEEPCNT, INTEGER),
    TCP(TCP_USER_TIMEOUT, INTEGER),
    TCP(TCP_SYNCNT, INTEGER),
    TCP(TCP_LINGER2, INTEGER),
    TCP(TCP_MAXSEG, INTEGER),
    TCP(TCP_DEFER_ACCEPT, INTEGER),
    TCP(TCP_FASTOPEN, INTEGER),
    TCP(TCP_NOTSENT_LOWAT, INTEGER),
    TCP(TCP_WINDOW_CLAMP, INTEGER),
    TCP(TCP_CONGESTION, TEXT),
    IP4(IP_MULTICAST_LOOP, FLAG),
    IP4(IP_FREEBIND, FLAG),
    IP4(IP_TRANSPARENT, FLAG),
    IP4(IP_RECVERR, FLAG),
    IP4(IP_MULTICAST_ALL, FLAG),
    IP4(IP_BIND_ADDRESS_NO_PORT, FLAG),
    IP4(IP_TTL, INTEGER),
    IP4(IP_TOS, INTEGER),
    IP4(IP_MULTICAST_TTL, INTEGER),
    IP4(IP_MTU, INTEGER),
    IP4(IP_MTU_DISCOVER, INTEGER),
    IP4(IP_ADD_MEMBERSHIP, MEMBERSHIP),
    IP4(IP_DROP_MEMBERSHIP, MEMBERSHIP),
    IP4(IP_MULTICAST_IF, MEMBERSHIP),
    IP6(IPV6_V6ONLY, FLAG),
    IP6(IPV6_MULTICAST_LOOP, FLAG),
    IP6(IPV6_RECVERR, FLAG),
    IP6(IPV6_UNICAST_HOPS, INTEGER),
    IP6(IPV6_MULTICAST_HOPS, INTEGER),
    IP6(IPV6_MULTICAST_IF, INTEGER),
    IP6(IPV6_TCLASS, INTEGER),
    IP6(IPV6_MTU, INTEGER),
    {"IPV6_JOIN_GROUP",  IPPROTO_IPV6, IPV6_JOIN_GROUP,  MEMBERSHIP6},
    {"IPV6_LEAVE_GROUP", IPPROTO_IPV6, IPV6_LEAVE_GROUP, MEMBERSHIP6},
};

enum { OPTION_COUNT = sizeof options / sizeof *options };

// ---- finding ---------------------------------------------------------------

static const Option *check_option(lua_State *L, int arg) {
  const char *name = luaL_checkstring(L, arg);
  for (const Option *o = options; o < options + OPTION_COUNT; o++)
    if (strcmp(o->name, name) == 0)
      return o;
  luaL_argerror(L, arg, "no socket option");
  return NULL;
}

static int l_socket_options(lua_State *L) { // -> name -> kind
  static const char *const kinds[] = {
      [FLAG] = "flag",
      [INTEGER] = "integer",
      [TEXT] = "text",
      [LINGER] = "linger",
      [CREDENTIALS] = "credentials",
      [MEMBERSHIP] = "membership",
      [MEMBERSHIP6] = "membership",
  };
  lua_createtable(L, 0, OPTION_COUNT);
  for (const Option *o = options; o < options + OPTION_COUNT; o++) {
    lua_pushstring(L, kinds[o->kind]);
    lua_setfield(L, -2, o->name);
  }
  return 1;
}

// ---- setting ---------------------------------------------------------------

typedef union OptionValue {
  int number;
  char text[64];
  struct linger linger;
  struct ip_mreqn group;
  struct ipv6_mreq group6;
} OptionValue;

// The index of the interface of the table at `arg`: a number or a name.
static unsigned interface_of(lua_State *L, int arg) {
  unsigned index = 0;
  int type = lua_getfield(L, arg, "interface");
  if (lua_isinteger(L, -1))
    index = (unsigned)lua_tointeger(L, -1);
  else if (type == LUA_TSTRING)
    index = if_nametoindex(lua_tostring(L, -1));
  if (type == LUA_TSTRING && index == 0)
    error_raise_errno(L, ENODEV, "interface", lua_tostring(L, -1));
  lua_pop(L, 1);
  return index;
}

// For IPv4 an interface is also known by a local address of its.
static void set_interface(lua_State *L, int arg, struct ip_mreqn *group) {
  const char *text = NULL;
  if (lua_getfield(L, arg, "interface") == LUA_TSTRING)
    text = lua_tostring(L, -1);
  if (!text || inet_pton(AF_INET, text, &group->imr_address) != 1)
    group->imr_ifindex = (int)interface_of(L, arg);
  lua_pop(L, 1);
}

static socklen_t check_group(lua_State *L, const Option *o, int arg,
                             OptionValue *v) {
  bool v6 = o->kind == MEMBERSHIP6;
  luaL_checktype(L, arg, LUA_TTABLE);
  int type = lua_getfield(L, arg, "group");
  const char *text = type == LUA_TSTRING ? lua_tostring(L, -1) : "";
  void *to = v6 ? (void *)&v->group6.ipv6mr_multiaddr
                : (void *)&v->group.imr_multiaddr;
  bool wanted = o->number != IP_MULTICAST_IF || v6;
  if (wanted && inet_pton(v6 ? AF_INET6 : AF_INET, text, to) != 1)
    luaL_argerror(L, arg, "field 'group' must be a numeric address");
  lua_pop(L, 1);
  if (!v6) {
    set_interface(L, arg, &v->group);
    return sizeof v->group;
  }
  v->group6.ipv6mr_interface = interface_of(L, arg);
  return sizeof v->group6;
}

static socklen_t check_linger(lua_State *L, int arg, OptionValue *v) {
  if (lua_isboolean(L, arg) && !lua_toboolean(L, arg))
    return sizeof v->linger;
  v->linger.l_onoff = 1;
  v->linger.l_linger = (int)luaL_checkinteger(L, arg);
  return sizeof v->linger;
}

static socklen_t check_value(lua_State *L, const Option *o, int arg,
                             OptionValue *v) {
  size_t size;
  memset(v, 0, sizeof *v);
  switch (o->kind) {
  case FLAG:
    luaL_checktype(L, arg, LUA_TBOOLEAN);
    v->number = lua_toboolean(L, arg);
    return sizeof v->number;
  case INTEGER:
    v->number = (int)luaL_checkinteger(L, arg);
    return sizeof v->number;
  case LINGER:
    return check_linger(L, arg, v);
  case TEXT:
    luaL_checklstring(L, arg, &size);
    luaL_argcheck(L, size < sizeof v->text, arg, "too long");
    memcpy(v->text, lua_tostring(L, arg), size);
    return (socklen_t)size;
  case MEMBERSHIP:
  case MEMBERSHIP6:
    return check_group(L, o, arg, v);
  case CREDENTIALS:
    break;
  }
  luaL_argerror(L, 2, "this option can only be asked for");
  return 0;
}

static void set_option(lua_State *L, int fd, int name_arg, int value_arg) {
  OptionValue v;
  const Option *o = check_option(L, name_arg);
  luaL_checkany(L, value_arg);
  socklen_t size = check_value(L, o, value_arg, &v);
  if (setsockopt(fd, o->level, o->number, &v, size) < 0)
    error_raise_errno(L, errno, "setsockopt", o->name);
}

// ---- asking ----------------------------------------------------------------

static void push_field(lua_State *L, const char *name, lua_Integer value) {
  lua_pushinteger(L, value);
  lua_setfield(L, -2, name);
}

static void push_credentials(lua_State *L, const struct ucred *peer) {
  lua_createtable(L, 0, 3);
  push_field(L, "pid", peer->pid);
  push_field(L, "uid", peer->uid);
  push_field(L, "gid", peer->gid);
}

static int push_option(lua_State *L, int fd, int name_arg) {
  const Option *o = check_option(L, name_arg);
  union {
    OptionValue value;
    struct ucred peer;
  } v = {0};
  socklen_t size = sizeof v;
  if (o->kind == MEMBERSHIP || o->kind == MEMBERSHIP6)
    luaL_argerror(L, name_arg, "this option can only be set");
  if (getsockopt(fd, o->level, o->number, &v, &size) < 0)
    return error_raise_errno(L, errno, "getsockopt", o->name);
  if (o->kind == FLAG)
    lua_pushboolean(L, v.value.number);
  else if (o->kind == INTEGER)
    lua_pushinteger(L, v.value.number);
  else if (o->kind == TEXT)
    lua_pushlstring(L, v.value.text, strnlen(v.value.text, size));
  else if (o->kind == CREDENTIALS)
    push_credentials(L, &v.peer);
  else if (v.value.linger.l_onoff)
    lua_pushinteger(L, v.value.linger.l_linger);
  else
    lua_pushboolean(L, false);
  return 1;
}

static int l_set_option(lua_State *L) { // descriptor name value
  set_option(L, (int)luaL_checkinteger(L, 1), 2, 3);
  return 0;
}

static int l_get_option(lua_State *L) { // descriptor name -> value
  return push_option(L, (int)luaL_checkinteger(L, 1), 2);
}

const luaL_Reg socket_option_functions[] = {
    {"socket_options",    l_socket_options},
    {"set_socket_option", l_set_option    },
    {"get_socket_option", l_get_option    },
    {NULL,                NULL            },
};
