// SPDX-License-Identifier: MIT
//
// What resolving asks of this machine: when a file was changed, its name, which
// families it has addresses of, and in what order to try some (RFC 6724).
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dns.h"
#include "host/error.h"

// ---- numeric hosts ---------------------------------------------------------

static bool parse_v4(Host *h, const char *text) {
  unsigned char *bytes = h->address.s6_addr;
  if (inet_pton(AF_INET, text, bytes + 12) != 1)
    return false;
  bytes[10] = bytes[11] = 0xff;
  h->family = AF_INET;
  return true;
}

static bool parse_zone(Host *h, const char *zone) {
  char *rest;
  h->scope = if_nametoindex(zone);
  if (h->scope != 0)
    return true;
  h->scope = (uint32_t)strtoul(zone, &rest, 10);
  return *zone >= '0' && *zone <= '9' && !*rest;
}

bool host_parse(Host *h, const char *text) {
  char bare[INET6_ADDRSTRLEN];
  memset(h, 0, sizeof *h);
  if (parse_v4(h, text))
    return true;
  size_t size = strcspn(text, "%");
  if (size >= sizeof bare)
    return false;
  memcpy(bare, text, size);
  bare[size] = 0;
  h->family = AF_INET6;
  return inet_pton(AF_INET6, bare, &h->address) == 1 &&
         (!text[size] || parse_zone(h, text + size + 1));
}

static void push_host(lua_State *L, const Host *h, const char *zone) {
  char text[INET6_ADDRSTRLEN];
  bool is_v4 = h->family == AF_INET;
  inet_ntop(h->family, h->address.s6_addr + (is_v4 ? 12 : 0), text,
            sizeof text);
  if (zone && !is_v4)
    lua_pushfstring(L, "%s%s", text, zone);
  else
    lua_pushstring(L, text);
}

// A numeric host as the system would write it, with its family and its bytes;
// nothing for a name.
static int l_numeric_host(lua_State *L) { // text -> text family bytes
  size_t size;
  Host h;
  const char *text = luaL_checklstring(L, 1, &size);
  if (strlen(text) != size || !host_parse(&h, text))
    return 0;
  bool is_v4 = h.family == AF_INET;
  push_host(L, &h, strchr(text, '%'));
  lua_pushstring(L, is_v4 ? "inet" : "inet6");
  lua_pushlstring(L, (const char *)h.address.s6_addr + (is_v4 ? 12 : 0),
                  is_v4 ? 4 : 16);
  return 3;
}

// ---- in what order to try addresses: RFC 6724, section 6 -------------------

typedef struct Candidate {
  Host to, from; // `from`: the address that this machine would use
  bool usable;
  int position;
} Candidate;

static const struct {
  unsigned char prefix[16];
  int bits, precedence, label;
} policies[] = {
    {{[15] = 1},                 128, 50, 0 },
    {{[10] = 0xff, [11] = 0xff}, 96,  35, 4 },
    {{0},                        96,  1,  3 },
    {{0x20, 0x01},               32,  5,  5 },
    {{0x20, 0x02},               16,  30, 2 },
    {{0x3f, 0xfe},               16,  1,  12},
    {{0xfe, 0xc0},               10,  1,  11},
    {{0xfc},                     7,   3,  13},
    {{0},                        0,   40, 1 },
};

static int common_bits(const unsigned char *a, const unsigned char *b,
                       int most) {
  int n = 0;
  while (n < most && !((a[n / 8] ^ b[n / 8]) & (0x80 >> n % 8)))
    n++;
  return n;
}

static int policy_of(const Host *h) {
  int i = 0;
  while (common_bits(h->address.s6_addr, policies[i].prefix, policies[i].bits) <
         policies[i].bits)
    i++;
  return i;
}

enum { SCOPE_LINK = 2, SCOPE_SITE = 5, SCOPE_GLOBAL = 14 };

static int scope_of(const Host *h) {
  const unsigned char *b = h->address.s6_addr;
  if (h->family == AF_INET)
    return b[12] == 127 || (b[12] == 169 && b[13] == 254) ? SCOPE_LINK
                                                          : SCOPE_GLOBAL;
  if (b[0] == 0xff)
    return b[1] & 15;
  if (IN6_IS_ADDR_LOOPBACK(&h->address) || IN6_IS_ADDR_LINKLOCAL(&h->address))
    return SCOPE_LINK;
  return IN6_IS_ADDR_SITELOCAL(&h->address) ? SCOPE_SITE : SCOPE_GLOBAL;
}

static socklen_t socket_address(const Host *h, struct sockaddr_storage *a) {
  memset(a, 0, sizeof *a);
  if (h->family == AF_INET) {
    struct sockaddr_in *in = (struct sockaddr_in *)a;
    in->sin_family = AF_INET;
    in->sin_port = htons(9);
    memcpy(&in->sin_addr, h->address.s6_addr + 12, 4);
    return sizeof *in;
  }
  struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)a;
  in6->sin6_family = AF_INET6;
  in6->sin6_port = htons(9);
  in6->sin6_addr = h->address;
  in6->sin6_scope_id = h->scope;
  return sizeof *in6;
}

