// SPDX-License-Identifier: MIT
//
// The options of a context, from a table that Lua has looked at: certificates,
// keys and authorities (paths, or PEM text), versions, ciphers and callbacks.
#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/error.h"
#include "tls.h"

// The option at the top of the stack, while it is read.
typedef struct Source {
  const char *option; // its name
  const char *text;   // a path, or PEM text
  BIO *bio;
} Source;

static bool get(lua_State *L, const char *name) { // -> value
  return lua_getfield(L, 1, name) != LUA_TNIL;
}

static bool get_boolean(lua_State *L, const char *name) {
  get(L, name);
  bool value = lua_toboolean(L, -1);
  lua_pop(L, 1);
  return value;
}

static bool is_pem(const char *text) { return strstr(text, "-----BEGIN"); }

// ---- reading PEM -----------------------------------------------------------

// Opens what is at the top of the stack.
static Source open_source(lua_State *L, const char *option) {
  size_t size;
  Source source = {option, lua_tolstring(L, -1, &size), NULL};
  bool text = is_pem(source.text);
  source.bio = text ? BIO_new_mem_buf(source.text, (int)size)
                    : BIO_new_file(source.text, "re");
  if (source.bio)
    return source;
  int err = errno;
  tls_forget_errors();
  if (text || err == 0)
    luaL_error(L, "not enough memory");
  error_raise_errno(L, err, option, source.text);
  return source;
}

static void close_source(Source *source) {
  BIO_free(source->bio);
  source->bio = NULL;
}

static int raise_source(lua_State *L, Source *source, const char *problem) {
  const char *from = is_pem(source->text) ? "the text" : source->text;
  char text[256];
  snprintf(text, sizeof text, "%s '%.200s'", problem, from);
  close_source(source);
  return tls_raise(L, source->option, text);
}

// The next certificate, NULL when there is none.
static X509 *next_certificate(Source *source) {
  return PEM_read_bio_X509_AUX(source->bio, NULL, NULL, NULL);
}

// Whether reading has stopped where the PEM blocks end, not at a damaged one.
static bool is_at_end(void) {
  unsigned long code = ERR_peek_last_error();
  bool at_end = ERR_GET_LIB(code) == ERR_LIB_PEM &&
                ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
  if (at_end)
    tls_forget_errors();
  return at_end;
}

// Calls `use` for each certificate of the option at the top of the stack.
static void each_certificate(lua_State *L, Context *c, const char *option,
                             int (*use)(SSL_CTX *ssl, X509 *x, int number)) {
  Source source = open_source(L, option);
  X509 *x;
  int n = 0;
  while ((x = next_certificate(&source))) {
    int ok = use(c->ssl, x, n++);
    X509_free(x);
    if (!ok)
      raise_source(L, &source, "a certificate cannot be used, in");
  }
  if (!is_at_end())
    raise_source(L, &source, "a certificate is damaged, in");
  if (n == 0)
    raise_source(L, &source, "there is no certificate in");
  close_source(&source);
}

// ---- certificate and key ---------------------------------------------------

static int use_own(SSL_CTX *ssl, X509 *x, int number) {
  if (number == 0)
    return SSL_CTX_use_certificate(ssl, x);
  return SSL_CTX_add1_chain_cert(ssl, x) == 1;
}

typedef struct Password {
  const char *text; // NULL: none was given
  bool asked;
} Password;

// What OpenSSL calls instead of asking at the terminal.
static int on_password(char *buffer, int size, int writing, void *ud) {
  Password *password = ud;
  (void)writing;
  password->asked = true;
  if (!password->text)
    return -1;
  int n = (int)strlen(password->text);
  if (n > size)
    return -1;
  memcpy(buffer, password->text, (size_t)n);
  return n;
}

static int raise_key(lua_State *L, Source *source, const Password *password) {
  if (!password->asked)
    return raise_source(L, source, "there is no private key in");
  if (password->text)
    return raise_source(L, source, "option 'key_password' does not open");
  return raise_source(L, source, "the option 'key_password' is needed for");
}

// The key at the top of the stack.
static void use_key(lua_State *L, Context *c, const char *option) {
  Password password = {NULL, false};
  if (get(L, "key_password"))
    password.text = lua_tostring(L, -1);
  lua_pushvalue(L, -2);
  Source source = open_source(L, option);
  EVP_PKEY *key =
      PEM_read_bio_PrivateKey(source.bio, NULL, on_password, &password);
  if (!key)
    raise_key(L, &source, &password);
  int fits = SSL_CTX_use_PrivateKey(c->ssl, key);
  EVP_PKEY_free(key);
  if (!fits || !SSL_CTX_check_private_key(c->ssl))
    raise_source(L, &source,
                 "the key does not belong to the certificate: it is in");
  close_source(&source);
  lua_pop(L, 2);
}

static void use_certificate(lua_State *L, Context *c) {
  if (!get(L, "cert")) {
    lua_pop(L, 1);
    return;
  }
  each_certificate(L, c, "cert", use_own);
  if (get(L, "key")) {
    use_key(L, c, "key");
  } else { // it stands beside the certificate
    lua_pop(L, 1);
    use_key(L, c, "cert");
    lua_pushnil(L);
  }
  lua_pop(L, 2);
}

// ---- whom to trust ---------------------------------------------------------

static int trust(SSL_CTX *ssl, X509 *x, int number) {
  (void)number;
  return X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), x);
}

// The same, and clients are told that theirs may be of it.
static int trust_for_clients(SSL_CTX *ssl, X509 *x, int number) {
  return trust(ssl, x, number) && SSL_CTX_add_client_CA(ssl, x);
}

