// SPDX-License-Identifier: MIT
//
// The closed loop of the load generators: N connections to an echo server on
// loopback, each of which sends one batch (one message, or `depth` messages in
// one piece) and the next when all of it has come back. Every byte is compared
// with what was sent. After a warm-up it counts for a window, reads the
// server's CPU time from /proc at both ends of it, and prints one line of
// JSON. Any connection error, wrong byte or time limit is a failure.
//
// How bytes are carried is the program's affair: before it includes this it
// defines the type Link, which has a member `fd`, and
//   void link_open(Link *, int port)
//   size_t link_send(Link *, const char *, size_t), 0: not now
//   size_t link_receive(Link *, char *, size_t), 0: not now
//   int link_holds(const Link *): whether there may be bytes that poll cannot
//     see any more
//   void link_close(Link *)
// all of which end the program where a connection fails.

#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <sys/epoll.h>
#include <sys/resource.h>

#include "client.h"

enum {
  MAX_EVENTS = 64, // small bites keep the sockets that are at work in cache
  RECEIVE_BYTES = 65536,
  LATENCY_BUCKETS = 200000, // of one microsecond; the last one has the rest
};

typedef struct Options {
  int port, pid, connections, depth;
  size_t size;
  double warmup, seconds; // of the window
  int64_t messages;       // in all, instead of a window; 0: not asked for
} Options;

typedef struct Connection {
  Link link;
  int waits_to_send;
  unsigned phase;          // where in the pattern the next batch begins
  size_t unsent, unread;   // bytes of the batch under way
  int64_t started_ns;      // when that batch was sent
  int64_t batches_to_send; // what is left of its share in counted mode
} Connection;

typedef struct Load {
  Options options;
  size_t batch_bytes;
  int epoll, open; // connections with a batch under way
  int stopping;    // no new batches: let the ones under way come back
  int counting;    // inside the window
  Connection *connections;
  char *pattern;
  int64_t batches, window_start_ns, window_end_ns;
  ServerTimes server_start, server_end;
  double own_start, own_end; // our own CPU seconds
  uint32_t latency[LATENCY_BUCKETS];
} Load;

static void usage(void) {
  fail("usage: load -p PORT [-P SERVER_PID] [-c CONNECTIONS] [-s BYTES] "
       "[-d DEPTH]\n            [-w WARMUP_S] [-t WINDOW_S] [-n MESSAGES]");
}

static void set_option(Options *o, int option) {
  switch (option) {
  case 'p':
    o->port = atoi(optarg);
    break;
  case 'P':
    o->pid = atoi(optarg);
    break;
  case 'c':
    o->connections = atoi(optarg);
    break;
  case 's':
    o->size = (size_t)atol(optarg);
    break;
  case 'd':
    o->depth = atoi(optarg);
    break;
  case 'w':
    o->warmup = atof(optarg);
    break;
  case 't':
    o->seconds = atof(optarg);
    break;
  case 'n':
    o->messages = atoll(optarg);
    break;
  default:
    usage();
  }
}

static Options parse_options(int argc, char **argv) {
  Options o = {.connections = 50, .depth = 1, .size = 64};
  int option;
  o.warmup = 0.4;
  o.seconds = 2.0;
  while ((option = getopt(argc, argv, "p:P:c:s:d:w:t:n:")) != -1)
    set_option(&o, option);
  if (optind < argc || o.port < 1 || o.port > 65535 || o.connections < 1 ||
      o.depth < 1 || o.size < 1 || o.warmup < 0 || o.seconds <= 0)
    usage();
  if (o.warmup + o.seconds > 600 || o.size * (size_t)o.depth > 1 << 24)
    fail("load: at most 600 seconds and 16 MiB a batch");
  return o;
}

