// SPDX-License-Identifier: MIT
//
// The module: what a session can be asked, and opening it all.
#include "tls.h"

static void push_alpn(lua_State *L, const SSL *ssl) { // -> string or nil
  const unsigned char *name;
  unsigned size;
  SSL_get0_alpn_selected(ssl, &name, &size);
  if (size > 0)
    lua_pushlstring(L, (const char *)name, size);
  else
    lua_pushnil(L);
}

static bool is_verified(const SSL *ssl) {
  return SSL_get_verify_mode(ssl) != SSL_VERIFY_NONE &&
         SSL_get0_peer_certificate(ssl) &&
         SSL_get_verify_result(ssl) == X509_V_OK;
}

// The session of the stream at index 1, when it is past its handshake.
static const Session *test_session(lua_State *L) {
  const Session *t = session_test(stream_check_both(L, 1));
  return t && t->ssl && t->established ? t : NULL;
}

// -> table, or nil where there is no TLS
static int l_tls_info(lua_State *L) { // stream
  const Session *t = test_session(L);
  if (!t)
    return 0;
  lua_createtable(L, 0, 8);
  lua_pushstring(L, SSL_get_version(t->ssl));
  lua_setfield(L, -2, "version");
  lua_pushstring(L, SSL_get_cipher_name(t->ssl));
  lua_setfield(L, -2, "cipher");
  push_alpn(L, t->ssl);
  lua_setfield(L, -2, "alpn");
  certificate_push(L, SSL_get0_peer_certificate(t->ssl));
  lua_setfield(L, -2, "peercert");
  lua_pushboolean(L, is_verified(t->ssl));
  lua_setfield(L, -2, "verified");
  lua_pushboolean(L, SSL_session_reused(t->ssl));
  lua_setfield(L, -2, "resumed");
  const char *asked = SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
  if (asked && !tls_is_plain(asked))
    asked = NULL;
  if (t->name[0] || asked) {
    lua_pushstring(L, t->name[0] ? t->name : asked);
    lua_setfield(L, -2, "server_hostname");
  }
  return 1;
}

// -> the peer's certificate as a table, or nil
static int l_tls_peercert(lua_State *L) { // stream
  const Session *t = test_session(L);
  if (!t)
    return 0;
  certificate_push(L, SSL_get0_peer_certificate(t->ssl));
  return 1;
}

static int l_tls_cipher(lua_State *L) { // stream -> name or nil
  const Session *t = test_session(L);
  if (!t)
    return 0;
  lua_pushstring(L, SSL_get_cipher_name(t->ssl));
  return 1;
}

static const luaL_Reg functions[] = {
    {"tls_info",     l_tls_info    },
    {"tls_peercert", l_tls_peercert},
    {"tls_cipher",   l_tls_cipher  },
    {NULL,           NULL          },
};

void tls_open(Runtime *rt, lua_State *L) {
  runtime_set_functions(rt, L, functions);
  runtime_set_functions(rt, L, tls_handshake_functions);
  tls_context_open(rt, L);
}
