// SPDX-License-Identifier: MIT
//
// What of c-ares touches the loop: a channel's sockets and time limits as
// watchers. Its callbacks only note what came; whoever called c-ares looks at
// that when it has returned, for a channel may not be destroyed inside one.
#include <arpa/nameser.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dns.h"

// Seconds for a server to answer by TCP, where there is no limit for it all.
static const double UNLIMITED_TRY = 30;

struct Watch {
  ev_io io; // its first member: libev gives us its address
  Question *question;
  Watch *next;
};

// ---- what goes over the wire -----------------------------------------------

// c-ares 1.18 asks the next server when one fails or refuses, and in the end
// says only that none was to be had. So the response codes are noted here, and
// what becomes of an answer that is too long.

static int id_of(const unsigned char *packet) {
  return packet[0] << 8 | packet[1];
}

// By TCP two bytes with its size come before a packet.
static void note_sent(Question *q, const unsigned char *packet, size_t size) {
  bool has_size = size > 2 && (size_t)id_of(packet) == size - 2;
  if (size >= (has_size ? 4 : 2))
    q->id = id_of(packet + (has_size ? 2 : 0));
}

// And no question, such as the one that was sent.
static bool is_response(const unsigned char *packet, size_t size) {
  return size >= NS_HFIXEDSZ && (packet[2] & 0x80);
}

// The server that an address is of; the first for one that is unknown.
static int server_of(const Lookup *l, const struct sockaddr *from) {
  const struct sockaddr_in *in = (const struct sockaddr_in *)from;
  const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)from;
  for (int i = 0; i < l->server_count; i++) {
    const struct ares_addr_port_node *n = &l->servers[i].node;
    bool v4 = from->sa_family == AF_INET;
    if (n->family != from->sa_family ||
        n->udp_port != ntohs(v4 ? in->sin_port : in6->sin6_port))
      continue;
    if (v4 ? n->addr.addr4.s_addr == in->sin_addr.s_addr
           : memcmp(&n->addr.addr6, &in6->sin6_addr, 16) == 0)
      return i;
  }
  return 0;
}

static void note_received(Question *q, const unsigned char *packet, size_t size,
                          const struct sockaddr *from) {
  if (!is_response(packet, size) || q->id != id_of(packet))
    return;
  int code = packet[3] & 15;
  bool refused =
      code == ns_r_servfail || code == ns_r_notimpl || code == ns_r_refused;
  q->refusal = refused ? code : 0;
  q->was_cut = from && size > NS_PACKETSZ;
  if (from)
    q->server = server_of(q->lookup, from);
}

// ---- sockets, as c-ares asks for them --------------------------------------

static void on_socket(struct ev_loop *loop, ev_io *io, int revents);

static ares_socket_t open_socket(int family, int type, int protocol, void *ud) {
  Question *q = ud;
  Lookup *l = q->lookup;
  Watch *w = runtime_realloc(l->rt, NULL, 0, sizeof *w);
  int on = 1, fd = -1;
  if (w)
    fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
  else
    errno = ENOMEM;
  if (fd < 0) {
    l->error = errno;
    if (w)
      runtime_free(l->rt, w, sizeof *w);
    return ARES_SOCKET_BAD;
  }
  if (type == SOCK_STREAM)
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ev_io_init(&w->io, on_socket, fd, 0);
  w->question = q;
  w->next = q->watches;
  q->watches = w;
  return fd;
}

static int close_socket(ares_socket_t fd, void *ud) {
  Question *q = ud;
  Lookup *l = q->lookup;
  for (Watch **at = &q->watches; *at; at = &(*at)->next) {
    Watch *w = *at;
    if (w->io.fd != fd)
      continue;
    *at = w->next;
    if (l->rt->loop) // else it is gone, and its watchers with it
      ev_io_stop(l->rt->loop, &w->io);
    runtime_free(l->rt, w, sizeof *w);
    break;
  }
  return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to,
                          ares_socklen_t size, void *ud) {
  const Lookup *l = ((Question *)ud)->lookup;
  struct sockaddr_in6 in6;
  if (to->sa_family != AF_INET6)
    return connect(fd, to, size);
  memcpy(&in6, to, sizeof in6);
  for (int i = 0; i < l->server_count; i++) {
    const Server *s = &l->servers[i];
    if (s->node.family == AF_INET6 &&
        memcmp(&s->node.addr.addr6, &in6.sin6_addr, sizeof in6.sin6_addr) == 0)
      in6.sin6_scope_id = s->scope;
  }
  return connect(fd, (struct sockaddr *)&in6, sizeof in6);
}

