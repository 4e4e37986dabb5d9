// SPDX-License-Identifier: MIT
//
// Lookups: asking the servers and waiting for what comes. Any number of tasks
// may wait for one; when the last is cancelled it ends. Which names are asked
// for and what answers mean is the Lua files' business.
#include "dns.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "host/error.h"
#include "host/task.h"

static const char LOOKUP_CLASS[] = "moonloop.Lookup";

static Lookup *check_self(lua_State *L) {
  return luaL_checkudata(L, 1, LOOKUP_CLASS);
}

// ---- the queue -------------------------------------------------------------

// How many questions may have sockets at once: others need descriptors too.
static int most_at_once(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur / 4 > 1000)
    return 1000;
  return limit.rlim_cur / 4 < 16 ? 16 : (int)(limit.rlim_cur / 4);
}

static void enqueue(Lookup *l) {
  Dns *dns = l->dns;
  l->state = LOOKUP_QUEUED;
  l->next = NULL;
  l->prev = dns->last;
  if (l->prev)
    l->prev->next = l;
  else
    dns->first = l;
  dns->last = l;
}

static void dequeue(Lookup *l) {
  Dns *dns = l->dns;
  if (l->prev)
    l->prev->next = l->next;
  else
    dns->first = l->next;
  if (l->next)
    l->next->prev = l->prev;
  else
    dns->last = l->prev;
}

// ---- life ------------------------------------------------------------------

// Lets go of what it has, in whatever state.
static void end(Lookup *l) {
  if (l->state == LOOKUP_QUEUED)
    dequeue(l);
  if (l->state == LOOKUP_RUNNING) {
    channels_close(l);
    l->dns->running -= l->count;
    l->rt->timers.pending--;
  }
  l->state = LOOKUP_ENDED;
}

static int push_answers(lua_State *L, void *ud);

static void wake_later(Lookup *l) {
  for (Task *t; (t = l->waiters.first);) {
    wait_list_remove(&l->waiters, t);
    wait_wake_later(&t->wait, push_answers, l);
  }
}

// One task goes on here and now, several from the ready queue: for what one of
// them does may be the end of the others, and of the Lookup.
static void wake(Lookup *l) {
  Task *t = l->waiters.first;
  if (!t || t != l->waiters.last) {
    wake_later(l);
    return;
  }
  wait_list_remove(&l->waiters, t);
  moonloop_wake(&t->wait, push_answers, l);
}

static void run(Lookup *l) {
  l->state = LOOKUP_RUNNING;
  l->dns->running += l->count;
  l->rt->timers.pending++; // the virtual clock waits for real servers
  channels_open(l);
  if (l->left == 0)
    end(l);
}

static void run_queued(Dns *dns) {
  while (dns->first && dns->running < most_at_once()) {
    Lookup *l = dns->first;
    dequeue(l);
    run(l);
    if (l->state == LOOKUP_ENDED)
      wake_later(l);
  }
}

static void on_ready(Runtime *rt, Ready *ready) {
  Dns *dns = (Dns *)((char *)ready - offsetof(Dns, ready));
  (void)rt;
  dns->is_ready = false;
  run_queued(dns);
}

// Others that are cancelled in the same turn are to be out of the queue before.
static void run_queued_later(Dns *dns) {
  if (dns->first && !dns->is_ready) {
    dns->is_ready = true;
    ready_push(dns->rt, &dns->ready);
  }
}

void lookup_on_progress(Lookup *l) {
  if (l->left > 0)
    return;
  end(l);
  run_queued(l->dns);
  wake(l);
}

// ---- waiting ---------------------------------------------------------------

static int abort_wait(moonloop_wait *w, void *ud) {
  Lookup *l = ud;
  wait_list_remove(&l->waiters, task_of_wait(w));
  if (l->waiters.first)
    return 1;
  end(l);
  run_queued_later(l->dns);
  return 1;
}

static void describe(Runtime *rt, moonloop_wait *w, char *text, size_t size) {
  (void)rt;
  snprintf(text, size, "%s", ((Lookup *)w->abort_ud)->label);
}

static const char *status_name(int status) {
  switch (status) {
  case ARES_SUCCESS:
    return "OK";
  case ARES_ENODATA:
    return "NODATA";
  case ARES_EFORMERR:
    return "FORMERR";
  case ARES_ESERVFAIL:
    return "SERVFAIL";
  case ARES_ENOTFOUND:
    return "NXDOMAIN";
  case ARES_ENOTIMP:
    return "NOTIMP";
  case ARES_EREFUSED:
    return "REFUSED";
  case ARES_EBADNAME:
    return "BADNAME";
  case ARES_ECONNREFUSED:
    return "ECONNREFUSED";
  case ARES_ETIMEOUT:
    return "ETIMEOUT";
  case ARES_ENOMEM:
    return "ENOMEM";
  default:
    return "BADRESP";
  }
}

static bool is_out_of_means(int err) {
  return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ENOMEM;
}

// -> for each question its status and, when that is "OK", the packet
static int push_answers(lua_State *L, void *ud) {
  Lookup *l = ud;
  for (int i = 0; i < l->count; i++) {
    Question *q = &l->questions[i];
    if (q->status == ARES_ENOMEM)
      return luaL_error(L, "not enough memory");
    if (q->status == ARES_ECONNREFUSED && is_out_of_means(l->error))
      return error_raise_errno(L, l->error, l->label, NULL);
    lua_pushstring(L, status_name(q->status));
    lua_pushlstring(L, (const char *)q->answer, q->answer ? q->size : 0);
  }
  return 2 * l->count;
}

