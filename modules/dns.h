// SPDX-License-Identifier: MIT
//
// DNS: one Lookup is a name asked for one or two types of records, each on a
// c-ares channel of its own whose sockets and time limits are watched by our
// loop. So to end one is to destroy its channels, and no other notices.
#ifndef MOONLOOP_DNS_H
#define MOONLOOP_DNS_H

#include <ares.h>
#include <netinet/in.h>

#include "host/runtime.h"
#include "host/wait.h"

typedef struct Dns Dns;
typedef struct Lookup Lookup;
typedef struct Watch Watch;

enum { QUESTIONS_AT_MOST = 2 };

// One question of a Lookup and what came back.
typedef struct Question {
  Lookup *lookup;
  ares_channel channel;
  Watch *watches; // of the sockets that c-ares has open
  int type;       // of records, as in the packets
  int id;         // of the packet sent last, or -1
  int refusal;    // the response code of the server that would not answer last
  int server;     // that gave the truncated answer
  bool was_cut;   // the packet received last is longer than c-ares takes
  bool truncated; // to be asked again by TCP
  bool by_tcp;    // that has happened
  bool done;
  int status;            // of c-ares
  unsigned char *answer; // the packet, when the status is ARES_SUCCESS
  size_t size;
} Question;

typedef struct Server {
  struct ares_addr_port_node node;
  uint32_t scope; // interface of a link-local address, which c-ares forgets
} Server;

typedef enum LookupState {
  LOOKUP_NEW,
  LOOKUP_QUEUED, // until others end and leave it their descriptors
  LOOKUP_RUNNING,
  LOOKUP_ENDED
} LookupState;

struct Lookup {
  Runtime *rt;
  Dns *dns;
  LookupState state;
  ev_timer timer; // for c-ares's next time limit, or the whole one
  WaitList waiters;
  Lookup *next, *prev; // in the queue
  Question questions[QUESTIONS_AT_MOST];
  int count;       // of questions
  int left;        // of them without an answer
  int error;       // why a socket could not be opened, or 0
  int try_ms;      // milliseconds for the first try; later ones get longer
  int tries;       // of each server
  double limit;    // seconds for it all, from its beginning; 0: none
  double deadline; // the same on the system's clock
  int server_count;
  const char *name;
  const char *label; // "resolve example.com MX"
  Server servers[];  // then name and label
};

// What the runtime has of them; the upvalue of what makes one.
struct Dns {
  Runtime *rt;
  int running;          // questions
  Lookup *first, *last; // the queue
  Ready ready;          // for going on with it
  bool is_ready;
};

// ---- dns_channel.c

// Opens the channels and asks. What comes of it is told by lookup_on_progress,
// never before this has returned.
void channels_open(Lookup *l);

// Lets go of them, whatever they are about.
void channels_close(Lookup *l);

// Milliseconds that c-ares can double now and then.
int dns_milliseconds(double seconds);

// ---- dns.c

// Called when something may have come of the questions.
void lookup_on_progress(Lookup *l);

void dns_open(Runtime *rt, lua_State *L);

// ---- dns_answer.c, dns_system.c

// A numeric host; an IPv4 address stands as ::ffff:1.2.3.4.
typedef struct Host {
  int family;
  struct in6_addr address;
  uint32_t scope;
} Host;

// False when the text is none. "fe80::1%eth0" has a scope.
bool host_parse(Host *h, const char *text);

extern const luaL_Reg dns_answer_functions[];
extern const luaL_Reg dns_system_functions[];

#endif
