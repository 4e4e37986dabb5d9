// SPDX-License-Identifier: MIT
//
// moonloop_run with tasks that nothing in the loop can wake: it waits, since
// another thread may post, and is no deadlock.
#include <pthread.h>
#include <unistd.h>

#include "embed.h"

static moonloop_runtime *rt;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int asked; // how many answers the tasks wait for
static int given;

// The thread is told only now, when the main loop has begun to run tasks.
static int l_ask(lua_State *L) {
  (void)L;
  pthread_mutex_lock(&lock);
  asked++;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&lock);
  return 0;
}

static void answer(lua_State *L, void *ud) {
  (void)ud;
  lua_getglobal(L, "answer");
  lua_call(L, 0, 0);
}

static void *answer_all(void *argument) {
  (void)argument;
  for (; given < 2; given++) {
    pthread_mutex_lock(&lock);
    while (asked == given)
      pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    CHECK(moonloop_post(rt, answer, NULL) == 0);
  }
  return NULL;
}

int main(void) {
  alarm(60); // what does not return is a failure too
  lua_State *L = embed_state();
  rt = moonloop_open(L, NULL);
  lua_register(L, "ask", l_ask);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, answer_all, NULL) == 0);
  embed_spawn(L, "local moonloop = require 'moonloop'\n"
                 "for _, what in ipairs {'posted', 'twice'} do\n"
                 "  local gate = moonloop.Future()\n"
                 "  function answer() gate:set_result(what) end\n"
                 "  ask()\n"
                 "  print(gate:await())\n"
                 "end");
  CHECK(moonloop_run(L) == LUA_OK);
  pthread_join(thread, NULL);
  CHECK(given == 2);
  lua_close(L);
  embed_say("ended");
  return 0;
}