static void use_folder(lua_State *L, Context *c) {
  const char *path = lua_tostring(L, -1);
  if (access(path, R_OK | X_OK) < 0)
    error_raise_errno(L, errno, "ca_path", path);
  if (!SSL_CTX_load_verify_dir(c->ssl, path))
    tls_raise(L, "ca_path", "it cannot be used");
}

// The folder alone: it is looked into as needed, where the file with all
// authorities would take 40 ms to read.
static void use_system_roots(Context *c) {
  SSL_CTX_set_default_verify_dir(c->ssl);
  if (getenv("SSL_CERT_FILE"))
    SSL_CTX_set_default_verify_file(c->ssl);
  tls_forget_errors();
}

static void use_authorities(lua_State *L, Context *c) {
  bool has_file = get(L, "ca_file");
  if (has_file)
    each_certificate(L, c, "ca_file", trust);
  bool has_path = get(L, "ca_path");
  if (has_path)
    use_folder(L, c);
  if (get(L, "client_ca"))
    each_certificate(L, c, "client_ca", trust_for_clients);
  lua_pop(L, 3);
  if (!c->is_server && !has_file && !has_path)
    use_system_roots(c);
  X509_STORE_set_flags(SSL_CTX_get_cert_store(c->ssl),
                       X509_V_FLAG_PARTIAL_CHAIN);
}

static void use_verification(lua_State *L, Context *c) {
  get(L, "verify_mode"); // "none", "optional" or "required"
  const char *mode = lua_tostring(L, -1);
  int flags = SSL_VERIFY_NONE;
  if (strcmp(mode, "none") != 0)
    flags = SSL_VERIFY_PEER;
  if (strcmp(mode, "required") == 0)
    flags |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  lua_pop(L, 1);
  SSL_CTX_set_verify(c->ssl, flags, context_on_verify);
}

// ---- versions, ciphers, protocols ------------------------------------------

static void use_versions(lua_State *L, Context *c) {
  get(L, "min_version");
  get(L, "max_version");
  int least = (int)lua_tointeger(L, -2), most = (int)lua_tointeger(L, -1);
  lua_pop(L, 2);
  if (!SSL_CTX_set_min_proto_version(c->ssl, least) ||
      !SSL_CTX_set_max_proto_version(c->ssl, most))
    tls_raise(L, "min_version", "it is not supported");
}

static void use_ciphers(lua_State *L, Context *c) {
  if (get(L, "ciphers") &&
      !SSL_CTX_set_cipher_list(c->ssl, lua_tostring(L, -1)))
    tls_raise(L, "ciphers", "there is no such cipher");
  if (get(L, "suites") &&
      !SSL_CTX_set_ciphersuites(c->ssl, lua_tostring(L, -1)))
    tls_raise(L, "ciphers", "there is no such cipher of TLS 1.3");
  lua_pop(L, 2);
}

// The server's first that the client has too.
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *size,
                   const unsigned char *theirs, unsigned theirs_size,
                   void *arg) {
  const Context *c = arg;
  (void)ssl;
  int found =
      SSL_select_next_proto((unsigned char **)out, size, c->alpn,
                            (unsigned)c->alpn_size, theirs, theirs_size);
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK
                                         : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void use_alpn(lua_State *L, Context *c) {
  size_t size;
  if (get(L, "alpn")) {
    const char *list = lua_tolstring(L, -1, &size);
    c->alpn = runtime_realloc(c->rt, NULL, 0, size);
    if (!c->alpn)
      luaL_error(L, "not enough memory");
    c->alpn_size = size;
    memcpy(c->alpn, list, size);
    if (c->is_server)
      SSL_CTX_set_alpn_select_cb(c->ssl, on_alpn, c);
    else
      SSL_CTX_set_alpn_protos(c->ssl, c->alpn, (unsigned)size);
  }
  lua_pop(L, 1);
}

// ---- key logging -----------------------------------------------------------

// For tools that look into the traffic. Rare, so the file is opened each time.
static void on_key(const SSL *ssl, const char *line) {
  (void)ssl;
  const char *path = secure_getenv("SSLKEYLOGFILE");
  int fd =
      path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
  if (fd < 0)
    return;
  struct iovec pieces[] = {
      {(char *)line, strlen(line)},
      {"\n",         1           }
  };
  ssize_t n = writev(fd, pieces, 2);
  (void)n; // there is nobody to tell
  close(fd);
}

// ---- all of it -------------------------------------------------------------

static void use_habits(lua_State *L, Context *c) {
  SSL_CTX *ssl = c->ssl;
  SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                               SSL_OP_CIPHER_SERVER_PREFERENCE |
                               SSL_OP_IGNORE_UNEXPECTED_EOF | // we see it
                               SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                            SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(ssl, 1);
  SSL_CTX_set_session_id_context(ssl, c->sid, sizeof c->sid);
  SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
  if (secure_getenv("SSLKEYLOGFILE"))
    SSL_CTX_set_keylog_callback(ssl, on_key);
  c->allows_truncation = get_boolean(L, "allow_truncation");
  c->asks_name = get_boolean(L, "asks_name");
  if (c->asks_name)
    SSL_CTX_set_client_hello_cb(ssl, context_on_client_hello, NULL);
  c->caches = !c->is_server && get_boolean(L, "session_cache");
  if (c->caches)
    cache_open(c);
}

void context_configure(lua_State *L, Context *c) {
  tls_forget_errors();
  use_habits(L, c);
  use_versions(L, c);
  use_ciphers(L, c);
  use_certificate(L, c);
  use_authorities(L, c);
  use_verification(L, c);
  use_alpn(L, c);
  tls_forget_errors();
}
