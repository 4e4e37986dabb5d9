-- SPDX-License-Identifier: MIT
-- What ErrorGroups can do; the classes themselves are C.

local core = require "moonloop.core"
local options = require "moonloop.options"

local ErrorGroup = core.ErrorGroup

local function check_self(self, name)
  if not core.is_error(self, "ErrorGroup") then
    options.bad_argument(1, name, "ErrorGroup expected, got " .. type(self))
  end
end

-- A group with some of this one's errors, or nil when there are none.
local function derive(self, list)
  if #list == 0 then return nil end
  if #list == #self.errors then return self end
  local group = getmetatable(self):new(self.message, { errors = list })
  group.traceback = self.traceback
  return group
end

--- Divides the group, nested groups included, by kind.
-- @function ErrorGroup:split
-- @param kind string (the kind's name) or class
-- @return the group of the errors of that kind (nil: none), that of the rest
-- @raise bad argument when there is no such kind
-- @see BaseExceptionGroup.split
function ErrorGroup:split(kind)
  check_self(self, "split")
  if not pcall(core.is_error, nil, kind) then
    options.bad_argument(1, "split", ("unknown kind '%s'"):format(tostring(kind)))
  end
  local matching, rest = {}, {}
  for _, err in ipairs(self.errors or {}) do
    local yes, no = nil, err
    if core.is_error(err, "ErrorGroup") and not core.is_error(err, kind) then
      yes, no = err:split(kind)
    elseif core.is_error(err, kind) then
      yes, no = err, nil
    end
    if yes ~= nil then matching[#matching + 1] = yes end
    if no ~= nil then rest[#rest + 1] = no end
  end
  return derive(self, matching), derive(self, rest)
end

--- Picks the errors of a kind, nested groups included.
-- @function ErrorGroup:subgroup
-- @param kind string (the kind's name) or class
-- @return ErrorGroup, nil when there are none
-- @raise bad argument when there is no such kind
-- @see BaseExceptionGroup.subgroup
function ErrorGroup:subgroup(kind)
  check_self(self, "subgroup")
  return (self:split(kind))
end

return true
