// SPDX-License-Identifier: MIT
//
// Contexts: the userdata in Lua, and what sessions share below it. To reload is
// to make a new one of the same options, and to put it in the old one's place;
// sessions keep that with which they were begun.
#include <openssl/rand.h>
#include <string.h>

#include "host/error.h"
#include "tls.h"

// OpenSSL's size of the keys that encrypt tickets.
enum { TICKET_KEYS_SIZE = 80 };

// ---- the shared part -------------------------------------------------------

static Context *context_new(Runtime *rt, bool is_server) {
  Context *c = runtime_realloc(rt, NULL, 0, sizeof *c);
  if (!c)
    return NULL;
  memset(c, 0, sizeof *c);
  c->rt = rt;
  c->references = 1;
  c->is_server = is_server;
  c->ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
  if (c->ssl && RAND_bytes(c->sid, sizeof c->sid) == 1)
    return c;
  context_drop(c);
  return NULL;
}

Context *context_use(Context *c) {
  c->references++;
  return c;
}

void context_drop(Context *c) {
  if (!c || --c->references > 0)
    return;
  cache_clear(c);
  SSL_CTX_free(c->ssl);
  BIO_meth_free(c->bio);
  runtime_free(c->rt, c->alpn, c->alpn_size);
  runtime_free(c->rt, c, sizeof *c);
}

// ---- in Lua ----------------------------------------------------------------

static Context **check_any(lua_State *L, int arg) {
  return luaL_checkudata(L, arg, TLS_CONTEXT_CLASS);
}

// Raises for one that was collected and has come back.
static Context **check_holder(lua_State *L, int arg) {
  Context **holder = check_any(L, arg);
  if (!*holder)
    error_raise(L, "InvalidStateError", "the context is gone");
  return holder;
}

Context *context_check(lua_State *L, int arg) { return *check_holder(L, arg); }

// Makes a context of options that were looked at already. The options stay with
// it. -> context
static int l_tls_context(lua_State *L) { // options
  Runtime *rt = runtime_upvalue(L);
  luaL_checktype(L, 1, LUA_TTABLE);
  lua_settop(L, 1);
  // First of all calls, or OpenSSL would leave something for the process's end.
  OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
  Context **holder = lua_newuserdatauv(L, sizeof *holder, 1);
  *holder = NULL;
  luaL_setmetatable(L, TLS_CONTEXT_CLASS);
  lua_pushvalue(L, 1);
  lua_setiuservalue(L, 2, 1);
  lua_getfield(L, 1, "server");
  *holder = context_new(rt, lua_toboolean(L, -1));
  lua_pop(L, 1);
  if (!*holder)
    return tls_raise(L, "tls context", "it could not be made");
  context_configure(L, *holder);
  return 1;
}

// What is encrypted for clients to come back with stays readable.
static void inherit_tickets(Context *to, const Context *from) {
  unsigned char keys[TICKET_KEYS_SIZE];
  if (SSL_CTX_get_tlsext_ticket_keys(from->ssl, keys, sizeof keys) != 1)
    return;
  SSL_CTX_set_tlsext_ticket_keys(to->ssl, keys, sizeof keys);
  OPENSSL_cleanse(keys, sizeof keys);
  memcpy(to->sid, from->sid, sizeof to->sid);
  SSL_CTX_set_session_id_context(to->ssl, to->sid, sizeof to->sid);
}

// Puts a new context in an old one's place. A client's certificate is looked at
// anew after that.
static int l_replace_context(lua_State *L) { // old new
  Context **old = check_holder(L, 1), **new = check_holder(L, 2);
  Context *c = *old;
  bool asks = SSL_CTX_get_verify_mode((*new)->ssl) != SSL_VERIFY_NONE;
  if (c->is_server && !asks)
    inherit_tickets(*new, c);
  tls_forget_errors();
  *old = *new;
  *new = c;
  return 0;
}

// -> the options that it was made of
static int l_context_options(lua_State *L) {
  check_holder(L, 1);
  lua_getiuservalue(L, 1, 1);
  return 1;
}

static int l_gc(lua_State *L) {
  Context **holder = check_any(L, 1);
  context_drop(*holder);
  *holder = NULL;
  return 0;
}

static int l_tostring(lua_State *L) {
  const Context *c = *check_any(L, 1);
  lua_pushfstring(L, "TLSContext: (%s)",
                  c && c->is_server ? "server" : "client");
  return 1;
}

static const luaL_Reg methods[] = {
    {NULL, NULL},
};

static const luaL_Reg meta[] = {
    {"__gc",       l_gc      },
    {"__tostring", l_tostring},
    {NULL,         NULL      },
};

static const luaL_Reg functions[] = {
    {"tls_context",         l_tls_context    },
    {"replace_tls_context", l_replace_context},
    {"tls_context_options", l_context_options},
    {NULL,                  NULL             },
};

void tls_context_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
  runtime_new_class(rt, L, TLS_CONTEXT_CLASS, methods, meta);
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "tls_context_methods");
  lua_pop(L, 1);
}
