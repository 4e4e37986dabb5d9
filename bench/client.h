// SPDX-License-Identifier: MIT
//
// What the client programs of the benchmarks share: failing loudly, the clock,
// the hard time limit, a connection to the server, the byte pattern that is
// sent and checked, and what /proc tells about the server. Each program is one
// C file, so all of this is inline.

#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// A prime, so that no message size is a multiple of it: a lost or repeated
// message shifts the pattern and is noticed.
enum { PATTERN_PERIOD = 251 };

static inline void __attribute__((noreturn, format(printf, 1, 2)))
fail(const char *format, ...) {
  va_list args;
  va_start(args, format);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  exit(1);
}

static inline void __attribute__((noreturn)) fail_errno(const char *what) {
  fail("%s: %s", what, strerror(errno));
}

static inline int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void on_time_limit(int signal_number) {
  static const char message[] = "time limit: the server does not answer\n";
  (void)signal_number;
  if (write(STDERR_FILENO, message, sizeof message - 1) < 0)
    _exit(4);
  _exit(3);
}

// Whatever happens, this process ends within so many seconds.
static inline void limit_time(double seconds) {
  signal(SIGALRM, on_time_limit);
  alarm((unsigned)seconds + 1);
}

// A connected, blocking socket.
static inline int connect_to(int port) {
  int on = 1;
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0)
    fail_errno("socket");
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
    fail_errno("connect");
  if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0)
    fail_errno("TCP_NODELAY");
  return fd;
}

// A buffer from which `size` bytes of the pattern can be taken at any phase.
static inline char *pattern_new(size_t size) {
  size_t total = size + PATTERN_PERIOD;
  char *pattern = malloc(total);
  if (!pattern)
    fail("out of memory");
  for (size_t i = 0; i < total; i++)
    pattern[i] = (char)(i % PATTERN_PERIOD);
  return pattern;
}

// Reads a small file of /proc whole; an empty text where it is gone.
static inline void read_proc(int pid, const char *name, char *text, int size) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
  FILE *file = fopen(path, "r");
  if (!file)
    fail_errno(path);
  size_t length = fread(text, 1, (size_t)size - 1, file);
  text[length] = 0;
  fclose(file);
}

// CPU time of the server.
typedef struct ServerTimes {
  double user, system; // seconds of CPU so far
} ServerTimes;

static inline double ticks_to_seconds(unsigned long ticks) {
  return (double)ticks / (double)sysconf(_SC_CLK_TCK);
}

// All 0 where no pid was given.
static inline ServerTimes server_times(int pid) {
  char text[1024];
  unsigned long user, system;
  if (!pid)
    return (ServerTimes){0, 0};
  read_proc(pid, "stat", text, sizeof text);
  char *rest = strrchr(text, ')'); // the name before it may hold anything
  if (!rest || sscanf(rest + 1,
                      " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u"
                      " %lu %lu",
                      &user, &system) != 2)
    fail("/proc/%d/stat: not understood", pid);
  return (ServerTimes){ticks_to_seconds(user), ticks_to_seconds(system)};
}

#endif
