// SPDX-License-Identifier: MIT
//
// Two Lua states in two threads, each with a loop of its own, at the same time:
// the runtime has no state that they would share.
#include <pthread.h>
#include <string.h>

#include "embed.h"

static const char work[] =
    "local moonloop = require 'moonloop'\n"
    "moonloop.patch_coroutines()\n"
    "local function main()\n"
    "  local sum, list = 0, {}\n"
    "  for i = 1, 200 do\n"
    "    list[i] = moonloop.create_task(function()\n"
    "      local gen = coroutine.wrap(function()\n"
    "        for j = 1, 5 do moonloop.sleep(0) coroutine.yield(j) end\n"
    "      end)\n"
    "      local value = 0\n"
    "      for j in gen do value = value + j end\n"
    "      moonloop.sleep(0.0001 * (i % 7))\n"
    "      return value\n"
    "    end)\n"
    "  end\n"
    "  for i = 1, 200 do sum = sum + moonloop.await(list[i]) end\n"
    "  return sum\n"
    "end\n"
    "for _ = 1, 10 do assert(moonloop.run(main) == 3000) end\n";

static void *run_state(void *argument) {
  int *rounds = argument;
  for (*rounds = 0; *rounds < 5; (*rounds)++) {
    lua_State *L = embed_state();
    CHECK(moonloop_open(L, NULL) != NULL);
    embed_do(L, work);
    embed_spawn(L, "require 'moonloop'.sleep(60)");
    lua_close(L);
  }
  return NULL;
}

int main(void) {
  pthread_t threads[2];
  int rounds[2];
  for (int i = 0; i < 2; i++)
    CHECK(pthread_create(&threads[i], NULL, run_state, &rounds[i]) == 0);
  for (int i = 0; i < 2; i++)
    pthread_join(threads[i], NULL);
  CHECK(rounds[0] == 5 && rounds[1] == 5);
  embed_say("both threads done");
  return 0;
}
