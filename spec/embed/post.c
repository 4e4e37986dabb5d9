// SPDX-License-Identifier: MIT
//
// Other threads reach the loop by moonloop_post alone: what they post runs once
// each, in order, in the loop's thread, also while the loop sleeps.
#include <pthread.h>
#include <stdint.h>

#include "embed.h"

enum { POSTS = 1000, THREADS = 4 };

static pthread_t loop_thread;
static int last_of[THREADS];
static int count;
static moonloop_wait *all_ran;

typedef struct Post {
  int thread;
  int number;
} Post;

static void run_post(lua_State *L, void *ud) {
  Post *post = ud;
  CHECK(pthread_equal(pthread_self(), loop_thread));
  CHECK(last_of[post->thread] == post->number - 1);
  last_of[post->thread] = post->number;
  free(post);
  if (++count == POSTS * THREADS) {
    lua_getglobal(L, "finish");
    lua_call(L, 0, 0);
    moonloop_wake(all_ran, NULL, NULL);
  }
}

// A wait of the host's own, which cannot be undone.
static int l_wait_for_all(lua_State *L) {
  all_ran = moonloop_await_begin(L, NULL, NULL);
  return moonloop_await(L, all_ran);
}

static void run_failing(lua_State *L, void *ud) {
  (void)ud;
  luaL_error(L, "posted error");
}

static moonloop_runtime *rt;

static void *post_all(void *argument) {
  for (int number = 1; number <= POSTS; number++) {
    Post *post = malloc(sizeof *post);
    CHECK(post != NULL);
    post->thread = (int)(intptr_t)argument;
    post->number = number;
    CHECK(moonloop_post(rt, run_post, post) == 0);
  }
  return NULL;
}

static void run_posts(lua_State *L) {
  pthread_t threads[THREADS];
  for (intptr_t i = 0; i < THREADS; i++)
    CHECK(pthread_create(&threads[i], NULL, post_all, (void *)i) == 0);
  CHECK(moonloop_run(L) == LUA_OK);
  for (int i = 0; i < THREADS; i++)
    pthread_join(threads[i], NULL);
  CHECK(count == POSTS * THREADS);
  embed_say("every post ran once");
}

int main(void) {
  loop_thread = pthread_self();
  lua_State *L = embed_state();
  rt = moonloop_open(L, NULL);
  lua_register(L, "wait_for_all", l_wait_for_all);
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "local gate = moonloop.Future()\n"
                 "function finish() gate:set_result 'woken' end\n"
                 "moonloop.create_task(wait_for_all)\n"
                 "print(gate:await())");
  double timeout;
  while (moonloop_poll(L, &timeout) < 2)
    ;
  run_posts(L);

  // An error in what was posted is reported, and the loop goes on.
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "local loop = moonloop.get_running_loop()\n"
                 "loop:set_exception_handler(function(_, context)\n"
                 "  print('reported', context.error)\n"
                 "end)\n"
                 "moonloop.sleep(0.05)\n"
                 "print 'goes on'");
  CHECK(moonloop_poll(L, &timeout) == 1);
  CHECK(moonloop_post(rt, run_failing, NULL) == 0);
  CHECK(moonloop_run(L) == LUA_OK);

  // What is posted and never run is dropped cleanly.
  CHECK(moonloop_post(rt, run_failing, NULL) == 0);
  lua_close(L);
  return 0;
}
