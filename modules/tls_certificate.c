// SPDX-License-Identifier: MIT
//
// What certificates say, as Lua values.
#include <arpa/inet.h>
#include <ctype.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "tls.h"

// Pushes what was written to a BIO in memory, and frees it. -> string
static void push_written(lua_State *L, BIO *bio) {
  char *data = NULL;
  long size = bio ? BIO_get_mem_data(bio, &data) : 0;
  lua_pushlstring(L, data ? data : "", (size_t)(size > 0 ? size : 0));
  BIO_free(bio);
}

void certificate_push_name(lua_State *L, const X509_NAME *name) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio) // its text in UTF-8, as it is
    X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB);
  push_written(L, bio);
}

static void push_pem(lua_State *L, X509 *certificate) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio)
    PEM_write_bio_X509(bio, certificate);
  push_written(L, bio);
}

static bool time_of(const ASN1_TIME *time, struct tm *tm) {
  return time && ASN1_TIME_to_tm(time, tm) == 1;
}

void certificate_push_time(lua_State *L, const ASN1_TIME *time) {
  char text[64];
  struct tm tm;
  if (time_of(time, &tm) &&
      strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm) > 0)
    lua_pushstring(L, text);
  else
    lua_pushliteral(L, "an unknown time");
}

// -> seconds since the epoch, or nil
static void push_seconds(lua_State *L, const ASN1_TIME *time) {
  struct tm tm;
  if (time_of(time, &tm))
    lua_pushinteger(L, (lua_Integer)timegm(&tm));
  else
    lua_pushnil(L);
}

static void push_serial(lua_State *L, X509 *certificate) {
  BIO *bio = BIO_new(BIO_s_mem());
  if (bio)
    i2a_ASN1_INTEGER(bio, X509_get0_serialNumber(certificate));
  push_written(L, bio);
}

static void push_fingerprint(lua_State *L, X509 *certificate) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  luaL_Buffer b;
  X509_digest(certificate, EVP_sha256(), digest, &size);
  luaL_buffinit(L, &b);
  for (unsigned i = 0; i < size; i++) {
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", digest[i]);
    luaL_addlstring(&b, hex, 2);
  }
  luaL_pushresult(&b);
}

// ---- alternative names -----------------------------------------------------

static void push_text(lua_State *L, const char *kind, const ASN1_STRING *text) {
  lua_pushfstring(L, "%s:", kind);
  lua_pushlstring(L, (const char *)ASN1_STRING_get0_data(text),
                  (size_t)ASN1_STRING_length(text));
  lua_concat(L, 2);
}

static bool push_address(lua_State *L, const ASN1_STRING *bytes) {
  char text[INET6_ADDRSTRLEN];
  int size = ASN1_STRING_length(bytes);
  if (size != 4 && size != 16)
    return false;
  inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(bytes), text,
            sizeof text);
  lua_pushfstring(L, "IP:%s", text);
  return true;
}

// -> string, unless it is of a kind that has no use here
static bool push_alternative(lua_State *L, const GENERAL_NAME *name) {
  switch (name->type) {
  case GEN_DNS:
    push_text(L, "DNS", name->d.dNSName);
    return true;
  case GEN_EMAIL:
    push_text(L, "email", name->d.rfc822Name);
    return true;
  case GEN_URI:
    push_text(L, "URI", name->d.uniformResourceIdentifier);
    return true;
  case GEN_IPADD:
    return push_address(L, name->d.iPAddress);
  default:
    return false;
  }
}

static void push_alternatives(lua_State *L, X509 *certificate) { // -> list
  GENERAL_NAMES *names =
      X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
  int n = 0;
  lua_newtable(L);
  for (int i = 0; i < sk_GENERAL_NAME_num(names); i++)
    if (push_alternative(L, sk_GENERAL_NAME_value(names, i)))
      lua_rawseti(L, -2, ++n);
  GENERAL_NAMES_free(names);
  tls_forget_errors();
}

void certificate_push_names(lua_State *L, X509 *certificate) {
  luaL_Buffer b;
  push_alternatives(L, certificate);
  int list = lua_gettop(L), n = (int)lua_rawlen(L, list);
  luaL_buffinit(L, &b);
  for (int i = 1; i <= n; i++) {
    if (i > 1)
      luaL_addstring(&b, ", ");
    lua_rawgeti(L, list, i);
    luaL_addvalue(&b);
  }
  if (n == 0)
    luaL_addstring(&b, "no name (it has no subjectAltName)");
  luaL_pushresult(&b);
  lua_remove(L, list);
}

// ---- the whole -------------------------------------------------------------

void certificate_push(lua_State *L, X509 *certificate) {
  if (!certificate) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, 0, 8);
  certificate_push_name(L, X509_get_subject_name(certificate));
  lua_setfield(L, -2, "subject");
  certificate_push_name(L, X509_get_issuer_name(certificate));
  lua_setfield(L, -2, "issuer");
  push_serial(L, certificate);
  lua_setfield(L, -2, "serial");
  push_seconds(L, X509_get0_notBefore(certificate));
  lua_setfield(L, -2, "not_before");
  push_seconds(L, X509_get0_notAfter(certificate));
  lua_setfield(L, -2, "not_after");
  push_alternatives(L, certificate);
  lua_setfield(L, -2, "san");
  push_fingerprint(L, certificate);
  lua_setfield(L, -2, "fingerprint_sha256");
  push_pem(L, certificate);
  lua_setfield(L, -2, "pem");
}