// Waits for the answers; who comes first begins the look-up. Awaits.
static int l_wait(lua_State *L) {
  Lookup *l = check_self(L);
  lua_settop(L, 1);
  if (l->state == LOOKUP_ENDED)
    return error_raise(L, "InvalidStateError", "the look-up has ended");
  moonloop_wait *w = wait_begin_io(l->rt, L, abort_wait, l, describe);
  wait_list_add(&l->waiters, task_of_wait(w));
  if (l->state == LOOKUP_NEW) {
    enqueue(l);
    run_queued(l->dns);
  }
  return moonloop_await(L, w);
}

static int l_ended(lua_State *L) {
  lua_pushboolean(L, check_self(L)->state == LOOKUP_ENDED);
  return 1;
}

static int l_gc(lua_State *L) {
  Lookup *l = check_self(L);
  end(l);
  for (int i = 0; i < l->count; i++) {
    runtime_free(l->rt, l->questions[i].answer, l->questions[i].size);
    l->questions[i].answer = NULL;
  }
  return 0;
}

static int l_tostring(lua_State *L) {
  static const char *const words[] = {"new", "queued", "running", "ended"};
  Lookup *l = check_self(L);
  lua_pushfstring(L, "Lookup: %s (%s)", l->label, words[l->state]);
  return 1;
}

// ---- making one ------------------------------------------------------------

static bool parse_server(Server *s, const char *text, int port) {
  Host h;
  if (!host_parse(&h, text))
    return false;
  memset(s, 0, sizeof *s);
  s->node.udp_port = s->node.tcp_port = port;
  s->node.family = h.family;
  s->scope = h.scope;
  if (h.family == AF_INET)
    memcpy(&s->node.addr.addr4, h.address.s6_addr + 12, 4);
  else
    memcpy(&s->node.addr.addr6, &h.address, sizeof h.address);
  return true;
}

static void read_servers(lua_State *L, int list, Lookup *l) {
  for (int i = 0; i < l->server_count; i++) {
    lua_rawgeti(L, list, i + 1);
    lua_getfield(L, -1, "host");
    lua_getfield(L, -2, "port");
    if (!parse_server(&l->servers[i], luaL_checkstring(L, -2),
                      (int)luaL_checkinteger(L, -1)))
      luaL_error(L, "no numeric address: '%s'", lua_tostring(L, -2));
    lua_pop(L, 3);
  }
}

static void read_types(lua_State *L, int list, Lookup *l) {
  l->left = l->count = (int)luaL_len(L, list);
  if (l->count < 1 || l->count > QUESTIONS_AT_MOST)
    luaL_argerror(L, list, "one or two types are expected");
  for (int i = 0; i < l->count; i++) {
    lua_rawgeti(L, list, i + 1);
    l->questions[i] = (Question){
        .lookup = l, .type = (int)luaL_checkinteger(L, -1), .id = -1};
    lua_pop(L, 1);
  }
}

int dns_milliseconds(double seconds) {
  return (int)ceil(fmin(fmax(seconds, 0.05), 3600) * 1000);
}

// Makes a Lookup, which begins when it is first waited for. `limit` are the
// seconds for it all, or nil.
static int l_lookup(lua_State *L) { // name label types servers try tries limit
  Runtime *rt = runtime_upvalue(L);
  size_t name_size, label_size;
  const char *name = luaL_checklstring(L, 1, &name_size);
  const char *label = luaL_checklstring(L, 2, &label_size);
  luaL_checktype(L, 3, LUA_TTABLE);
  luaL_checktype(L, 4, LUA_TTABLE);
  double limit = luaL_optnumber(L, 7, INFINITY);
  int servers = (int)luaL_len(L, 4);
  size_t size = sizeof(Lookup) + (size_t)servers * sizeof(Server);
  Lookup *l = lua_newuserdatauv(L, size + name_size + label_size + 2, 0);
  memset(l, 0, size);
  l->rt = rt;
  l->dns = lua_touserdata(L, lua_upvalueindex(2));
  l->try_ms = dns_milliseconds(luaL_checknumber(L, 5));
  l->tries = (int)luaL_checkinteger(L, 6);
  l->limit = limit < 1e9 ? fmax(limit, 1e-6) : 0;
  l->server_count = servers;
  l->name = memcpy((char *)l + size, name, name_size + 1);
  l->label = memcpy((char *)l + size + name_size + 1, label, label_size + 1);
  read_types(L, 3, l);
  read_servers(L, 4, l);
  luaL_setmetatable(L, LOOKUP_CLASS);
  return 1;
}

// ---- the module ------------------------------------------------------------

static const luaL_Reg methods[] = {
    {"wait",  l_wait },
    {"ended", l_ended},
    {NULL,    NULL   },
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc      },
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

void dns_open(Runtime *rt, lua_State *L) { // core
  runtime_new_class(rt, L, LOOKUP_CLASS, methods, meta);
  lua_pop(L, 1);
  lua_pushlightuserdata(L, rt);
  Dns *dns = lua_newuserdatauv(L, sizeof *dns, 0);
  memset(dns, 0, sizeof *dns);
  dns->rt = rt;
  dns->ready.run = on_ready;
  lua_pushcclosure(L, l_lookup, 2);
  lua_setfield(L, -2, "lookup");
  runtime_set_functions(rt, L, dns_answer_functions);
  runtime_set_functions(rt, L, dns_system_functions);
}
