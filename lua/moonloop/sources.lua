-- SPDX-License-Identifier: MIT
-- What has a descriptor: an integer, a Lua file, an object with `fileno()` or
-- `getfd()`.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local function method_of(source)
  return options.is_callable(source.fileno) or options.is_callable(source.getfd)
end

--- Raises unless `source` is, or has, a descriptor.
function M.check(position, name, source)
  local kind = io.type(source)
  if kind == "closed file" then options.bad_argument(position, name, "a closed file") end
  if kind then return source end
  if math.type(source) == "integer" then
    if source >= 0 and source <= 0x7fffffff then return source end
    options.bad_argument(position, name, ("%d is not a descriptor"):format(source))
  end
  local has_one = (type(source) == "table" or type(source) == "userdata")
    and select(2, pcall(method_of, source))
  if has_one ~= true then
    options.bad_argument(position, name,
      "descriptor or file expected, got " .. options.type_name(source))
  end
  return source
end

--- Gives the descriptor of what was checked.
function M.descriptor(source)
  if math.type(source) == "integer" then return source end
  if io.type(source) then return core.descriptor_of(source) end
  return source.fileno and source:fileno() or source:getfd()
end

return M
