-- SPDX-License-Identifier: MIT
-- What has a descriptor: an integer, a Lua file, an object with `fileno()` or
-- `getfd()`.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

--- Raises unless `source` is, or has, a descriptor.
function M.check(position, name, source)
  local kind = io.type(source)
  if kind == "closed file" then options.bad_argument(position, name, "the file is closed") end
  if kind or math.type(source) == "integer" then return source end
  if type(source) ~= "table" and type(source) ~= "userdata" then
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
