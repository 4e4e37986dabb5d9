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
  Lookup *lookup;
  Watch *next;
};

// ---- what goes over the wire -----------------------------------------------

// c-ares 1.18 asks the next server when one fails or refuses, and in the end
// says only that none was to be had. So the response codes are noted here.

static Question *find_question(Lookup *l, const unsigned char *packet,
                               size_t size) {
  size_t at = NS_HFIXEDSZ;
  while (at < size && packet[at] != 0 && packet[at] <= NS_MAXLABEL)
    at += packet[at] + 1u;
  if (at + 2 >= size || packet[at] != 0)
    return NULL;
  int type = packet[at + 1] << 8 | packet[at + 2];
  for (int i = 0; i < l->count; i++)
    if (l->questions[i].type == type)
      return &l->questions[i];
  return NULL;
}

static int id_of(const unsigned char *packet) {
  return packet[0] << 8 | packet[1];
}

// By TCP two bytes with its size come before a packet.
static void note_sent(Lookup *l, const unsigned char *packet, size_t size) {
  if (size > 2 && (size_t)id_of(packet) == size - 2) {
    packet += 2;
    size -= 2;
  }
  Question *q = find_question(l, packet, size);
  if (q)
    q->id = id_of(packet);
}

// And no question, such as the one that was sent.
static bool is_response(const unsigned char *packet, size_t size) {
  return size >= NS_HFIXEDSZ && (packet[2] & 0x80);
}

static void note_received(Lookup *l, const unsigned char *packet, size_t size) {
  if (!is_response(packet, size))
    return;
  Question *q = find_question(l, packet, size);
  if (!q || q->id != id_of(packet))
    return;
  int code = packet[3] & 15;
  bool refused =
      code == ns_r_servfail || code == ns_r_notimpl || code == ns_r_refused;
  q->refusal = refused ? code : 0;
}

// ---- sockets, as c-ares asks for them --------------------------------------

static void on_socket(struct ev_loop *loop, ev_io *io, int revents);

static ares_socket_t open_socket(int family, int type, int protocol, void *ud) {
  Lookup *l = ud;
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
  w->lookup = l;
  w->next = l->watches;
  l->watches = w;
  return fd;
}

static int close_socket(ares_socket_t fd, void *ud) {
  Lookup *l = ud;
  for (Watch **at = &l->watches; *at; at = &(*at)->next) {
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
  Lookup *l = ud;
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
    note_received(ud, data, (size_t)n);
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
  Lookup *l = ud;
  struct ev_loop *loop = l->rt->loop;
  Watch *w = l->watches;
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
  if (ares_timeout(l->channel, NULL, &tv)) // which is rounded down
    left = fmin(left, (double)tv.tv_sec + (double)tv.tv_usec / 1e6 + 0.001);
  if (left == INFINITY)
    return;
  ev_timer_set(&l->timer, left, 0);
  ev_timer_start(l->rt->loop, &l->timer);
}

static void process(Lookup *l, ares_socket_t readable, ares_socket_t writable) {
  l->rt->events++;
  l->rt->activity++; // the loop is not still while servers answer
  ares_process_fd(l->channel, readable, writable);
  look_at_time(l);
  lookup_on_progress(l);
}

static void on_socket(struct ev_loop *loop, ev_io *io, int revents) {
  Watch *w = (Watch *)io;
  (void)loop;
  process(w->lookup, revents & (EV_READ | EV_ERROR) ? io->fd : ARES_SOCKET_BAD,
          revents & EV_WRITE ? io->fd : ARES_SOCKET_BAD);
}

static void on_time(struct ev_loop *loop, ev_timer *timer, int revents) {
  (void)loop, (void)revents;
  process(timer->data, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

// ---- answers ---------------------------------------------------------------

static int status_of_refusal(int code) {
  return code == ns_r_servfail  ? ARES_ESERVFAIL
         : code == ns_r_notimpl ? ARES_ENOTIMP
                                : ARES_EREFUSED;
}

// By the server, or by c-ares, which cuts off what is too long.
static bool is_truncated(const unsigned char *packet, int size) {
  return (packet[2] & 2) || size >= NS_PACKETSZ;
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
  q->truncated = !q->lookup->by_tcp && packet && is_truncated(packet, size);
  if (status == ARES_SUCCESS && !q->truncated)
    status = keep_answer(q, packet, (size_t)size);
  else if (q->refusal &&
           (status == ARES_ECONNREFUSED || status == ARES_ETIMEOUT))
    status = status_of_refusal(q->refusal);
  end_question(q, status);
}

// ---- opening and closing ---------------------------------------------------

// Everything is given, so that c-ares reads no file but the random device.
static int make_channel(Lookup *l, int try_ms, int tries) {
  int way = l->by_tcp ? ARES_FLAG_USEVC : ARES_FLAG_IGNTC;
  struct ares_options o = {.flags = ARES_FLAG_NOSEARCH | way,
                           .timeout = try_ms,
                           .tries = tries,
                           .ndots = 1,
                           .lookups = "b",
                           .sock_state_cb = on_socket_state,
                           .sock_state_cb_data = l};
  int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES |
             ARES_OPT_NDOTS | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB |
             ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_SORTLIST |
             ARES_OPT_NOROTATE;
  int status = ares_init_options(&l->channel, &o, mask);
  if (status != ARES_SUCCESS) {
    l->channel = NULL;
    return status;
  }
  for (int i = 0; i < l->server_count; i++)
    l->servers[i].node.next =
        i + 1 < l->server_count ? &l->servers[i + 1].node : NULL;
  ares_set_socket_functions(l->channel, &socket_functions, l);
  return ares_set_servers_ports(l->channel, &l->servers[0].node);
}

static void ask(Lookup *l, int try_ms, int tries) {
  int status = make_channel(l, try_ms, tries);
  for (int i = 0; i < l->count; i++) {
    Question *q = &l->questions[i];
    if (q->done)
      continue;
    if (status == ARES_SUCCESS)
      ares_query(l->channel, l->name, ns_c_in, q->type, on_answer, q);
    else
      end_question(q, status);
  }
  if (l->channel)
    look_at_time(l);
}

void channel_open(Lookup *l) {
  ev_init(&l->timer, on_time);
  l->timer.data = l;
  l->deadline = clock_real() + l->limit;
  ask(l, l->try_ms, l->tries);
}

// c-ares would give TCP the time of one try, of which there is no second.
void channel_ask_again(Lookup *l) {
  bool any = false;
  for (int i = 0; i < l->count; i++) {
    Question *q = &l->questions[i];
    if (!q->truncated)
      continue;
    any = true;
    q->truncated = q->done = false;
    l->left++;
  }
  if (!any)
    return;
  double seconds = l->limit > 0 ? l->deadline - clock_real() : UNLIMITED_TRY;
  l->by_tcp = true;
  ares_destroy(l->channel);
  l->channel = NULL;
  ask(l, (int)(fmax(seconds, 0.05) * 1000 / l->server_count) + 1, 1);
}

void channel_close(Lookup *l) {
  for (int i = 0; i < l->count; i++)
    l->questions[i].done = true; // c-ares tells each that it is destroyed
  if (l->rt->loop)
    ev_timer_stop(l->rt->loop, &l->timer);
  if (l->channel)
    ares_destroy(l->channel);
  l->channel = NULL;
}
