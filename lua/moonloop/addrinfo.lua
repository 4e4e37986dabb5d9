-- SPDX-License-Identifier: MIT
-- getaddrinfo and getnameinfo, with the flags of the C functions of these names.

local core = require "moonloop.core"
local addresses = require "moonloop.addresses"
local dns = require "moonloop.dns"
local lookups = require "moonloop.lookups"
local names = require "moonloop.names"
local options = require "moonloop.options"
local system_files = require "moonloop.system_files"

local M = {}

-- ---- arguments -----------------------------------------------------------------

local OPTIONS = { family = "string", type = "string", proto = "string or number", flags = "table" }
local PROTOCOLS = { tcp = 6, udp = 17, [6] = 6, [17] = 17 }

-- The kinds of sockets that an address is given for.
local KINDS = {
  { type = "stream", proto = 6, name = "tcp" },
  { type = "dgram", proto = 17, name = "udp" },
}

local AI_FLAGS = {
  AI_PASSIVE = true, AI_CANONNAME = true, AI_NUMERICHOST = true, AI_NUMERICSERV = true,
  AI_V4MAPPED = true, AI_ALL = true, AI_ADDRCONFIG = true,
}
local NI_FLAGS = {
  NI_NUMERICHOST = true, NI_NUMERICSERV = true, NI_NAMEREQD = true, NI_NOFQDN = true,
  NI_DGRAM = true,
}

-- The flags of a list as a set.
local function check_flags(position, name, list, known)
  local set = {}
  if list == nil then return set end
  options.check_type(position, name, list, "table")
  for key, flag in pairs(list) do
    if math.type(key) ~= "integer" or not known[flag] then
      local wrong = tostring(math.type(key) == "integer" and flag or key)
      options.bad_argument(position, name, ("there is no flag '%s'; did you mean '%s'?")
        :format(wrong, options.nearest(wrong, known)))
    end
    set[flag] = true
  end
  return set
end

