// SPDX-License-Identifier: MIT
//
// The startup workload: runs one command again and again, one after another,
// and prints the median wall time from posix_spawn to its end, with the
// fastest and the 90th percentile, as one line of JSON. A run that does not
// exit with 0 is a failure.

#include <spawn.h>
#include <sys/wait.h>

#include "client.h"

extern char **environ;

static int64_t run_once(char **command) {
  pid_t pid;
  int status;
  int64_t started = now_ns();
  int failed = posix_spawnp(&pid, command[0], NULL, NULL, command, environ);
  if (failed)
    fail("%s: %s", command[0], strerror(failed));
  if (waitpid(pid, &status, 0) < 0)
    fail_errno("waitpid");
  if (status != 0)
    fail("%s: wait status %d", command[0], status);
  return now_ns() - started;
}

static int compare_times(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  int runs = argc > 2 ? atoi(argv[1]) : 0;
  if (runs < 1 || runs > 10000)
    fail("usage: startup RUNS PROGRAM [ARG...]");
  int64_t *times = calloc((size_t)runs, sizeof *times);
  if (!times)
    fail("out of memory");
  limit_time(60);
  run_once(argv + 2); // brings the program's pages into memory
  for (int i = 0; i < runs; i++)
    times[i] = run_once(argv + 2);
  qsort(times, (size_t)runs, sizeof *times, compare_times);
  printf("{\"runs\": %d, \"median_ms\": %.4f, \"least_ms\": %.4f, "
         "\"p90_ms\": %.4f}\n",
         runs, (double)times[runs / 2] / 1e6, (double)times[0] / 1e6,
         (double)times[runs * 9 / 10] / 1e6);
  free(times);
  return 0;
}
