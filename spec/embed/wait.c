// SPDX-License-Identifier: MIT
//
// A module of a third party: awaiting functions of its own, made of the public
// calls alone. nap() can be undone, work() cannot, fail() raises in the end.
#include <string.h>

#include <ev.h>

#include "embed.h"

typedef struct Operation {
  ev_timer timer;
  struct ev_loop *loop;
  moonloop_wait *wait;
  int fails;
} Operation;

static int aborted, refused;

static int push_result(lua_State *L, void *ud) {
  Operation *operation = ud;
  if (operation->fails)
    return luaL_error(L, "the operation failed");
  // The function's own arguments are there still.
  lua_pushvalue(L, 1);
  lua_pushnil(L);
  lua_pushliteral(L, "woken");
  return 3;
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int events) {
  (void)events;
  Operation *operation = timer->data;
  ev_timer_stop(loop, timer);
  moonloop_wake(operation->wait, push_result, operation);
}

static int abort_undone(moonloop_wait *w, void *ud) {
  Operation *operation = ud;
  CHECK(w == operation->wait);
  ev_timer_stop(operation->loop, &operation->timer);
  aborted++;
  return 1;
}

static int abort_not_yet(moonloop_wait *w, void *ud) {
  Operation *operation = ud;
  CHECK(w == operation->wait);
  refused++;
  return 0;
}

static Operation *new_operation(lua_State *L, double seconds) {
  Operation *operation = lua_newuserdatauv(L, sizeof *operation, 0);
  memset(operation, 0, sizeof *operation);
  operation->loop = moonloop_loop(moonloop_runtime_of(L));
  ev_timer_init(&operation->timer, on_timer, seconds, 0);
  operation->timer.data = operation;
  return operation;
}

static int start(lua_State *L, Operation *operation, moonloop_abort_fn fn) {
  operation->wait = moonloop_await_begin(L, fn, operation);
  moonloop_wait_label(operation->wait, "operation %d", 7);
  ev_timer_start(operation->loop, &operation->timer);
  return moonloop_await(L, operation->wait);
}

static int l_nap(lua_State *L) {
  return start(L, new_operation(L, luaL_checknumber(L, 2)), abort_undone);
}

static int l_work(lua_State *L) {
  return start(L, new_operation(L, 0.1), abort_not_yet);
}

static int l_fail(lua_State *L) {
  Operation *operation = new_operation(L, 0.001);
  operation->fails = 1;
  return start(L, operation, abort_undone);
}

static int l_error(lua_State *L) {
  moonloop_error_errno(L, (int)luaL_checkinteger(L, 1), "connect",
                       "10.0.0.1:9");
  return lua_error(L);
}

static const char code[] =
    "local moonloop = require 'moonloop'\n"
    "local function start(fn, ...)\n"
    "  local task = moonloop.create_task(fn, ...)\n"
    "  moonloop.testing.wait_all_blocked()\n"
    "  return task\n"
    "end\n"
    "print(nap('value', 0.001))\n"
    "print(coroutine.wrap(nap)('value', 0.001))\n"
    "print(pcall(fail))\n"
    "print(pcall(table.sort, {2, 1}, function() nap('x', 1) end))\n"
    "local napping = start(nap, 'value', 60)\n"
    "print(napping:awaiting())\n"
    "napping:cancel()\n"
    "print(select(2, pcall(moonloop.await, napping)).kind)\n"
    "print(napping:cancelled())\n"
    "local working = start(work, 'value')\n"
    "working:cancel()\n"
    "moonloop.sleep(0)\n"
    "print('still working', working:done())\n"
    "print(select(2, pcall(moonloop.await, working)).kind)\n"
    "local cancelled = moonloop.create_task(function()\n"
    "  moonloop.current_task():cancel()\n"
    "  nap('x', 60)\n"
    "end)\n"
    "print(select(2, pcall(moonloop.await, cancelled)).kind)\n"
    "local ok, err = pcall(connect_error, 111)\n"
    "print(err, err.code, err.errno, moonloop.is_error(err, "
    "'ConnectionError'))\n"
    "start(nap, 'left over', 60)\n"
    "start(work, 'left over')\n";

int main(void) {
  lua_State *L = embed_state();
  moonloop_open(L, NULL);
  lua_register(L, "nap", l_nap);
  lua_register(L, "work", l_work);
  lua_register(L, "fail", l_fail);
  lua_register(L, "connect_error", l_error);
  embed_do(L, "require 'moonloop'.patch_coroutines()");
  embed_do(L, "local ok, err = pcall(nap, 'x', 1)\n"
              "print(ok, tostring(err):match('no running task'))");
  lua_pushstring(L, code);
  lua_setglobal(L, "code");
  embed_do(L, "require 'moonloop'.run(assert(load(code, '=code')))");
  CHECK(aborted == 2);
  CHECK(refused == 2);
  lua_close(L);
  embed_say("closed");
  return 0;
}
