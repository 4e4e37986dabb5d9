-- SPDX-License-Identifier: MIT
-- From host names to addresses: the one door through which connecting and
-- listening resolve. Numeric hosts and "localhost" today.

local core = require "moonloop.core"

local M = {}

local LOCALHOST = {
  { family = "inet6", host = "::1" },
  { family = "inet", host = "127.0.0.1" },
}

local function fail(host, text)
  error(core.DNSError:new(("getaddrinfo %s: %s"):format(host, text),
    { code = "EAI_NONAME", host = host }), 0)
end

local function addresses_of(host)
  local numeric = core.numeric_family(host)
  if numeric then return { { family = numeric, host = host } } end
  local bare = host:lower():gsub("%.$", "")
  if bare == "localhost" or bare:find("%.localhost$") then return LOCALHOST end
  fail(host, "Name or service not known (only numeric hosts and localhost resolve as yet)")
end

--- Gives the addresses of a host, in the order to try them. Awaits.
-- @param host string
-- @param[opt] family "inet" or "inet6": only those
-- @return list of {family=, host=}
-- @raise DNSError with code EAI_NONAME or EAI_FAMILY, and `host`
function M.resolve(host, family)
  local list = {}
  for _, address in ipairs(addresses_of(host)) do
    if not family or address.family == family then list[#list + 1] = address end
  end
  if #list == 0 then
    error(core.DNSError:new(("getaddrinfo %s: no address of family %s"):format(host, family),
      { code = "EAI_FAMILY", host = host }), 0)
  end
  return list
end

return M
