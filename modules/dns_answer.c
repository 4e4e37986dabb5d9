// SPDX-License-Identifier: MIT
//
// From the bytes of an answer to records. What comes over the wire is
// anybody's: names and fields are read by libresolv, each within its own
// record, and the work is bounded however the packet is made.
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <resolv.h>
#include <string.h>
#include <strings.h>

#include "dns.h"

enum { LONGEST_CHAIN = 16, MOST_PARTS = 127 }; // of CNAMEs; of a name

typedef struct Reader {
  ns_msg message;
  char name[NS_MAXDNAME]; // whose records are wanted: the last of the chain
} Reader;

// The data of one record, and how much of it was read.
typedef struct Data {
  const ns_msg *message;
  const unsigned char *at, *end;
} Data;

// A name has 127 parts at most and needs no more pointers than that: what has
// more is made to keep who follows them busy. Gives where the name ends in the
// packet, NULL for a bad one.
static const unsigned char *check_name(const ns_msg *m,
                                       const unsigned char *at) {
  const unsigned char *end = NULL, *last = ns_msg_end(*m);
  int parts = 0, pointers = 0;
  while (at < last && *at) {
    if ((*at & NS_CMPRSFLGS) != NS_CMPRSFLGS) {
      if (++parts > MOST_PARTS)
        return NULL;
      at += *at + 1;
      continue;
    }
    if (last - at < 2 || ++pointers > MOST_PARTS)
      return NULL;
    end = end ? end : at + 2;
    at = ns_msg_base(*m) + ((at[0] & ~NS_CMPRSFLGS) << 8 | at[1]);
  }
  return at >= last ? NULL : end ? end : at + 1;
}

// ---- fields ----------------------------------------------------------------
// Each sets a field of the table on top, and answers false when the data does
// not hold it.

// Names end without a dot; the root is ".".
static bool read_name(Data *d, char *name, size_t size) {
  if (!check_name(d->message, d->at))
    return false;
  int n = dn_expand(ns_msg_base(*d->message), ns_msg_end(*d->message), d->at,
                    name, (int)size);
  if (n < 0 || n > d->end - d->at)
    return false;
  d->at += n;
  if (!*name)
    strcpy(name, ".");
  return true;
}

static bool set_name(lua_State *L, Data *d, const char *field) {
  char name[NS_MAXDNAME];
  if (!read_name(d, name, sizeof name))
    return false;
  lua_pushstring(L, name);
  lua_setfield(L, -2, field);
  return true;
}

static bool set_number(lua_State *L, Data *d, int bytes, const char *field) {
  lua_Integer value = 0;
  if (d->end - d->at < bytes)
    return false;
  for (int i = 0; i < bytes; i++)
    value = value << 8 | *d->at++;
  lua_pushinteger(L, value);
  lua_setfield(L, -2, field);
  return true;
}

static bool set_bytes(lua_State *L, Data *d, size_t size, const char *field) {
  if ((size_t)(d->end - d->at) < size)
    return false;
  lua_pushlstring(L, (const char *)d->at, size);
  lua_setfield(L, -2, field);
  d->at += size;
  return true;
}

static bool set_address(lua_State *L, Data *d, int family, int size) {
  char text[INET6_ADDRSTRLEN];
  if (d->end - d->at != size)
    return false;
  lua_pushstring(L, inet_ntop(family, d->at, text, sizeof text));
  lua_setfield(L, -2, "host");
  return true;
}

// ---- types -----------------------------------------------------------------

static bool read_a(lua_State *L, Data *d) {
  return set_address(L, d, AF_INET, NS_INADDRSZ);
}

static bool read_aaaa(lua_State *L, Data *d) {
  return set_address(L, d, AF_INET6, NS_IN6ADDRSZ);
}

static bool read_host(lua_State *L, Data *d) { return set_name(L, d, "host"); }

static bool read_mx(lua_State *L, Data *d) {
  return set_number(L, d, 2, "preference") && set_name(L, d, "host");
}

static bool read_srv(lua_State *L, Data *d) {
  return set_number(L, d, 2, "priority") && set_number(L, d, 2, "weight") &&
         set_number(L, d, 2, "port") && set_name(L, d, "host");
}

static bool read_soa(lua_State *L, Data *d) {
  return set_name(L, d, "mname") && set_name(L, d, "rname") &&
         set_number(L, d, 4, "serial") && set_number(L, d, 4, "refresh") &&
         set_number(L, d, 4, "retry") && set_number(L, d, 4, "expire") &&
         set_number(L, d, 4, "minimum");
}

// Strings of up to 255 bytes, which are one text.
static bool read_txt(lua_State *L, Data *d) {
  luaL_Buffer text;
  luaL_buffinit(L, &text);
  while (d->at < d->end && *d->at < d->end - d->at) {
    luaL_addlstring(&text, (const char *)d->at + 1, *d->at);
    d->at += *d->at + 1;
  }
  luaL_pushresult(&text);
  lua_setfield(L, -2, "text");
  return d->at == d->end;
}

static bool read_caa(lua_State *L, Data *d) {
  if (!set_number(L, d, 1, "flags") || d->at == d->end)
    return false;
  size_t size = *d->at++;
  return size > 0 && set_bytes(L, d, size, "tag") &&
         set_bytes(L, d, (size_t)(d->end - d->at), "value");
}

enum { TYPE_CAA = 257 };

