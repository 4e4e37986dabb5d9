// SPDX-License-Identifier: MIT
//
// Cancel scopes as the wait sees them: the chain that says whether a task may
// still wait. The userdata that opens one is in cancel_scope.c, what is open in
// which coroutine in scope_coroutine.c.
#include "scope.h"

#include <string.h>

#include "error.h"
#include "task.h"
#include "wait.h"

void scope_init(Scope *s, Task *task) {
  memset(s, 0, sizeof *s);
  s->task = task;
  s->message_ref = LUA_NOREF;
}

Scope *scope_cause(Scope *s) {
  Scope *cause = NULL;
  for (; s; s = s->parent) {
    if (s->flags & SCOPE_LEFT)
      continue;
    if (s->flags & SCOPE_CANCELLED)
      cause = s;
    if (s->flags & SCOPE_SHIELD)
      break;
  }
  return cause;
}

void scope_drop_message(Runtime *rt, lua_State *L, Scope *s) {
  anchor_drop(rt, L, s->message_ref);
  s->message_ref = LUA_NOREF;
}

void scope_cancel(Runtime *rt, lua_State *L, Scope *s, int message) {
  bool left = (s->flags & SCOPE_LEFT) != 0;
  if (message && !left && !lua_isnoneornil(L, message)) {
    scope_drop_message(rt, L, s);
    lua_pushvalue(L, message);
    s->message_ref = anchor_take(rt, L);
  }
  if (s->flags & SCOPE_CANCELLED)
    return;
  s->flags |= SCOPE_CANCELLED;
  s->delivered = 0;
  Task *t = s->task;
  if (t && t->scope && !scope_is_quiet(t->scope))
    wait_interrupt(rt, t, WAIT_CANCEL);
}

void scope_clear(Runtime *rt, lua_State *L, Scope *s) {
  s->flags &= ~(uint32_t)SCOPE_CANCELLED;
  s->delivered = 0;
  scope_drop_message(rt, L, s);
}

void scope_push_error(Runtime *rt, lua_State *L, Scope *s) {
  s->delivered++;
  if (s->message_ref != LUA_NOREF)
    anchor_push(rt, L, s->message_ref);
  else
    lua_pushliteral(L, "cancelled");
  error_wrap(L, "CancelledError");
}
