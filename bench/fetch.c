// SPDX-License-Identifier: MIT
//
// The client of the sendfile workload: fetches a file from an HTTP server on
// loopback, each time by a connection of its own. The first time every byte is
// compared with the file; after that the system throws the bytes away, so that
// the server is the one that is measured. Prints the rate, the server's CPU
// time for each transfer, and by how much the server's greatest resident memory
// has grown since the first transfer, as one line of JSON.

#include <fcntl.h>
#include <sys/stat.h>

#include "client.h"

enum { PIECE = 1 << 20, HEAD_BYTES = 4096, PATIENCE_S = 5 };

typedef struct Options {
  int port, pid, transfers;
  const char *file;
} Options;

static void usage(void) {
  fail("usage: fetch -p PORT -P SERVER_PID [-n TRANSFERS] FILE");
}

static Options parse_options(int argc, char **argv) {
  Options o = {.transfers = 3};
  int option;
  while ((option = getopt(argc, argv, "p:P:n:")) != -1) {
    switch (option) {
    case 'p':
      o.port = atoi(optarg);
      break;
    case 'P':
      o.pid = atoi(optarg);
      break;
    case 'n':
      o.transfers = atoi(optarg);
      break;
    default:
      usage();
    }
  }
  if (optind != argc - 1 || o.port < 1 || o.port > 65535 || o.pid < 1 ||
      o.transfers < 1)
    usage();
  o.file = argv[optind];
  return o;
}

// A server may need a moment until it listens.
static void wait_for_server(int port) {
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int64_t end = now_ns() + (int64_t)PATIENCE_S * 1000000000;
  for (;;) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
      fail_errno("socket");
    int failed = connect(fd, (struct sockaddr *)&address, sizeof address);
    close(fd);
    if (!failed)
      return;
    if (now_ns() > end)
      fail("nobody listens on port %d", port);
    usleep(10000);
  }
}

// Takes the head of the answer, byte by byte, and no byte of the body.
static void read_head(int fd, char *head) {
  size_t length = 0;
  while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4) != 0) {
    if (length == HEAD_BYTES - 1)
      fail("the answer's head is too long");
    ssize_t n = recv(fd, head + length, 1, 0);
    if (n < 0)
      fail_errno("recv");
    if (n == 0)
      fail("the server closed the connection");
    length++;
  }
  head[length] = 0;
}

static int64_t length_in(const char *head) {
  const char *field = strcasestr(head, "\r\nContent-Length:");
  if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 9, "200", 3) != 0)
    fail("not a good answer: %s", head);
  if (!field)
    fail("no length in the answer: %s", head);
  return atoll(field + strlen("\r\nContent-Length:"));
}

static int request(const Options *o, int64_t size) {
  static const char text[] = "GET /file HTTP/1.0\r\n\r\n";
  char head[HEAD_BYTES];
  int fd = connect_to(o->port);
  if (send(fd, text, sizeof text - 1, MSG_NOSIGNAL) != sizeof text - 1)
    fail_errno("send");
  read_head(fd, head);
  if (length_in(head) != size)
    fail("the file is of another length");
  return fd;
}

static size_t receive(int fd, char *bytes, int64_t left, int flags) {
  size_t most = left < PIECE ? (size_t)left : PIECE;
  ssize_t n = recv(fd, bytes, most, flags);
  if (n < 0)
    fail_errno("recv");
  if (n == 0)
    fail("%lld bytes are missing", (long long)left);
  return (size_t)n;
}

static void end(int fd) {
  char byte;
  if (recv(fd, &byte, 1, 0) > 0)
    fail("the server sent more than the file");
  close(fd);
}

static void compare(const Options *o, int file, int64_t size) {
  static char came[PIECE], wanted[PIECE];
  int fd = request(o, size);
  for (int64_t at = 0; at < size;) {
    size_t n = receive(fd, came, size - at, 0);
    if (pread(file, wanted, n, at) != (ssize_t)n)
      fail_errno("pread");
    if (memcmp(came, wanted, n) != 0)
      fail("other bytes than the file has, after byte %lld", (long long)at);
    at += (int64_t)n;
  }
  end(fd);
}

// MSG_TRUNC: TCP drops the bytes without copying them.
static void discard(const Options *o, int64_t size) {
  int fd = request(o, size);
  for (int64_t left = size; left > 0;)
    left -= (int64_t)receive(fd, NULL, left, MSG_TRUNC);
  end(fd);
}

static double greatest_memory_kib(int pid) {
  char text[4096];
  read_proc(pid, "status", text, sizeof text);
  const char *field = strstr(text, "\nVmHWM:");
  if (!field)
    fail("/proc/%d/status: not understood", pid);
  return atof(field + strlen("\nVmHWM:"));
}

int main(int argc, char **argv) {
  struct stat s;
  Options o = parse_options(argc, argv);
  int file = open(o.file, O_RDONLY | O_CLOEXEC);
  if (file < 0 || fstat(file, &s) < 0)
    fail_errno(o.file);
  limit_time(60);
  wait_for_server(o.port);
  compare(&o, file, s.st_size);
  double memory = greatest_memory_kib(o.pid);
  ServerTimes before = server_times(o.pid);
  int64_t started = now_ns();
  for (int i = 0; i < o.transfers; i++)
    discard(&o, s.st_size);
  double seconds = (double)(now_ns() - started) / 1e9;
  ServerTimes after = server_times(o.pid);
  double cpu = after.user - before.user + after.system - before.system;
  printf("{\"transfers\": %d, \"seconds\": %.4f, \"mib_per_s\": %.1f, "
         "\"server_cpu_ms\": %.2f, \"memory_growth_kib\": %.0f}\n",
         o.transfers, seconds,
         (double)s.st_size * o.transfers / seconds / (1 << 20),
         cpu / o.transfers * 1e3, greatest_memory_kib(o.pid) - memory);
  close(file);
  return 0;
}