static const struct {
  const char *name;
  int number;
  bool (*read)(lua_State *L, Data *d);
} types[] = {
    {"A",     ns_t_a,     read_a   },
    {"AAAA",  ns_t_aaaa,  read_aaaa},
    {"MX",    ns_t_mx,    read_mx  },
    {"TXT",   ns_t_txt,   read_txt },
    {"SRV",   ns_t_srv,   read_srv },
    {"NS",    ns_t_ns,    read_host},
    {"PTR",   ns_t_ptr,   read_host},
    {"CNAME", ns_t_cname, read_host},
    {"SOA",   ns_t_soa,   read_soa },
    {"CAA",   TYPE_CAA,   read_caa },
    {NULL,    0,          NULL     },
};

static int check_type(lua_State *L, int arg) {
  const char *name = luaL_checkstring(L, arg);
  for (int i = 0; types[i].name; i++)
    if (strcmp(types[i].name, name) == 0)
      return i;
  return luaL_argerror(L, arg, "no such type of records");
}

// ---- the answer ------------------------------------------------------------

static Data data_of(Reader *r, ns_rr *rr) {
  return (Data){&r->message, ns_rr_rdata(*rr),
                ns_rr_rdata(*rr) + ns_rr_rdlen(*rr)};
}

static bool is_wanted(const Reader *r, ns_rr *rr, int type) {
  return (int)ns_rr_type(*rr) == type && ns_rr_class(*rr) == ns_c_in &&
         strcasecmp(ns_rr_name(*rr), r->name) == 0;
}

// A time to live is 31 bits; what has the 32nd set counts as 0 (RFC 2181).
static void push_ttl(lua_State *L, ns_rr *rr) {
  lua_Integer ttl = (lua_Integer)ns_rr_ttl(*rr);
  lua_pushinteger(L, ttl > 0x7fffffff ? 0 : ttl);
}

// Goes through the answer once: appends the records of the type to the list on
// top, and notes where the name is an alias of.
static bool read_records(lua_State *L, Reader *r, int i, char *alias) {
  int count = ns_msg_count(r->message, ns_s_an);
  *alias = 0;
  for (int n = 0; n < count; n++) {
    ns_rr rr;
    if (ns_parserr(&r->message, ns_s_an, n, &rr) < 0)
      return false;
    Data d = data_of(r, &rr);
    if (is_wanted(r, &rr, types[i].number)) {
      lua_createtable(L, 0, 4);
      push_ttl(L, &rr);
      lua_setfield(L, -2, "ttl");
      if (!types[i].read(L, &d))
        return false;
      lua_rawseti(L, -2, luaL_len(L, -2) + 1);
    } else if (is_wanted(r, &rr, ns_t_cname) &&
               !read_name(&d, alias, NS_MAXDNAME)) {
      return false;
    }
  }
  return true;
}

static int fail(lua_State *L, const char *code) {
  lua_pushnil(L);
  lua_pushstring(L, code);
  return 2;
}

static bool check_owners(const ns_msg *m) {
  const unsigned char *at = ns_msg_base(*m) + NS_HFIXEDSZ,
                      *last = ns_msg_end(*m);
  int questions = ns_msg_count(*m, ns_s_qd);
  int count = questions + ns_msg_count(*m, ns_s_an);
  for (int i = 0; i < count; i++) {
    at = check_name(m, at);
    if (!at || last - at < NS_QFIXEDSZ)
      return false;
    if (i < questions) {
      at += NS_QFIXEDSZ;
      continue;
    }
    if (last - at < NS_RRFIXEDSZ)
      return false;
    at += NS_RRFIXEDSZ + (at[8] << 8 | at[9]);
    if (at > last)
      return false;
  }
  return true;
}

static bool open_reader(Reader *r, const char *bytes, size_t size) {
  ns_rr question;
  if (size > NS_MAXMSG ||
      ns_initparse((const unsigned char *)bytes, (int)size, &r->message) < 0)
    return false;
  if (ns_msg_count(r->message, ns_s_qd) != 1 || !check_owners(&r->message) ||
      ns_msg_getflag(r->message, ns_f_rcode) != ns_r_noerror ||
      ns_parserr(&r->message, ns_s_qd, 0, &question) < 0)
    return false;
  strcpy(r->name, ns_rr_name(question));
  return true;
}

// Gives the records of the type that an answer has for the name that was asked
// for, by way of its aliases. -> list, name they belong to; or nil, "NODATA" or
// "BADRESP"
static int l_parse_answer(lua_State *L) { // bytes type
  size_t size;
  Reader r;
  char alias[NS_MAXDNAME];
  const char *bytes = luaL_checklstring(L, 1, &size);
  int i = check_type(L, 2);
  if (!open_reader(&r, bytes, size))
    return fail(L, "BADRESP");
  lua_settop(L, 2);
  lua_newtable(L);
  for (int step = 0; step <= LONGEST_CHAIN; step++) {
    if (!read_records(L, &r, i, alias))
      return fail(L, "BADRESP");
    if (luaL_len(L, 3) > 0) {
      lua_pushstring(L, *r.name ? r.name : ".");
      return 2;
    }
    if (!*alias)
      return fail(L, "NODATA");
    strcpy(r.name, alias);
  }
  return fail(L, "BADRESP");
}

// The number of a type of records, nil for another word.
static int l_record_type(lua_State *L) { // name
  const char *name = luaL_checkstring(L, 1);
  for (int i = 0; types[i].name; i++)
    if (strcmp(types[i].name, name) == 0) {
      lua_pushinteger(L, types[i].number);
      return 1;
    }
  return 0;
}

const luaL_Reg dns_answer_functions[] = {
    {"parse_answer", l_parse_answer},
    {"record_type",  l_record_type },
    {NULL,           NULL          },
};
