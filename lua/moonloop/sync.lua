-- SPDX-License-Identifier: MIT
-- What the synchronization classes have in common: making one with its optional
-- name, checking who is called, texts for the inspector.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local OPTIONS = { name = "string" }

local function to_string(class, name, self)
  local own_name = self.name and ('"%s" '):format(self.name) or ""
  return ("%s: %s(%s)"):format(name, own_name, class.describe(self))
end

--- Makes a class, below another one or not. Returns the metatable of its objects,
-- whose `__index` is the table of methods to fill in and whose own functions are
-- for the library (`describe(self)` tells the state); a function that checks a
-- method's self, `check(self, name)`; and one with which awaiting methods begin,
-- `begin(self)`: it checks self too, raises what an await raises, and lets others
-- run where this task has had its share.
function M.class(name, parent)
  local methods = setmetatable({}, parent and { __index = parent.__index })
  local class = setmetatable({
    __index = methods, methods = methods, __name = "moonloop." .. name, kinds = {},
  }, parent and { __index = parent })
  class.__tostring = function(self) return to_string(class, name, self) end
  class.kinds[class] = true
  if parent then parent.kinds[class] = true end
  local function check(self, method)
    if class.kinds[getmetatable(self)] then return end
    options.bad_argument(1, method, ("%s expected, got %s"):format(name, options.type_name(self)))
  end
  return class, check, core.method_beginning(name, class, class.kinds)
end

local function is_options(value)
  return type(value) == "table" and getmetatable(value) == nil
end

--- Takes the table of options off the arguments of a constructor: it is the last
-- one given, `n` others at most come before it.
-- @return the option `name` or nil, the other arguments
function M.arguments(constructor, n, ...)
  local args, position = { ... }, n + 1
  while position > 1 and args[position] == nil do position = position - 1 end
  if position <= n and not is_options(args[position]) then position = n + 1 end
  local name = options.check(position, constructor, args[position], OPTIONS).name
  args[position] = nil
  return name, table.unpack(args, 1, n)
end

--- Gives "lock "db"", or "a lock" where it has no name.
function M.label(noun, name)
  if name then return ('%s "%s"'):format(noun, name) end
  return (noun:find("^[aeiou]") and "an " or "a ") .. noun
end

--- Raises unless the argument is an integer of at least `least`.
function M.check_integer(position, name, value, least)
  local number = math.type(value) and math.tointeger(value)
  if not number then
    options.bad_argument(position, name, "integer expected, got "
      .. (math.type(value) or options.type_name(value)))
  end
  if number < least then
    options.bad_argument(position, name, ("at least %d expected, got %d"):format(least, number))
  end
  return number
end

return M
