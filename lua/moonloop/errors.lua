-- SPDX-License-Identifier: MIT
-- ErrorGroups: making them of what failed, dividing them, and the tree that
-- `tostring` gives. The classes themselves are C.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local ErrorGroup = core.ErrorGroup

local SHOWN_AT_MOST = 20 -- of the errors of one group, in words

local function check_self(self, name)
  if not core.is_error(self, "ErrorGroup") then
    options.bad_argument(1, name, "ErrorGroup expected, got " .. type(self))
  end
end

-- A group with some of this one's errors, or nil when there are none.
local function derive(self, list)
  if #list == 0 then return nil end
  local same = #list == #self.errors
  for i = 1, #list do same = same and rawequal(list[i], self.errors[i]) end
  if same then return self end
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

-- ---- in words --------------------------------------------------------------------

local function indented(text, first, rest)
  return first .. text:gsub("\n", "\n" .. rest)
end

local function headline(self)
  local n = #(self.errors or {})
  local message = self.message == nil and "several errors" or core.text_of(self.message)
  return ("%s: %s (%d %s)"):format(self.kind, message, n, n == 1 and "error" or "errors")
end

--- Gives the tree of errors: a line for the group, below it one for each error
-- (20 at most, then how many more there are), groups in it with theirs.
-- @function ErrorGroup:__tostring
-- @return string
-- @see traceback.print_exception
function ErrorGroup:__tostring()
  local lines = { headline(self) }
  local list = self.errors or {}
  local shown = math.min(#list, SHOWN_AT_MOST)
  for i = 1, shown do
    local last = i == #list
    lines[#lines + 1] = indented(core.text_of(list[i]), last and "└─ " or "├─ ",
      last and "   " or "│  ")
  end
  if shown < #list then lines[#lines + 1] = ("└─ and %d more"):format(#list - shown) end
  return table.concat(lines, "\n")
end

-- The traceback of a group is that of where it was raised, then those of what is
-- in it.
local function traceback_of(group)
  local parts = { group.traceback }
  for i = 1, math.min(#group.errors, SHOWN_AT_MOST) do
    local err = group.errors[i]
    local text = core.is_error(err, "ErrorGroup") and headline(err) or core.text_of(err)
    parts[#parts + 1] = ("%d of %d: %s"):format(i, #group.errors, text)
    parts[#parts + 1] = core.traceback_of_error(err)
  end
  return table.concat(parts, "\n")
end

-- ---- making ----------------------------------------------------------------------

--- Gives an Error object for what `task` (or a Future) failed with: itself, or
-- one that holds it as `value`.
function M.as_error(value, task)
  if core.is_error(value) then return value end
  local text = value == nil and "nil" or core.text_of(value)
  return core.Error:new(text, { value = value, traceback = task and core.traceback_of(task) })
end

--- Makes an ErrorGroup of a list of Error objects.
function M.group(message, list)
  local group = ErrorGroup:new(message, { errors = list })
  group.traceback = traceback_of(group)
  return group
end

return M
