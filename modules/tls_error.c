// SPDX-License-Identifier: MIT
//
// Failures of TLS in words that a user understands: OpenSSL's reasons, the
// alerts of the peer, and what was wrong with a certificate.
#include <ctype.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "host/error.h"
#include "tls.h"

typedef struct Words {
  int number;
  const char *text;
} Words;

// SSL_R_...
static const Words reasons[] = {
    {SSL_R_HTTP_REQUEST,                        "the peer speaks plain HTTP, not TLS"            },
    {SSL_R_HTTPS_PROXY_REQUEST,                 "the peer speaks plain HTTP, not TLS"            },
    {SSL_R_WRONG_VERSION_NUMBER,                "the peer does not speak TLS"                    },
    {SSL_R_UNKNOWN_PROTOCOL,                    "the peer does not speak TLS"                    },
    {SSL_R_UNSUPPORTED_PROTOCOL,                "no TLS version in common"                       },
    {SSL_R_VERSION_TOO_LOW,                     "no TLS version in common: the peer's is too old"},
    {SSL_R_VERSION_TOO_HIGH,                    "no TLS version in common: the peer's is too new"},
    {SSL_R_WRONG_SSL_VERSION,                   "no TLS version in common"                       },
    {SSL_R_NO_PROTOCOLS_AVAILABLE,
     "no TLS version is left by min_version, max_version and the ciphers' "
     "security level"                                                                            },
    {SSL_R_NO_SHARED_CIPHER,                    "no cipher in common"                            },
    {SSL_R_NO_CIPHERS_AVAILABLE,                "the ciphers fit none of the TLS versions"       },
    {SSL_R_NO_SHARED_GROUPS,                    "no key exchange group in common"                },
    {SSL_R_NO_APPLICATION_PROTOCOL,             "no protocol in common (ALPN)"                   },
    {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE,   "the client sent no certificate"                 },
    {SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "a record was damaged"                           },
    {SSL_R_CERTIFICATE_VERIFY_FAILED,           "the certificate was refused"                    },
};

// What the peer says by an alert.
static const Words alerts[] = {
    {SSL_AD_UNEXPECTED_MESSAGE,      "it did not expect our message"                   },
    {SSL_AD_BAD_RECORD_MAC,          "a record reached it damaged"                     },
    {SSL_AD_HANDSHAKE_FAILURE,
     "nothing in common: ciphers, TLS versions or certificates"                        },
    {SSL_AD_BAD_CERTIFICATE,         "our certificate is bad to it"                    },
    {SSL_AD_UNSUPPORTED_CERTIFICATE, "it cannot use our certificate"                   },
    {SSL_AD_CERTIFICATE_REVOKED,     "our certificate was revoked"                     },
    {SSL_AD_CERTIFICATE_EXPIRED,     "our certificate has expired"                     },
    {SSL_AD_CERTIFICATE_UNKNOWN,     "it does not accept our certificate"              },
    {SSL_AD_UNKNOWN_CA,              "our certificate is of an authority unknown to it"},
    {SSL_AD_ACCESS_DENIED,           "it gives our certificate no access"              },
    {SSL_AD_DECRYPT_ERROR,           "a signature of ours is wrong to it"              },
    {SSL_AD_PROTOCOL_VERSION,        "it has no TLS version in common with us"         },
    {SSL_AD_INSUFFICIENT_SECURITY,   "our ciphers are too weak for it"                 },
    {SSL_AD_INTERNAL_ERROR,          "it met an error of its own"                      },
    {SSL_AD_USER_CANCELLED,          "it gave up"                                      },
    {SSL_AD_NO_RENEGOTIATION,        "it does not renegotiate"                         },
    {SSL_AD_UNRECOGNIZED_NAME,       "it knows no server of that name"                 },
    {SSL_AD_CERTIFICATE_REQUIRED,    "it wants a client certificate"                   },
    {SSL_AD_NO_APPLICATION_PROTOCOL, "no protocol in common (ALPN)"                    },
};

#define COUNT(list) (sizeof(list) / sizeof *(list))

static const char *words_of(const Words *list, size_t count, int number) {
  for (size_t i = 0; i < count; i++)
    if (list[i].number == number)
      return list[i].text;
  return NULL;
}

// ---- noting ----------------------------------------------------------------

static bool is_refusal(const Failure *f) {
  return f->verify != X509_V_OK && ERR_GET_LIB(f->code) == ERR_LIB_SSL &&
         ERR_GET_REASON(f->code) == SSL_R_CERTIFICATE_VERIFY_FAILED;
}