static double own_cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
         (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void watch(Load *load, Connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  if (epoll_ctl(load->epoll, operation, c->link.fd, &event) < 0)
    fail_errno("epoll_ctl");
}

static void send_some(Load *load, Connection *c) {
  size_t sent_before = load->batch_bytes - c->unsent;
  size_t at = (c->phase + sent_before) % PATTERN_PERIOD;
  c->unsent -= link_send(&c->link, load->pattern + at, c->unsent);
  if (c->waits_to_send == (c->unsent > 0))
    return;
  c->waits_to_send = c->unsent > 0;
  watch(load, c, EPOLL_CTL_MOD,
        c->waits_to_send ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void begin_batch(Load *load, Connection *c, int64_t now) {
  if (load->stopping || (load->options.messages && c->batches_to_send-- == 0)) {
    load->open--;
    return;
  }
  c->unsent = c->unread = load->batch_bytes;
  c->started_ns = now;
  send_some(load, c);
}

static void end_batch(Load *load, Connection *c) {
  int64_t now = now_ns();
  c->phase = (unsigned)((c->phase + load->batch_bytes) % PATTERN_PERIOD);
  if (load->counting) {
    int64_t microseconds = (now - c->started_ns) / 1000;
    load->batches++;
    load->latency[microseconds < LATENCY_BUCKETS ? microseconds
                                                 : LATENCY_BUCKETS - 1]++;
  }
  begin_batch(load, c, now);
}

static void check_bytes(Load *load, Connection *c, const char *bytes,
                        size_t length) {
  size_t read_before = load->batch_bytes - c->unread;
  size_t at = (c->phase + read_before) % PATTERN_PERIOD;
  if (length > c->unread - c->unsent)
    fail("the server sent more than it was given");
  if (memcmp(bytes, load->pattern + at, length) != 0)
    fail("the server sent back wrong bytes");
}

static void receive_some(Load *load, Connection *c) {
  static char bytes[RECEIVE_BYTES];
  do {
    size_t n = link_receive(&c->link, bytes, sizeof bytes);
    if (n == 0)
      return;
    check_bytes(load, c, bytes, n);
    c->unread -= n;
    if (c->unread == 0)
      end_batch(load, c);
  } while (link_holds(&c->link));
}

static void serve_events(Load *load, int timeout_ms) {
  struct epoll_event events[MAX_EVENTS];
  int n = epoll_wait(load->epoll, events, MAX_EVENTS, timeout_ms);
  if (n < 0 && errno != EINTR)
    fail_errno("epoll_wait");
  for (int i = 0; i < n; i++) {
    Connection *c = events[i].data.ptr;
    if (events[i].events & EPOLLOUT)
      send_some(load, c);
    if (events[i].events & ~(uint32_t)EPOLLOUT)
      receive_some(load, c);
  }
}

static void open_connections(Load *load) {
  int n = load->options.connections;
  int64_t batches = load->options.messages / load->options.depth;
  load->connections = calloc((size_t)n, sizeof *load->connections);
  load->epoll = epoll_create1(EPOLL_CLOEXEC);
  if (!load->connections || load->epoll < 0)
    fail_errno("load");
  for (int i = 0; i < n; i++) {
    Connection *c = &load->connections[i];
    link_open(&c->link, load->options.port);
    c->phase = (unsigned)i * 17 % PATTERN_PERIOD;
    c->batches_to_send = batches / n + (i < batches % n);
    watch(load, c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void begin_all(Load *load) {
  load->open = load->options.connections;
  for (int i = 0; i < load->options.connections; i++)
    begin_batch(load, &load->connections[i], now_ns());
}

static void run_for(Load *load, double seconds) {
  int64_t end = now_ns() + (int64_t)(seconds * 1e9);
  while (now_ns() < end)
    serve_events(load, 10);
}

static void open_window(Load *load) {
  load->counting = 1;
  load->server_start = server_times(load->options.pid);
  load->own_start = own_cpu();
  load->window_start_ns = now_ns();
}

static void close_window(Load *load) {
  load->window_end_ns = now_ns();
  load->own_end = own_cpu();
  load->server_end = server_times(load->options.pid);
  load->counting = 0;
}

// Lets what is under way come back: a close with bytes unread would be a reset,
// and what the server makes of resets is not measured here.
static void finish(Load *load) {
  while (load->open > 0)
    serve_events(load, 10);
  for (int i = 0; i < load->options.connections; i++)
    link_close(&load->connections[i].link);
}

static void run_window(Load *load) {
  begin_all(load);
  run_for(load, load->options.warmup);
  open_window(load);
  run_for(load, load->options.seconds);
  close_window(load);
  load->stopping = 1;
  finish(load);
}

static void run_counted(Load *load) {
  open_window(load);
  begin_all(load);
  while (load->open > 0)
    serve_events(load, 10);
  close_window(load);
  finish(load);
}

static int percentile_us(const Load *load, double share) {
  int64_t wanted = (int64_t)((double)load->batches * share), seen = 0;
  for (int i = 0; i < LATENCY_BUCKETS; i++) {
    seen += load->latency[i];
    if (seen > wanted)
      return i;
  }
  return LATENCY_BUCKETS;
}

static void report(const Load *load) {
  const Options *o = &load->options;
  double seconds = (double)(load->window_end_ns - load->window_start_ns) / 1e9;
  double requests = (double)(load->batches * o->depth);
  double user = load->server_end.user - load->server_start.user;
  double system = load->server_end.system - load->server_start.system;
  double cpu = user + system;
  printf("{\"connections\": %d, \"size\": %zu, \"depth\": %d, "
         "\"seconds\": %.4f, \"requests\": %.0f, \"rps\": %.1f, "
         "\"p50_us\": %d, \"p99_us\": %d, \"server_cpu_us\": %.4f, "
         "\"server_user_us\": %.4f, \"server_share\": %.3f, "
         "\"load_share\": %.3f}\n",
         o->connections, o->size, o->depth, seconds, requests,
         requests / seconds, percentile_us(load, 0.5),
         percentile_us(load, 0.99), cpu / requests * 1e6, user / requests * 1e6,
         cpu / seconds, (load->own_end - load->own_start) / seconds);
}

// The whole of the program: its arguments, its work and its line of JSON.
static int load_main(int argc, char **argv) {
  static Load load;
  load.options = parse_options(argc, argv);
  load.batch_bytes = load.options.size * (size_t)load.options.depth;
  load.pattern = pattern_new(load.batch_bytes);
  limit_time(load.options.warmup + load.options.seconds + 20);
  open_connections(&load);
  if (load.options.messages)
    run_counted(&load);
  else
    run_window(&load);
  if (load.batches == 0)
    fail("nothing came back");
  report(&load);
  return 0;
}

#endif
