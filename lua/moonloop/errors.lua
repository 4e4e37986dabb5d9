-- SPDX-License-Identifier: MIT
-- ErrorGroups: making them of what failed, dividing them, and the tree that
-- `tostring` gives. The classes themselves are C.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local ErrorGroup = core.ErrorGroup

local SHOWN_AT_MOST <const> = 20 -- of the errors of one group, in words
local DEEPEST <const> = 10 -- of groups in groups

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

local function is_group(value) return core.is_error(value, "ErrorGroup") end

local function headline(self)
  local n = #(self.errors or {})
  local message = self.message == nil and "several errors" or core.text_of(self.message)
  return ("%s: %s (%d %s)"):format(self.kind, message, n, n == 1 and "error" or "errors")
end

-- Appends the lines of what is below a group, each after `margin`.
local function add_branches(lines, group, margin, depth)
  local list = group.errors or {}
  local shown = math.min(#list, SHOWN_AT_MOST)
  if depth > DEEPEST then
    lines[#lines + 1] = margin .. "└─ and so on"
    return
  end
  for i = 1, shown do
    local first, rest = "├─ ", "│  "
    if i == #list then first, rest = "└─ ", "   " end
    local text = is_group(list[i]) and headline(list[i]) or core.text_of(list[i])
    lines[#lines + 1] = margin .. first .. text:gsub("\n", "\n" .. margin .. rest)
    if is_group(list[i]) then add_branches(lines, list[i], margin .. rest, depth + 1) end
  end
  if shown < #list then
    lines[#lines + 1] = margin .. ("└─ and %d more"):format(#list - shown)
  end
end

--- Gives the tree of errors: a line for the group, below it one for each error
-- (20 at most, then how many more there are), groups in it with theirs.
-- @function ErrorGroup:__tostring
-- @return string
-- @see traceback.print_exception
function ErrorGroup:__tostring()
  local lines = { headline(self) }
  add_branches(lines, self, "", 1)
  return table.concat(lines, "\n")
end

local function add_tracebacks(parts, group, depth)
  parts[#parts + 1] = rawget(group, "traceback")
  local list = group.errors or {}
  for i = 1, depth <= DEEPEST and math.min(#list, SHOWN_AT_MOST) or 0 do
    local err = list[i]
    parts[#parts + 1] = ("%d of %d: %s"):format(i, #list,
      is_group(err) and headline(err) or core.text_of(err))
    if is_group(err) then
      add_tracebacks(parts, err, depth + 1)
    else
      parts[#parts + 1] = core.traceback_of_error(err)
    end
  end
end

-- What is shown as the traceback of a group: that of where it was raised, then
-- those of what is in it.
core.on_group_traceback(function(group)
  local parts = {}
  add_tracebacks(parts, group, 1)
  return table.concat(parts, "\n")
end)

-- ---- making ----------------------------------------------------------------------

--- Gives an Error object for what `task` (or a Future) failed with: itself, or
-- one that holds it as `value`. Where there is no task, the traceback may be given.
function M.as_error(value, task, traceback)
  if core.is_error(value) then return value end
  local text = value == nil and "nil" or core.text_of(value)
  if task then traceback = core.traceback_of(task) end
  return core.Error:new(text, { value = value, traceback = traceback })
end

--- Makes an ErrorGroup of a list of Error objects.
function M.group(message, list)
  return ErrorGroup:new(message, { errors = list })
end

return M