int session_note_failure(Session *t, int ssl_error) {
  unsigned long code = ERR_peek_error();
  tls_forget_errors();
  if (ssl_error == SSL_ERROR_SYSCALL && t->io_error)
    return t->io_error;
  bool ended =
      ssl_error == SSL_ERROR_SYSCALL || ssl_error == SSL_ERROR_ZERO_RETURN;
  // The kernel tells of a reset once: if a write was told, a read sees an end.
  if (ended && t->at_eof)
    return t->io_error == ECONNRESET ? ECONNRESET : STREAM_TRUNCATED;
  t->failure.code = code;
  if (t->failure.system && is_refusal(&t->failure))
    return t->failure.system;
  return STREAM_FAILED;
}

// ---- the name of a reason --------------------------------------------------

// "certificate verify failed" -> "CERTIFICATE_VERIFY_FAILED"
static void push_code(lua_State *L, unsigned long code) { // -> string
  const char *reason = ERR_reason_error_string(code);
  char text[128];
  size_t n = 0;
  for (; reason && reason[n] && n < sizeof text - 1; n++)
    text[n] = isalnum((unsigned char)reason[n])
                  ? (char)toupper((unsigned char)reason[n])
                  : '_';
  if (n == 0)
    lua_pushliteral(L, "UNKNOWN");
  else
    lua_pushlstring(L, text, n);
}

static void push_alert(lua_State *L, int alert) { // -> string
  const char *words = words_of(alerts, COUNT(alerts), alert);
  char name[64];
  snprintf(name, sizeof name, "%s", SSL_alert_desc_string_long(alert));
  if (alert == SSL_AD_CERTIFICATE_REQUIRED) // which OpenSSL has no words for
    snprintf(name, sizeof name, "certificate required");
  for (char *c = name; *c; c++)
    *c = (char)tolower((unsigned char)*c);
  lua_pushfstring(L, "the peer refused: %s (alert '%s')",
                  words ? words : "for a reason of its own", name);
}

// What the peer speaks instead, if its first bytes tell.
static const char *other_protocol(const Session *t) {
  if (memcmp(t->first, "HTTP/", 5) == 0)
    return "the peer speaks plain HTTP, not TLS";
  if (memcmp(t->first, "SSH-", 4) == 0)
    return "the peer speaks SSH, not TLS";
  return NULL;
}

static void push_reason(lua_State *L, const Session *t) { // -> string
  unsigned long code = t->failure.code;
  int reason = ERR_GET_REASON(code);
  const char *words = NULL, *theirs = ERR_reason_error_string(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL) {
    if (reason >= SSL_AD_REASON_OFFSET) {
      push_alert(L, reason - SSL_AD_REASON_OFFSET);
      return;
    }
    if (reason == SSL_R_WRONG_VERSION_NUMBER)
      words = other_protocol(t);
    if (!words)
      words = words_of(reasons, COUNT(reasons), reason);
  }
  lua_pushstring(L, words ? words : theirs ? theirs : "unknown reason");
}

// ---- certificates ----------------------------------------------------------

static void push_dates(lua_State *L, X509 *x) { // -> string
  certificate_push_time(L, X509_get0_notBefore(x));
  certificate_push_time(L, X509_get0_notAfter(x));
  lua_pushfstring(L, "it is valid from %s to %s", lua_tostring(L, -2),
                  lua_tostring(L, -1));
}

static void push_issuer(lua_State *L, X509 *x) { // -> string
  certificate_push_name(L, X509_get_subject_name(x));
  certificate_push_name(L, X509_get_issuer_name(x));
  lua_pushfstring(L, "'%s', issued by '%s'", lua_tostring(L, -2),
                  lua_tostring(L, -1));
}

static void push_subject(lua_State *L, X509 *x) { // -> string
  certificate_push_name(L, X509_get_subject_name(x));
  lua_pushfstring(L, "'%s'", lua_tostring(L, -1));
}

// The short reason, and what of the certificate explains it.
typedef struct Refusal {
  int number;
  const char *text;
  void (*push_details)(lua_State *L, X509 *x);
} Refusal;

static const Refusal refusals[] = {
    {X509_V_ERR_CERT_HAS_EXPIRED,                  "the certificate has expired",      push_dates            },
    {X509_V_ERR_CERT_NOT_YET_VALID,                "the certificate is not yet valid",
     push_dates                                                                                              },
    {X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT,
     "the certificate is self-signed and not trusted",                                 push_subject          },
    {X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
     "the certificate is of an unknown authority: the chain ends in a "
     "self-signed one that is not trusted",                                            push_subject          },
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
     "the certificate is of an unknown authority",                                     push_issuer           },
    {X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
     "the certificate is of an unknown authority",                                     push_issuer           },
    {X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
     "the certificate is of an unknown authority",                                     push_issuer           },
    {X509_V_ERR_HOSTNAME_MISMATCH,                 "wrong host",                       certificate_push_names},
    {X509_V_ERR_IP_ADDRESS_MISMATCH,               "wrong IP address",
     certificate_push_names                                                                                  },
    {X509_V_ERR_INVALID_PURPOSE,
     "wrong purpose: the certificate is not meant for this role",                      push_subject          },
    {X509_V_ERR_CERT_REVOKED,                      "the certificate was revoked",      push_subject          },
};

