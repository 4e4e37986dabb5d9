// SPDX-License-Identifier: MIT
//
// Ctrl-C for the command. The handler wakes the loop by an ev_async, and arms a
// count hook on the coroutine that runs, in case Lua code keeps the loop busy:
// after a second the hook raises CancelledError in the task. A process has one
// command, so the state here is static, which nothing in the library may be.
#include "interrupt.h"

#include <ev.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "error.h"
#include "runtime.h"

static Runtime *runtime;
static ev_async wake;
static volatile sig_atomic_t count;
static volatile sig_atomic_t unseen; // the loop has not come round since
static struct timespec pressed;
static struct sigaction previous;

static const double PATIENCE = 1; // seconds

int interrupt_count(void) { return count; }

static double seconds_since_pressed(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)(now.tv_sec - pressed.tv_sec) +
         (double)(now.tv_nsec - pressed.tv_nsec) * 1e-9;
}

static void stop_hooking(lua_State *L) {
  runtime->hook_wanted = 0;
  lua_sethook(L, NULL, 0, 0);
}

// Runs in the coroutine that keeps the loop busy, every few instructions.
static void on_count(lua_State *L, lua_Debug *ar) {
  (void)ar;
  if (!unseen) {
    stop_hooking(L);
    return;
  }
  if (!runtime->current || seconds_since_pressed() < PATIENCE)
    return;
  unseen = 0;
  stop_hooking(L);
  error_raise(L, "CancelledError", "interrupted");
}

static void on_signal(int sig) {
  if (++count > 1) {
    signal(sig, SIG_DFL);
    raise(sig);
    return;
  }
  clock_gettime(CLOCK_MONOTONIC, &pressed);
  unseen = 1;
  ev_async_send(runtime->loop, &wake);
  runtime->hook = on_count;
  runtime->hook_wanted = 1;
  if (runtime->innermost)
    lua_sethook(runtime->innermost, on_count,
                LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1000);
}

static int cancel_main(lua_State *L) {
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonloop.run");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "interrupt");
  lua_call(L, 0, 0);
  return 0;
}

static void on_wake(struct ev_loop *loop, ev_async *w, int revents) {
  (void)loop, (void)w, (void)revents;
  unseen = 0;
  runtime->hook_wanted = 0;
  lua_pushcfunction(runtime->scratch, cancel_main);
  runtime_call(runtime, 0, "error while handling Ctrl-C");
}

void interrupt_open(lua_State *L) {
  runtime = moonloop_runtime_of(L);
  ev_async_init(&wake, on_wake);
  ev_async_start(runtime->loop, &wake);
  ev_unref(runtime->loop);
  struct sigaction action = {.sa_handler = on_signal};
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, NULL, &previous);
  if (previous.sa_handler != SIG_IGN) // as for a job of `nohup` or `&`
    sigaction(SIGINT, &action, NULL);
}

void interrupt_close(lua_State *L) {
  (void)L;
  sigaction(SIGINT, &previous, NULL);
  if (!runtime->loop)
    return;
  ev_ref(runtime->loop);
  ev_async_stop(runtime->loop, &wake);
}
