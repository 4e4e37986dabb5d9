-- SPDX-License-Identifier: MIT
-- Addresses as programs give them: {host=, port=} or {path=}, hosts, ports and
-- families. What is wrong with one is said on behalf of the function called.

local core = require "moonloop.core"
local names = require "moonloop.names"
local options = require "moonloop.options"

local M = {}

local FAMILIES = { inet = true, inet6 = true }
local FIELDS = { host = "string", port = "number", path = "string" }

--- Raises unless `port` is one.
function M.check_port(position, name, port, lowest)
  local number = math.tointeger(port)
  if not number then
    options.bad_argument(position, name, "port: integer expected, got "
      .. (math.type(port) or type(port)))
  end
  if number < lowest or number > 65535 then
    options.bad_argument(position, name, ("port %d is out of range"):format(number))
  end
  return number
end

--- Raises unless `family` is nil, "inet" or "inet6".
function M.check_family(position, name, family)
  if family ~= nil and not FAMILIES[family] then
    options.bad_argument(position, name,
      ("option 'family': 'inet' or 'inet6' expected, got '%s'"):format(tostring(family)))
  end
end

--- Raises unless `host` is a string or a list of them.
function M.check_host(position, name, host)
  if type(host) ~= "table" then return options.check_type(position, name, host, "string") end
  for _, one in ipairs(host) do
    if type(one) ~= "string" then
      options.bad_argument(position, name, "a list of strings is expected")
    end
  end
  if #host == 0 then options.bad_argument(position, name, "the list of hosts is empty") end
  return host
end

--- Raises unless `path` can be that of a Unix socket.
function M.check_path(position, name, path)
  options.check_type(position, name, path, "string")
  if path == "" then options.bad_argument(position, name, "the path is empty") end
  if path:find("\0", 2, true) and path:byte() ~= 0 then
    options.bad_argument(position, name, "the path has a zero byte in it")
  end
  core.check_path_size(path, name)
  return path
end

-- The fields, with a numeric host. A missing host is any address of this machine.
local function resolved(position, name, address, family, may_lack)
  local host, port = address.host, address.port
  if not may_lack and host == nil then
    options.bad_argument(position, name, "an address needs a field 'host'")
  end
  if port ~= nil or not may_lack then port = M.check_port(position, name, port, 0) end
  if host and not core.numeric_family(host) then
    host = names.resolve(host, family)[1].host
  elseif host and family and core.numeric_family(host) ~= family then
    options.bad_argument(position, name,
      ("host '%s' is not of family '%s'"):format(host, family))
  end
  return { host = host, port = port }
end

--- Raises unless `address` is a table with the fields of one.
function M.check(position, name, address)
  options.check_type(position, name, address, "table")
  options.check(position, name, address, FIELDS)
end

--- Gives an address table with a numeric host. Awaits where the host is a name.
-- @param family "inet", "inet6", "unix", or nil for any
-- @param may_lack whether host and port may lack, as for binding
function M.numeric(position, name, address, family, may_lack)
  M.check(position, name, address)
  if family == "unix" or family == nil and address.path then
    if not address.path then
      options.bad_argument(position, name, "an address {path=} is expected")
    end
    return { path = M.check_path(position, name, address.path) }
  end
  if address.path then
    options.bad_argument(position, name, "an address {host=, port=} is expected, not a path")
  end
  return resolved(position, name, address, family, may_lack)
end

--- Gives the family of what `numeric` gave.
function M.family_of(address)
  if address.path then return "unix" end
  return core.numeric_family(address.host or "0.0.0.0")
end

return M