local function check_kind(position, name, opts)
  if opts.type and opts.type ~= "stream" and opts.type ~= "dgram" then
    options.bad_argument(position, name,
      ("option 'type': 'stream' or 'dgram' expected, got '%s'"):format(opts.type))
  end
  local proto = opts.proto and (PROTOCOLS[opts.proto] or PROTOCOLS[math.tointeger(opts.proto)])
  if opts.proto and not proto then
    options.bad_argument(position, name,
      ("option 'proto': 6, 17, 'tcp' or 'udp' expected, got '%s'"):format(opts.proto))
  end
  local kinds = {}
  for _, kind in ipairs(KINDS) do
    if (opts.type or kind.type) == kind.type and (proto or kind.proto) == kind.proto then
      kinds[#kinds + 1] = kind
    end
  end
  if #kinds == 0 then
    options.bad_argument(position, name, "the options 'type' and 'proto' do not fit each other")
  end
  return kinds
end

-- ---- services ------------------------------------------------------------------

local function fail(host, code, text) lookups.fail("getaddrinfo", host, host, code, text) end

-- Each kind of socket that there is a port for, with that port.
local function with_ports(host, port, kinds, is_numeric)
  local number = port
  if type(port) == "string" then number = port:find("^%d+$") and math.tointeger(tonumber(port)) end
  local list = {}
  for _, kind in ipairs(kinds) do
    local found = number or system_files.port_of(port, kind.name)
    if found and found <= 65535 then list[#list + 1] = { kind = kind, port = found } end
  end
  if not number and is_numeric then
    fail(host or port, "EAI_NONAME", "Name or service not known (the port is no number)")
  end
  if #list == 0 then
    lookups.fail("getaddrinfo", ("%s:%s"):format(host or "", port), host, "EAI_SERVICE",
      "Servname not supported for ai_socktype")
  end
  return list
end

-- ---- getaddrinfo ---------------------------------------------------------------

local function without_host(family, is_passive)
  local list = {}
  for _, address in ipairs {
    { family = "inet6", host = is_passive and "::" or "::1" },
    { family = "inet", host = is_passive and "0.0.0.0" or "127.0.0.1" },
  } do
    if not family or family == address.family then list[#list + 1] = address end
  end
  return is_passive and list or names.sorted(list)
end

-- The family to look for where the machine has addresses of one family only.
local function configured_family(host, family)
  local v4, v6 = core.configured_families()
  if v4 == v6 then return family end
  local only = v4 and "inet" or "inet6"
  if family and family ~= only then
    fail(host, "EAI_NONAME", "Name or service not known (this machine has no address of family "
      .. family .. ")")
  end
  return only
end

-- IPv4 addresses as IPv6 ones: where there are no others, or `all`.
local function mapped(list, all)
  local result, others = {}, {}
  for _, address in ipairs(list) do
    if address.family == "inet6" then
      result[#result + 1] = address
    else
      others[#others + 1] = { family = "inet6", host = "::ffff:" .. address.host }
    end
  end
  if #result == 0 or all then table.move(others, 1, #others, #result + 1, result) end
  return result
end

local function addresses_of(host, family, flags)
  if host == nil then return without_host(family, flags.AI_PASSIVE) end
  local maps = family == "inet6" and flags.AI_V4MAPPED
  if core.numeric_host(host) == nil then
    if flags.AI_NUMERICHOST then
      fail(host, "EAI_NONAME", "Name or service not known (it is no numeric address)")
    end
    if flags.AI_ADDRCONFIG and not names.known(host) then
      family = configured_family(host, family)
    end
  end
  if not maps then return names.resolve(host, family) end
  local list, canonical = names.resolve(host)
  return mapped(list, flags.AI_ALL), canonical
end

local function check_host(host, port)
  options.check_type(1, "getaddrinfo", host, "string or nil")
  options.check_type(2, "getaddrinfo", port, "string or number or nil")
  if port == nil then return 0 end
  if type(port) == "number" then return addresses.check_port(2, "getaddrinfo", port, 0) end
  return port
end

--- Gives the addresses of a host and a service, in the order to try them (RFC
-- 6724). Awaits. Numeric hosts and localhost ask nobody, others are looked for in
-- /etc/hosts and then with DNS servers, in the search domains of /etc/resolv.conf
-- too; a name that ends with a dot is complete. Identical look-ups under way are
-- joined.
-- @param host string, or nil: the addresses of this machine, with AI_PASSIVE those
-- to listen on
-- @param port integer (0 to 65535), decimal string, service name ("http"), or nil (0)
-- @param[opt] opts table: `family` ("inet" or "inet6"), `type` ("stream" or
-- "dgram"), `proto` (6, 17, "tcp" or "udp"), `flags` (list of "AI_PASSIVE",
-- "AI_CANONNAME", "AI_NUMERICHOST", "AI_NUMERICSERV", "AI_V4MAPPED", "AI_ALL",
-- "AI_ADDRCONFIG")
-- @return list of {family=, type=, proto= (6 or 17), host=, port=}, with
-- `canonname` (string) in the first one where that was asked for; without `type` and
-- `proto` each address comes for "stream" and then for "dgram"
-- @raise DNSError with `host` and `code`: EAI_NONAME (no such name), EAI_AGAIN (no
-- server answers, or it fails), EAI_FAIL (it refuses, or its answer is malformed),
-- EAI_FAMILY (a numeric host of another family), EAI_SERVICE (no such service);
-- OSError, code EMFILE, when descriptors are out; bad argument; see Awaiting functions
-- @see asyncio.loop.getaddrinfo
function M.getaddrinfo(host, port, opts)
  port = check_host(host, port)
  opts = options.check(3, "getaddrinfo", opts, OPTIONS)
  addresses.check_family(3, "getaddrinfo", opts.family)
  local kinds = check_kind(3, "getaddrinfo", opts)
  local flags = check_flags(3, "getaddrinfo", opts.flags, AI_FLAGS)
  core.checkpoint_if_due()
  local ports = with_ports(host, port, kinds, flags.AI_NUMERICSERV)
  local found, canonical = addresses_of(host, opts.family, flags)
  local list = {}
  for _, address in ipairs(found) do
    for _, one in ipairs(ports) do
      list[#list + 1] = { family = address.family, type = one.kind.type, proto = one.kind.proto,
        host = address.host, port = one.port }
    end
  end
  if flags.AI_CANONNAME then list[1].canonname = canonical end
  return list
end

-- ---- getnameinfo ---------------------------------------------------------------

local function fail_name(host, code, text) lookups.fail("getnameinfo", host, host, code, text) end

-- The name that PTR records give, or nil where there are none.
local function ask_for_name(host)
  local reverse = dns.reverse_name(host:match("^::ffff:(%d+%.%d+%.%d+%.%d+)$") or host)
  local result = lookups.ask("getnameinfo " .. host, reverse, { "PTR" })[1]
  if result.records then return result.records[1].host end
  local code = result.code
  if code == "NXDOMAIN" or code == "NODATA" then return nil end
  local words = lookups.words(code)
  if code == "ETIMEOUT" or code == "ECONNREFUSED" or code == "SERVFAIL" then
    fail_name(host, "EAI_AGAIN", ("Temporary failure in name resolution (%s)"):format(words))
  end
  fail_name(host, "EAI_FAIL", ("Non-recoverable failure in name resolution (%s)"):format(words))
end

local LOOPBACK = { ["127.0.0.1"] = true, ["::1"] = true }

local function name_of(host)
  return system_files.name_of(host) or LOOPBACK[host] and "localhost" or ask_for_name(host)
end

-- For NI_NOFQDN: the name without the domain that this machine is in.
local function within_domain(name)
  local domain = (core.host_name() or ""):match("%..+$")
  if domain and name:sub(-#domain):lower() == domain:lower() then
    return name:sub(1, -#domain - 1)
  end
  return name
end

local ADDRESS = { host = "string", port = "number" }

local function check_address(address)
  options.check_type(1, "getnameinfo", address, "table")
  options.check(1, "getnameinfo", address, ADDRESS)
  local host = address.host and core.numeric_host(address.host)
  if not host then
    options.bad_argument(1, "getnameinfo", ("a numeric host is expected, got %s"):format(
      address.host and "'" .. address.host .. "'" or "none"))
  end
  return host, addresses.check_port(1, "getnameinfo", address.port or 0, 0)
end

--- Gives the names of an address: of its host, as /etc/hosts or the DNS have it,
-- and of the service on its port. Awaits. Where there is no name the number is given.
-- @param address {host=, port=}, the host numeric
-- @param[opt] flags list of "NI_NUMERICHOST", "NI_NUMERICSERV" (give the number),
-- "NI_NAMEREQD" (no name is an error), "NI_NOFQDN" (without the domain of this
-- machine), "NI_DGRAM" (the service is one of UDP)
-- @return string (host), string (service)
-- @raise DNSError with `host` and `code`: EAI_NONAME (no name, which was required),
-- EAI_AGAIN (no server answers, or it fails), EAI_FAIL; OSError, code EMFILE, when
-- descriptors are out; bad argument; see Awaiting functions
-- @see asyncio.loop.getnameinfo
function M.getnameinfo(address, flags)
  local host, port = check_address(address)
  flags = check_flags(2, "getnameinfo", flags, NI_FLAGS)
  core.checkpoint_if_due()
  local proto = flags.NI_DGRAM and "udp" or "tcp"
  local service = not flags.NI_NUMERICSERV and system_files.service_of(port, proto)
  local name = not flags.NI_NUMERICHOST and name_of(host) or nil
  if not name and flags.NI_NAMEREQD then
    fail_name(host, "EAI_NONAME", "Name or service not known")
  end
  if name and flags.NI_NOFQDN then name = within_domain(name) end
  return name or host, service or tostring(port)
end

return M
