// SPDX-License-Identifier: MIT
//
// The client of the memory workload: opens many connections to an echo server
// in another process, exchanges one byte on each (so that it is accepted and
// served, and has become idle after use), and prints by how much the server's
// resident memory has grown, as one line of JSON. Afterwards every connection
// must still answer.

#include "client.h"

typedef struct Options {
  int port, pid, connections;
  double settle; // seconds of rest before the memory is read
} Options;

static void usage(void) {
  fail("usage: hold -p PORT -P SERVER_PID [-c CONNECTIONS] [-t SETTLE_S]");
}

static Options parse_options(int argc, char **argv) {
  Options o = {.connections = 10000, .settle = 0.3};
  int option;
  while ((option = getopt(argc, argv, "p:P:c:t:")) != -1) {
    switch (option) {
    case 'p':
      o.port = atoi(optarg);
      break;
    case 'P':
      o.pid = atoi(optarg);
      break;
    case 'c':
      o.connections = atoi(optarg);
      break;
    case 't':
      o.settle = atof(optarg);
      break;
    default:
      usage();
    }
  }
  if (optind < argc || o.port < 1 || o.port > 65535 || o.pid < 1 ||
      o.connections < 1 || o.settle < 0 || o.settle > 60)
    usage();
  return o;
}

static void exchange(int fd, char byte) {
  char answer = 0;
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
    fail_errno("send");
  ssize_t n = recv(fd, &answer, 1, 0);
  if (n < 0)
    fail_errno("recv");
  if (n == 0)
    fail("the server closed a connection");
  if (answer != byte)
    fail("the server sent back a wrong byte");
}

static double resident_bytes(int pid) {
  char text[256];
  long resident;
  read_proc(pid, "statm", text, sizeof text);
  if (sscanf(text, "%*d %ld", &resident) != 1)
    fail("/proc/%d/statm: not understood", pid);
  return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

static void rest(double seconds) { usleep((useconds_t)(seconds * 1e6)); }

// The first connection brings in code and tables that all others share.
static void warm_up(const Options *o) {
  int fd = connect_to(o->port);
  exchange(fd, 'w');
  close(fd);
  rest(o->settle);
}

static void open_all(const Options *o, int *fds) {
  for (int i = 0; i < o->connections; i++) {
    fds[i] = connect_to(o->port);
    exchange(fds[i], (char)i);
  }
  rest(o->settle);
}

static void check_and_close(const Options *o, const int *fds) {
  for (int i = 0; i < o->connections; i++)
    exchange(fds[i], (char)~i);
  for (int i = 0; i < o->connections; i++)
    close(fds[i]);
}

int main(int argc, char **argv) {
  Options o = parse_options(argc, argv);
  int *fds = calloc((size_t)o.connections, sizeof *fds);
  if (!fds)
    fail("out of memory");
  limit_time(o.settle * 2 + 60);
  warm_up(&o);
  double before = resident_bytes(o.pid);
  open_all(&o, fds);
  double after = resident_bytes(o.pid);
  check_and_close(&o, fds);
  printf("{\"connections\": %d, \"before\": %.0f, \"after\": %.0f, "
         "\"bytes_each\": %.1f}\n",
         o.connections, before, after, (after - before) / o.connections);
  free(fds);
  return 0;
}
