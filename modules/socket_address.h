// SPDX-License-Identifier: MIT
//
// Addresses of sockets: between {host=, port=} or {path=} in Lua and sockaddr
// in C.
#ifndef MOONLOOP_SOCKET_ADDRESS_H
#define MOONLOOP_SOCKET_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "host/runtime.h"

// A numeric one: what a Stream keeps of its peer.
typedef union IpAddress {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
} IpAddress;

typedef struct Address {
  socklen_t size; // 0: none
  union {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
    IpAddress ip;
  } of;
} Address;

enum { ADDRESS_TEXT_SIZE = 128, ADDRESS_PATH_SIZE = 107 };

// Reads a numeric host ("127.0.0.1", "::1", "fe80::1%eth0"). False when it is
// no such thing.
bool address_parse(Address *a, const char *host, int port);

// Reads the table at `arg`: {path=}, or {host=, port=} with a numeric host of
// the family (AF_UNSPEC: of any), which may lack where it `may_lack` (then it
// is any address of this machine). Raises what is wrong with it.
void address_check(lua_State *L, int arg, int family, bool may_lack,
                   Address *a);

// Writes "127.0.0.1:80", "[::1]:80", "/run/x.sock" or "@name"; a path that does
// not fit loses its beginning.
void address_format(const struct sockaddr *a, socklen_t size, char *text,
                    size_t room);

// Pushes {host=, port=} or {path=}; nil for an address of no known family.
void address_push(lua_State *L, const struct sockaddr *a, socklen_t size);

// Asks the system; an empty address where it has none.
void address_of_socket(int fd, Address *a);
void address_of_peer(int fd, Address *a);

// From "inet", "inet6", "unix" and back; AF_UNSPEC for other words.
int address_family(const char *name);
const char *address_family_name(int family);

#endif
