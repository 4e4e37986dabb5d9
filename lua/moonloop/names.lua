-- SPDX-License-Identifier: MIT
-- From host names to addresses: the one door through which everything resolves.
-- Numeric hosts and localhost ask nobody; others are looked for in /etc/hosts, then
-- DNS servers are asked, in the search domains too. c-ares carries the questions and
-- no more: its own getaddrinfo (1.18) does not tell a server that failed for one family
-- from a name without such addresses, gives both up for one malformed answer, and takes
-- aliases in the order of the answer only.

local core = require "moonloop.core"
local lookups = require "moonloop.lookups"
local system_files = require "moonloop.system_files"

local M = {}

local LOCALHOST = {
  { family = "inet6", host = "::1" },
  { family = "inet", host = "127.0.0.1" },
}

--- Raises the DNSError that getaddrinfo has for a host.
function M.fail(host, code, text) lookups.fail("getaddrinfo", host, host, code, text) end

local function fail_noname(host, why)
  M.fail(host, "EAI_NONAME", "Name or service not known" .. (why and " (" .. why .. ")" or ""))
end

-- ---- DNS -----------------------------------------------------------------------

-- No answer from one server is as good as none from all: there is no use in asking
-- them for the next name.
local ENDS_SEARCH = { ETIMEOUT = true, ECONNREFUSED = true }
local SAYS_NONE = { NXDOMAIN = true, NODATA = true, BADNAME = true }
local MAY_PASS = { ETIMEOUT = true, ECONNREFUSED = true, SERVFAIL = true }

local function fail_for(host, code)
  if not code then fail_noname(host) end
  if MAY_PASS[code] then
    M.fail(host, "EAI_AGAIN", ("Temporary failure in name resolution (%s)")
      :format(lookups.words(code)))
  end
  M.fail(host, "EAI_FAIL", ("Non-recoverable failure in name resolution (%s)")
    :format(lookups.words(code) or code))
end

-- The complete names that a name may stand for, in the order to ask for them.
local function candidates(host)
  if host:find("%.$") then return { host } end
  local config = system_files.resolv_conf()
  local _, dots = host:gsub("%.", "")
  local list = dots >= config.ndots and { host } or {}
  for _, domain in ipairs(config.domains) do
    local name = domain == "." and host or host .. "." .. domain
    if not lookups.wrong_with(name) then list[#list + 1] = name end
  end
  if dots < config.ndots then list[#list + 1] = host end
  return list
end

local TYPES = { inet = { "A" }, inet6 = { "AAAA" } }
local BOTH = { "A", "AAAA" }
local FAMILY_OF = { A = "inet", AAAA = "inet6" }

-- What one name has: a list, whose canonical name; or nil, why not (nil: there is
-- nothing there).
local function ask(host, name, family)
  local types = TYPES[family] or BOTH
  local list, canonical, failure, exists = {}, nil, nil, true
  for i, result in ipairs(lookups.ask("getaddrinfo " .. host, name, types)) do
    for _, record in ipairs(result.records or {}) do
      list[#list + 1] = { family = FAMILY_OF[types[i]], host = record.host }
      canonical = result.name
    end
    if result.code == "NXDOMAIN" then exists = false end
    if result.code and not SAYS_NONE[result.code] then failure = failure or result.code end
  end
  if #list > 0 then return list, canonical end
  return nil, exists and failure or nil
end

local function from_dns(host, family)
  local failure
  for _, name in ipairs(candidates(host)) do
    local list, more = ask(host, name, family)
    if list then return list, more end
    failure = failure or more
    if ENDS_SEARCH[more] then break end
  end
  fail_for(host, failure)
end

-- ---- the door ------------------------------------------------------------------

--- Puts addresses in the order to try them in, from this machine (RFC 6724).
function M.sorted(list)
  if #list < 2 then return list end
  local hosts, result = {}, {}
  for i, address in ipairs(list) do hosts[i] = address.host end
  for i, position in ipairs(core.address_order(hosts)) do result[i] = list[position] end
  return result
end

local function only(list, family, host)
  local found = {}
  for _, address in ipairs(list) do
    if not family or address.family == family then found[#found + 1] = address end
  end
  if #found > 0 then return found end
  M.fail(host, "EAI_FAMILY", "no address of family " .. family)
end

--- Gives the addresses of what is no name: a numeric host, or localhost; else nil.
-- @return list of {family=, host=}, string (the canonical name)
function M.known(host, family)
  local numeric, its_family = core.numeric_host(host)
  if numeric then return only({ { family = its_family, host = numeric } }, family, host), host end
  local bare = host:lower():gsub("%.$", "")
  if bare == "localhost" or bare:find("%.localhost$") then
    return M.sorted(only(LOCALHOST, family, host)), bare
  end
end

-- What cannot be a name is kept from the servers: "127.1", "1:2".
local function check_name(host)
  local wrong = lookups.wrong_with(host)
  if not wrong and host:find("[%s%c]") then wrong = "there is a blank in it" end
  if not wrong and (not host:find("[^%d.]") or host:find("[:%%]")) then
    wrong = "it is neither a name nor an address"
  end
  if wrong then fail_noname(host, wrong) end
end

--- Gives the addresses of a host, in the order to try them. Awaits, unless they
-- are known without asking.
-- @param host string
-- @param[opt] family "inet" or "inet6": only those
-- @return list of {family=, host=}; string, the canonical name
-- @raise DNSError with `host` and `code`: EAI_NONAME, EAI_AGAIN, EAI_FAIL or
-- EAI_FAMILY; OSError, code EMFILE, when descriptors are out
function M.resolve(host, family)
  local list, canonical = M.known(host, family)
  if list then return list, canonical end
  check_name(host)
  list, canonical = system_files.addresses_of(host, family)
  if #list == 0 then list, canonical = from_dns(host, family) end
  return M.sorted(list), canonical
end

return M
