// SPDX-License-Identifier: MIT
//
// What a foreign loop needs: the descriptor that tells it when to call
// moonloop_poll. libev does not tell its epoll descriptor, but the kernel does:
// /proc/self/fdinfo lists what an epoll descriptor watches, and the loop's is
// the one that watches a pipe made for the purpose.
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime.h"

// Whether the epoll descriptor named in `entry` watches `target`.
static bool watches(const char *entry, int target) {
  char path[300], line[256];
  snprintf(path, sizeof path, "/proc/self/fdinfo/%s", entry);
  FILE *f = fopen(path, "re");
  if (!f)
    return false;
  bool found = false;
  int fd;
  while (!found && fgets(line, sizeof line, f))
    found = sscanf(line, "tfd: %d", &fd) == 1 && fd == target;
  fclose(f);
  return found;
}

static int find_watcher_of(int target) {
  DIR *dir = opendir("/proc/self/fdinfo");
  if (!dir)
    return -1;
  int found = -1;
  for (struct dirent *e; found < 0 && (e = readdir(dir));)
    if (e->d_name[0] != '.' && watches(e->d_name, target))
      found = atoi(e->d_name);
  closedir(dir);
  return found;
}

static void on_probe(struct ev_loop *loop, ev_io *w, int revents) {
  (void)loop, (void)w, (void)revents;
}

static int find_backend(Runtime *rt) {
  int ends[2];
  ev_io probe;
  if (ev_backend(rt->loop) != EVBACKEND_EPOLL || pipe2(ends, O_CLOEXEC) < 0)
    return -1;
  ev_io_init(&probe, on_probe, ends[0], EV_READ);
  ev_io_start(rt->loop, &probe);
  rt->in_lua++; // a turn that only registers: no task is resumed in it
  ev_run(rt->loop, EVRUN_NOWAIT);
  rt->in_lua--;
  int fd = find_watcher_of(ends[0]);
  ev_io_stop(rt->loop, &probe);
  close(ends[0]);
  close(ends[1]);
  return fd;
}

int moonloop_fd(moonloop_runtime *rt) {
  if (rt->closed)
    return -1;
  if (rt->backend_fd == -2)
    rt->backend_fd = find_backend(rt);
  return rt->backend_fd;
}
