-- SPDX-License-Identifier: MIT
-- `moonloop.dns`: asking DNS servers for records of any type.

local core = require "moonloop.core"
local lookups = require "moonloop.lookups"
local options = require "moonloop.options"

local M = {}

local TYPES = {
  A = true, AAAA = true, MX = true, TXT = true, SRV = true, NS = true, PTR = true,
  CNAME = true, SOA = true, CAA = true,
}
local OPTIONS = { servers = "table", timeout = "number" }

--- Gives the name that the PTR records of a numeric host belong to, or nil.
function M.reverse_name(host)
  local _, family, bytes = core.numeric_host(host)
  if not family then return nil end
  local labels = {}
  for i = #bytes, 1, -1 do
    local byte = bytes:byte(i)
    labels[#labels + 1] = family == "inet" and tostring(byte)
      or ("%x.%x"):format(byte & 15, byte >> 4)
  end
  return table.concat(labels, ".") .. (family == "inet" and ".in-addr.arpa" or ".ip6.arpa")
end

local function check_type(name, kind)
  if kind == nil then return "A" end
  options.check_type(2, name, kind, "string")
  if not TYPES[kind] then
    options.bad_argument(2, name, ("there is no type of records '%s'; did you mean '%s'?")
      :format(kind, TYPES[kind:upper()] and kind:upper() or options.nearest(kind, TYPES)))
  end
  return kind
end

local function check_options(name, opts)
  opts = options.check(3, name, opts, OPTIONS)
  local timeout = opts.timeout
  options.check_timeout(3, name, timeout)
  if timeout and timeout <= 0 then
    options.bad_argument(3, name, "option 'timeout': a positive number of seconds expected")
  end
  if timeout == math.huge then timeout = nil end
  local servers = opts.servers and lookups.check_servers(3, name, opts.servers)
  return { servers = servers, timeout = timeout }
end

--- Asks DNS servers for the records of a name. Awaits. The name is taken as it
-- is: no search domains, no /etc/hosts. Aliases (CNAME) are followed; records come
-- in the order of the answer.
-- @function dns.resolve
-- @param name string; for PTR also a numeric address
-- @param[opt="A"] type string: "A", "AAAA", "MX", "TXT", "SRV", "NS", "PTR",
-- "CNAME", "SOA" or "CAA"
-- @param[opt] opts table: `servers` (list of "host:port" or {host=, port=}, hosts
-- numeric; those of resolv.conf), `timeout` (seconds for it all; two tries of 5 s)
-- @return list of records, each with `ttl` (seconds) and: A, AAAA, NS, PTR, CNAME
-- `host`; MX `preference`, `host`; SRV `priority`, `weight`, `port`, `host`; TXT
-- `text`; SOA `mname`, `rname`, `serial`, `refresh`, `retry`, `expire`, `minimum`;
-- CAA `flags`, `tag`, `value`
-- @raise DNSError with `host` and `code`: NXDOMAIN, NODATA (no record of this type),
-- SERVFAIL, REFUSED, FORMERR, NOTIMP, BADRESP (a malformed answer), ETIMEOUT,
-- ECONNREFUSED; OSError, code EMFILE, when descriptors are out; bad argument; see
-- Awaiting functions
-- @see dns.resolver.resolve
function M.resolve(name, type, opts)
  options.check_type(1, "resolve", name, "string")
  local kind = check_type("resolve", type)
  opts = check_options("resolve", opts)
  local what = name .. " " .. kind
  local wrong = lookups.wrong_with(name)
  if wrong then
    core.check()
    lookups.fail("resolve", what, name, "NXDOMAIN", "NXDOMAIN (" .. wrong .. ")")
  end
  local full = kind == "PTR" and M.reverse_name(name) or name
  local result = lookups.ask("resolve " .. what, full, { kind }, opts)[1]
  if result.records then return result.records end
  local code = result.code == "BADNAME" and "NXDOMAIN" or result.code
  lookups.fail("resolve", what, name, code, ("%s (%s)"):format(code, lookups.words(code)))
end

--- Sets which servers are asked from now on, in this Lua state: by `dns.resolve`,
-- `getaddrinfo`, `getnameinfo` and all that connects to a name. What is under way
-- is not touched.
-- @function dns.set_servers
-- @param[opt] servers list of "host:port" or {host=, port=}, hosts numeric; nil:
-- those of /etc/resolv.conf
-- @raise bad argument for an empty list, or an entry that is no server
function M.set_servers(servers)
  lookups.set_servers(servers ~= nil and lookups.check_servers(1, "set_servers", servers) or nil)
end

return M