static const Refusal *refusal_of(long verify) {
  for (size_t i = 0; i < COUNT(refusals); i++)
    if (refusals[i].number == verify)
      return &refusals[i];
  return NULL;
}

static bool is_of_name(long verify) {
  return verify == X509_V_ERR_HOSTNAME_MISMATCH ||
         verify == X509_V_ERR_IP_ADDRESS_MISMATCH;
}

static void push_refusal(lua_State *L, const Session *t) { // -> string
  const Failure *f = &t->failure;
  const Refusal *refusal = refusal_of(f->verify);
  const char *text =
      refusal ? refusal->text : X509_verify_cert_error_string(f->verify);
  if (!f->certificate || !refusal) {
    lua_pushstring(L, text);
    return;
  }
  int top = lua_gettop(L);
  refusal->push_details(L, f->certificate);
  if (is_of_name(f->verify))
    lua_pushfstring(L, "%s: the certificate is for %s, not for '%s'", text,
                    lua_tostring(L, -1), t->name);
  else
    lua_pushfstring(L, "%s (%s)", text, lua_tostring(L, -1));
  lua_replace(L, top + 1);
  lua_settop(L, top + 1);
}

// ---- errors ----------------------------------------------------------------

// "localhost (127.0.0.1:443)"
static void push_peer(lua_State *L, const Session *t) { // -> string
  char address[ADDRESS_TEXT_SIZE];
  stream_name(t->stream, address, sizeof address);
  size_t n = strlen(t->name);
  if (n == 0 || (strncmp(address, t->name, n) == 0 && address[n] == ':'))
    lua_pushstring(L, address);
  else
    lua_pushfstring(L, "%s (%s)", t->name, address);
}

static void push_certificate_error(lua_State *L, const Session *t,
                                   const char *op) { // peer -> peer error
  const Failure *f = &t->failure;
  push_refusal(L, t);
  error_push(L, "CertificateError", "%s %s: %s", op, lua_tostring(L, -2),
             lua_tostring(L, -1));
  lua_remove(L, -2);
  lua_pushinteger(L, f->verify);
  lua_setfield(L, -2, "verify_code");
  lua_pushstring(L, X509_verify_cert_error_string(f->verify));
  lua_setfield(L, -2, "verify_message");
  certificate_push(L, f->peer);
  lua_setfield(L, -2, "peercert");
  lua_pushliteral(L, "CERTIFICATE_VERIFY_FAILED");
  lua_setfield(L, -2, "code");
}

static void push_tls_error(lua_State *L, const Session *t, const char *op,
                           int err) { // peer -> peer error
  const char *peer = lua_tostring(L, -1);
  if (err == STREAM_TRUNCATED) {
    error_push(
        L, "TLSError", "%s %s: the peer closed the connection%s", op, peer,
        t->established ? " without close_notify: the data may be truncated"
                       : "");
    lua_pushliteral(L, "EOF");
  } else {
    push_reason(L, t);
    error_push(L, "TLSError", "%s %s: %s", op, peer, lua_tostring(L, -1));
    lua_remove(L, -2);
    push_code(L, t->failure.code);
  }
  lua_setfield(L, -2, "code");
}

void session_push_error(lua_State *L, const Session *t, int err,
                        const char *op) {
  push_peer(L, t);
  if (err < STREAM_FAILED)
    moonloop_error_errno(L, err, op, lua_tostring(L, -1));
  else if (err == STREAM_FAILED && is_refusal(&t->failure))
    push_certificate_error(L, t, op);
  else
    push_tls_error(L, t, op, err);
  lua_remove(L, -2);
}

int tls_raise(lua_State *L, const char *what, const char *text) {
  unsigned long code = ERR_peek_error();
  const char *reason = code ? ERR_reason_error_string(code) : NULL;
  if (reason)
    error_push(L, "TLSError", "%s: %s (%s)", what, text, reason);
  else
    error_push(L, "TLSError", "%s: %s", what, text);
  if (code) {
    push_code(L, code);
    lua_setfield(L, -2, "code");
  }
  tls_forget_errors();
  return lua_error(L);
}
