-- SPDX-License-Identifier: MIT
-- The options of sockets: what programs give is checked here, on behalf of the
-- method that they called.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local kinds = core.socket_options()

local INT_MAX = 0x7fffffff

local EXPECTED = {
  flag = "boolean expected",
  integer = "integer of 32 bits expected",
  text = "string of less than 64 bytes expected",
  linger = "seconds (an integer, 0 to 65535) or false expected",
  membership = "table {group=, interface=} expected",
}

local MEMBERSHIP = { group = "string", interface = "string or number" }

local is_right = {}

function is_right.flag(value) return type(value) == "boolean" end

function is_right.integer(value)
  return math.type(value) == "integer" and value >= -INT_MAX - 1 and value <= INT_MAX
end

function is_right.text(value) return type(value) == "string" and #value < 64 end

function is_right.linger(value)
  return value == false or math.type(value) == "integer" and value >= 0 and value <= 65535
end

function is_right.membership(value) return type(value) == "table" end

local function kind_of(method, option)
  options.check_type(1, method, option, "string")
  local kind = kinds[option]
  if kind then return kind end
  options.bad_argument(1, method, ("there is no socket option '%s'; did you mean '%s'?")
    :format(option, options.nearest(option, kinds)))
end

-- IP_MULTICAST_IF has an interface alone.
local function check_membership(method, option, value)
  options.check(2, method, value, MEMBERSHIP)
  local family = option:find("^IPV6") and "inet6" or "inet"
  if option == "IP_MULTICAST_IF" and value.group == nil then return end
  if not value.group or core.numeric_family(value.group) ~= family then
    options.bad_argument(2, method, ("field 'group': a numeric address of family '%s' expected, "
      .. "got %s"):format(family, tostring(value.group)))
  end
end

--- Sets an option of a descriptor.
function M.set(method, fd, option, value)
  local kind = kind_of(method, option)
  if option == "IP_MULTICAST_IF" and type(value) ~= "table" then value = { interface = value } end
  if kind == "credentials" then
    options.bad_argument(1, method, ("'%s' can only be asked for"):format(option))
  end
  if not is_right[kind](value) then
    options.bad_argument(2, method, ("%s: %s, got %s"):format(option, EXPECTED[kind],
      value == nil and "no value" or options.type_name(value)))
  end
  if kind == "membership" then check_membership(method, option, value) end
  core.set_socket_option(fd, option, value)
end

--- Asks a descriptor for an option.
function M.get(method, fd, option)
  if kind_of(method, option) == "membership" then
    options.bad_argument(1, method, ("'%s' can only be set"):format(option))
  end
  return core.get_socket_option(fd, option)
end

return M
