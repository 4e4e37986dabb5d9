-- SPDX-License-Identifier: MIT
-- What has a descriptor: an integer, a Lua file, an object with `fileno()` or
-- `getfd()`.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local function check_number(position, name, fd, source)
  if math.type(fd) == "integer" and fd >= 0 and fd <= 0x7fffffff then return source end
  options.bad_argument(position, name, ("%s is not a descriptor"):format(tostring(fd)))
end

--- Raises unless `source` is, or has, a descriptor.
function M.check(position, name, source)
  local kind = io.type(source)
  if kind == "closed file" then options.bad_argument(position, name, "a closed file") end
  if kind then return source end
  if math.type(source) == "integer" then return check_number(position, name, source, source) end
  local is_object = type(source) == "table" or type(source) == "userdata"
  local ok, fd = pcall(M.descriptor, is_object and source or nil)
  if not ok then
    options.bad_argument(position, name,
      "descriptor or file expected, got " .. options.type_name(source))
  end
  return check_number(position, name, fd, source)
end

--- Gives the descriptor of what was checked.
function M.descriptor(source)
  if math.type(source) == "integer" then return source end
  if io.type(source) then return core.descriptor_of(source) end
  return source.fileno and source:fileno() or source:getfd()
end

return M