static ares_ssize_t receive(ares_socket_t fd, void *data, size_t size,
                            int flags, struct sockaddr *from,
                            ares_socklen_t *from_size, void *ud) {
  ssize_t n = recvfrom(fd, data, size, flags, from, from_size);
  if (n > 0)
    note_received(ud, data, (size_t)n, from);
  if (n < 0 || !from || is_response(data, (size_t)n))
    return n;
  errno = EAGAIN; // c-ares takes an empty datagram for the end, for instance
  return -1;
}

static ares_ssize_t send_pieces(ares_socket_t fd, const struct iovec *pieces,
                                int count, void *ud) {
  struct msghdr message = {.msg_iov = (struct iovec *)pieces,
                           .msg_iovlen = (size_t)count};
  for (int i = 0; i < count; i++)
    note_sent(ud, pieces[i].iov_base, pieces[i].iov_len);
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static const struct ares_socket_functions socket_functions = {
    open_socket, close_socket, connect_socket, receive, send_pieces};

static void on_socket_state(void *ud, ares_socket_t fd, int readable,
                            int writable) {
  Question *q = ud;
  struct ev_loop *loop = q->lookup->rt->loop;
  Watch *w = q->watches;
  while (w && w->io.fd != fd)
    w = w->next;
  if (!w || !loop)
    return;
  int events = (readable ? EV_READ : 0) | (writable ? EV_WRITE : 0);
  ev_io_stop(loop, &w->io);
  ev_io_set(&w->io, fd, events);
  if (events)
    ev_io_start(loop, &w->io);
}

// ---- the loop's side -------------------------------------------------------

static void end_question(Question *q, int status) {
  q->status = status;
  q->done = true;
  q->lookup->left--;
}

static void give_up(Lookup *l) {
  for (int i = 0; i < l->count; i++)
    if (!l->questions[i].done)
      end_question(&l->questions[i], ARES_ETIMEOUT);
}

// Sets the timer for c-ares's next time limit or the look-up's own, and takes
// note when the latter is past.
static void look_at_time(Lookup *l) {
  struct timeval tv;
  double now = clock_real(), left = INFINITY;
  ev_timer_stop(l->rt->loop, &l->timer);
  if (l->limit > 0 && l->deadline <= now)
    give_up(l);
  if (l->left == 0)
    return;
  if (l->limit > 0)
    left = l->deadline - now;
  for (int i = 0; i < l->count; i++) {
    Question *q = &l->questions[i];
    if (!q->done && ares_timeout(q->channel, NULL, &tv)) // rounded down
      left = fmin(left, (double)tv.tv_sec + (double)tv.tv_usec / 1e6 + 0.001);
  }
  if (left == INFINITY)
    return;
  ev_timer_set(&l->timer, left, 0);
  ev_timer_start(l->rt->loop, &l->timer);
}

static void follow_up(Question *q);

static void process(Question *q, ares_socket_t readable,
                    ares_socket_t writable) {
  ares_process_fd(q->channel, readable, writable);
  follow_up(q);
}

// After c-ares was called.
static void look_on(Lookup *l) {
  l->rt->events++;
  l->rt->activity++; // the loop is not still while servers answer
  look_at_time(l);
  lookup_on_progress(l);
}

static void on_socket(struct ev_loop *loop, ev_io *io, int revents) {
  Question *q = ((Watch *)io)->question;
  (void)loop;
  process(q, revents & (EV_READ | EV_ERROR) ? io->fd : ARES_SOCKET_BAD,
          revents & EV_WRITE ? io->fd : ARES_SOCKET_BAD);
  look_on(q->lookup);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int revents) {
  Lookup *l = timer->data;
  (void)loop, (void)revents;
  for (int i = 0; i < l->count; i++)
    if (!l->questions[i].done)
      process(&l->questions[i], ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  look_on(l);
}

// ---- answers ---------------------------------------------------------------

static int status_of_refusal(int code) {
  return code == ns_r_servfail  ? ARES_ESERVFAIL
         : code == ns_r_notimpl ? ARES_ENOTIMP
                                : ARES_EREFUSED;
}

static int keep_answer(Question *q, const unsigned char *packet, size_t size) {
  q->answer = runtime_realloc(q->lookup->rt, NULL, 0, size);
  if (!q->answer)
    return ARES_ENOMEM;
  memcpy(q->answer, packet, size);
  q->size = size;
  return ARES_SUCCESS;
}

static void on_answer(void *ud, int status, int timeouts, unsigned char *packet,
                      int size) {
  Question *q = ud;
  (void)timeouts;
  if (q->done) // its channel is being destroyed
    return;
  if (packet && !is_response(packet, (size_t)size))
    status = ARES_EBADRESP;
  else if (packet && !q->by_tcp && (q->was_cut || (packet[2] & 2)))
    q->truncated = true;
  if (q->truncated)
    return; // follow_up asks again
  if (status == ARES_SUCCESS)
    status = keep_answer(q, packet, (size_t)size);
  else if (q->refusal &&
           (status == ARES_ECONNREFUSED || status == ARES_ETIMEOUT))
    status = status_of_refusal(q->refusal);
  end_question(q, status);
}

// ---- opening and closing ---------------------------------------------------

// The list that c-ares wants, beginning with one of them.
static struct ares_addr_port_node *servers_from(Lookup *l, int first) {
  int n = l->server_count;
  for (int i = 0; i < n; i++) {
    Server *s = &l->servers[(first + i) % n];
    s->node.next = i + 1 < n ? &l->servers[(first + i + 1) % n].node : NULL;
  }
  return &l->servers[first].node;
}

// Everything is given, so that c-ares reads no file but the random device.
static int make_channel(Question *q, int try_ms, int tries) {
  int way = q->by_tcp ? ARES_FLAG_USEVC : ARES_FLAG_IGNTC;
  struct ares_options o = {.flags = ARES_FLAG_NOSEARCH | way,
                           .timeout = try_ms,
                           .tries = tries,
                           .ndots = 1,
                           .lookups = "b",
                           .sock_state_cb = on_socket_state,
                           .sock_state_cb_data = q};
  int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
             ARES_OPT_NDOTS | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB |
             ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_SORTLIST |
             ARES_OPT_NOROTATE;
  int status = ares_init_options(&q->channel, &o, mask);
  if (status != ARES_SUCCESS) {
    q->channel = NULL;
    return status;
  }
  ares_set_socket_functions(q->channel, &socket_functions, q);
  return ares_set_servers_ports(q->channel, servers_from(q->lookup, q->server));
}

static void drop_channel(Question *q) {
  if (q->channel)
    ares_destroy(q->channel);
  q->channel = NULL;
}

static void ask(Question *q, int try_ms, int tries) {
  int status = make_channel(q, try_ms, tries);
  if (status == ARES_SUCCESS)
    ares_query(q->channel, q->lookup->name, ns_c_in, q->type, on_answer, q);
  else
    end_question(q, status);
}

// What was truncated is asked again by TCP, of the same server first, in the
// time that is left: c-ares would give it that of one try.
static void follow_up(Question *q) {
  Lookup *l = q->lookup;
  if (q->truncated) {
    double seconds = l->limit > 0 ? l->deadline - clock_real() : UNLIMITED_TRY;
    q->truncated = false;
    q->by_tcp = true;
    drop_channel(q);
    ask(q, dns_milliseconds(seconds / l->server_count), 1);
  }
  if (q->done)
    drop_channel(q);
}

void channels_open(Lookup *l) {
  ev_init(&l->timer, on_time);
  l->timer.data = l;
  l->deadline = clock_real() + l->limit;
  for (int i = 0; i < l->count; i++) {
    ask(&l->questions[i], l->try_ms, l->tries);
    follow_up(&l->questions[i]);
  }
  look_at_time(l);
}

void channels_close(Lookup *l) {
  if (l->rt->loop)
    ev_timer_stop(l->rt->loop, &l->timer);
  for (int i = 0; i < l->count; i++) {
    l->questions[i].done = true; // c-ares tells that it is destroyed
    drop_channel(&l->questions[i]);
  }
}
