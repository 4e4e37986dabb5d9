// SPDX-License-Identifier: MIT
//
// Addresses of sockets: between {host=, port=} in Lua and sockaddr in C.
#ifndef MOONLOOP_SOCKET_ADDRESS_H
#define MOONLOOP_SOCKET_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "host/runtime.h"

typedef union Address {
  struct sockaddr any;
  struct sockaddr_in in;
  struct sockaddr_in6 in6;
} Address;

enum { ADDRESS_TEXT_SIZE = 64 };

socklen_t address_size(const Address *a);

// Reads a numeric host ("127.0.0.1", "::1", "fe80::1%eth0"). False when it is
// no such thing.
bool address_parse(Address *a, const char *host, int port);

// Writes "127.0.0.1:80" or "[::1]:80".
void address_format(const Address *a, char *text, size_t size);

// Pushes {host=, port=}; nil for an address of no known family.
void address_push(lua_State *L, const Address *a);

#endif