static void take_source(Candidate *c, const struct sockaddr_storage *a) {
  memset(&c->from, 0, sizeof c->from);
  c->from.family = c->to.family;
  if (c->to.family == AF_INET6) {
    c->from.address = ((const struct sockaddr_in6 *)a)->sin6_addr;
    return;
  }
  unsigned char *bytes = c->from.address.s6_addr;
  bytes[10] = bytes[11] = 0xff;
  memcpy(bytes + 12, &((const struct sockaddr_in *)a)->sin_addr, 4);
}

// Connecting a datagram socket sends nothing; it finds the route.
static void find_source(Candidate *c) {
  struct sockaddr_storage a;
  socklen_t size = socket_address(&c->to, &a);
  int fd = socket(c->to.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  c->usable = fd >= 0 && connect(fd, (struct sockaddr *)&a, size) == 0 &&
              getsockname(fd, (struct sockaddr *)&a, &size) == 0;
  if (c->usable)
    take_source(c, &a);
  if (fd >= 0)
    close(fd);
}

static bool has_same_scope(const Candidate *c) {
  return c->usable && scope_of(&c->to) == scope_of(&c->from);
}

static bool has_same_label(const Candidate *c) {
  return c->usable && policies[policy_of(&c->to)].label ==
                          policies[policy_of(&c->from)].label;
}

static int prefix_of(const Candidate *c) {
  return common_bits(c->to.address.s6_addr, c->from.address.s6_addr, 64);
}

// Negative: `a` comes first.
static int compare(const void *x, const void *y) {
  const Candidate *a = x, *b = y;
  int by = b->usable - a->usable;
  if (by == 0)
    by = has_same_scope(b) - has_same_scope(a);
  if (by == 0)
    by = has_same_label(b) - has_same_label(a);
  if (by == 0)
    by = policies[policy_of(&b->to)].precedence -
         policies[policy_of(&a->to)].precedence;
  if (by == 0)
    by = scope_of(&a->to) - scope_of(&b->to);
  if (by == 0 && a->usable && b->usable && a->to.family == AF_INET6 &&
      b->to.family == AF_INET6)
    by = prefix_of(b) - prefix_of(a);
  return by != 0 ? by : a->position - b->position;
}

// The order in which to try some numeric hosts. -> list of their positions
static int l_address_order(lua_State *L) { // list of hosts
  luaL_checktype(L, 1, LUA_TTABLE);
  int n = (int)luaL_len(L, 1);
  Candidate *list = lua_newuserdatauv(L, (size_t)(n + 1) * sizeof *list, 0);
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, 1, i + 1);
    if (!host_parse(&list[i].to, luaL_checkstring(L, -1)))
      return luaL_argerror(L, 1, "numeric hosts are expected");
    lua_pop(L, 1);
    list[i].position = i + 1;
    find_source(&list[i]);
  }
  qsort(list, (size_t)n, sizeof *list, compare);
  lua_createtable(L, n, 0);
  for (int i = 0; i < n; i++) {
    lua_pushinteger(L, list[i].position);
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

// ---- this machine ----------------------------------------------------------

// A text that changes when the file does; nil where there is none.
static int l_file_stamp(lua_State *L) { // path
  struct stat st;
  if (stat(luaL_checkstring(L, 1), &st) < 0 || !S_ISREG(st.st_mode))
    return 0;
  lua_pushfstring(
      L, "%I:%I:%I:%I.%I:%I.%I", (LUAI_UACINT)st.st_dev, (LUAI_UACINT)st.st_ino,
      (LUAI_UACINT)st.st_size, (LUAI_UACINT)st.st_mtim.tv_sec,
      (LUAI_UACINT)st.st_mtim.tv_nsec, (LUAI_UACINT)st.st_ctim.tv_sec,
      (LUAI_UACINT)st.st_ctim.tv_nsec);
  return 1;
}

static int l_host_name(lua_State *L) {
  char name[256] = "";
  if (gethostname(name, sizeof name - 1) < 0)
    return 0;
  lua_pushstring(L, name);
  return 1;
}

// Whether this machine has an address of IPv4 and one of IPv6, but for those of
// the loopback interface. -> boolean, boolean
static int l_configured_families(lua_State *L) {
  struct ifaddrs *list;
  bool v4 = false, v6 = false;
  if (getifaddrs(&list) < 0)
    return error_raise_errno(L, errno, "getifaddrs", NULL);
  for (struct ifaddrs *i = list; i; i = i->ifa_next) {
    if (!i->ifa_addr || (i->ifa_flags & IFF_LOOPBACK))
      continue;
    v4 = v4 || i->ifa_addr->sa_family == AF_INET;
    v6 = v6 || i->ifa_addr->sa_family == AF_INET6;
  }
  freeifaddrs(list);
  lua_pushboolean(L, v4);
  lua_pushboolean(L, v6);
  return 2;
}

const luaL_Reg dns_system_functions[] = {
    {"numeric_host",        l_numeric_host       },
    {"address_order",       l_address_order      },
    {"file_stamp",          l_file_stamp         },
    {"host_name",           l_host_name          },
    {"configured_families", l_configured_families},
    {NULL,                  NULL                 },
};
