-- SPDX-License-Identifier: MIT
-- A crowd: the Futures that one call waits for. Functions among its awaitables
-- are made tasks. What gather, wait, race and as_completed have in common is
-- here: checking the list, being told of each end, never leaving a task behind.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local options = require "moonloop.options"
local tasks = require "moonloop.tasks"

local M = {}

local function is_awaitable(value)
  return core.isfuture(value) or options.is_callable(value)
end

local EXPECTED = "Future, Task or function expected, got %s"

--- Raises unless argument `position` of the user's call can be awaited.
function M.check_awaitable(position, name, value)
  if is_awaitable(value) then return value end
  options.bad_argument(position, name, EXPECTED:format(options.type_name(value)))
end

local function refuse_options(position, name, list)
  for key in pairs(list) do
    if type(key) == "string" and key ~= "n" then
      options.bad_argument(position, name,
        ("field '%s' in the list; options come in a table of their own"):format(key))
    end
  end
end

--- Raises unless `list` is a list of awaitables, and, unless it `may_have_options`,
-- nothing else. Returns how many there are.
function M.check_list(position, name, list, may_have_options)
  if type(list) ~= "table" or options.is_callable(list) then
    options.bad_argument(position, name, "list of awaitables expected, got "
      .. options.type_name(list))
  end
  if not may_have_options then refuse_options(position, name, list) end
  local n = math.tointeger(list.n)
  if not n or n < 0 then n = #list end
  for i = 1, n do
    if not is_awaitable(list[i]) then
      options.bad_argument(position, name,
        ("element %d: %s"):format(i, EXPECTED:format(options.type_name(list[i]))))
    end
  end
  return n
end

-- ---- cancelling ----------------------------------------------------------------

--- Cancels and waits for those of a list that have not ended: what a call that
-- is left early does. Where it cannot wait it cancels them.
function M.finish(futures)
  for _, future in ipairs(futures) do
    if not future:done() then future:cancel() end
  end
  for _, future in ipairs(futures) do
    if not future:done() then tasks.outlast(future) end
  end
end

-- Before any task is made of a function: raises what an await raises. What the
-- call would have cancelled is cancelled then.
local function checkpoint(list, n, owns_all)
  local passed = false
  local _ <close> = blocks.on_leaving(function()
    if passed or not owns_all then return end
    local futures = {}
    for i = 1, n do
      if core.isfuture(list[i]) then futures[#futures + 1] = list[i] end
    end
    M.finish(futures)
  end)
  core.checkpoint_if_due()
  passed = true
end

-- ---- the crowd -----------------------------------------------------------------

local Crowd = {}
local crowd_mt = { __index = Crowd }

local function check_for_itself(list, n)
  local itself = core.current_task()
  for i = 1, n do
    if rawequal(list[i], itself) then core.raise("Error", "a task cannot await itself") end
  end
end

-- Fills in the Futures in the order of the list, the different ones among them,
-- and those that were made here.
local function fill(self, list)
  local seen = {}
  for i = 1, self.n do
    local future = list[i]
    if not core.isfuture(future) then
      future = core.task_new(nil, nil, false, tasks.callable_as_function(future))
      self.own[#self.own + 1] = future
    end
    self.futures[i] = future
    if not seen[future] then
      seen[future] = true
      self.members[#self.members + 1] = future
    end
  end
end

--- Makes a crowd of the first `n` of a list that was checked. `label` is what the
-- inspector shows of who waits for it. Awaits, unless `later` says that the
-- waiting comes later.
-- @param opts table: `owns_all` (the call cancels also what it was given),
-- `later`
function M.new(list, n, label, opts)
  check_for_itself(list, n)
  if not opts.later then checkpoint(list, n, opts.owns_all) end
  local self = setmetatable({
    n = n, futures = {}, members = {}, own = {}, waiters = core.waiters(label),
  }, crowd_mt)
  self.owned = opts.owns_all and self.members or self.own
  fill(self, list)
  self.left = #self.members
  return self
end

--- Has `each(future)` called for every member as it ends (where it has: now), and
-- wakes who waits when it answers true, or none is left.
function Crowd:watch(each)
  self.observer = function(future)
    self.left = self.left - 1
    if self.left == 0 then self.waiters:wake_all() end -- first, for it needs no memory
    if each(future) then self.waiters:wake_all() end
  end
  for _, future in ipairs(self.members) do core.watch(future, self.observer) end
end

local function wait_until(self, is_decided)
  while self.left > 0 and not is_decided() do self.waiters:wait() end
end

--- Whether all have ended with a result.
function Crowd:has_succeeded()
  for _, future in ipairs(self.members) do
    if not future:done() or core.has_failed(future) then return false end
  end
  return true
end

--- Waits until none is left, or `is_decided()`. When that is cancelled all are, and
-- waited for; where `has_result()` all the same, and it is of a task that was made
-- here, so that nobody else has it, the waiting ends well. Awaits.
function Crowd:wait_until(is_decided, has_result)
  local ok, err = pcall(wait_until, self, is_decided)
  if ok then return end
  self:finish()
  if core.is_error(err, "CancelledError") and self.own[1] and has_result(self) then return end
  error(err, 0)
end

--- Ends the watching of those that have not ended.
function Crowd:unwatch()
  for _, future in ipairs(self.members) do
    if not future:done() then core.unwatch(future, self.observer) end
  end
end

--- Cancels and waits for those that this call cancels when it is left.
function Crowd:finish() M.finish(self.owned) end

--- For a to-be-closed variable: a block that is left early leaves nobody behind.
-- There is no error either where the task is closed by force; it cannot wait then.
function crowd_mt:__close(err)
  if err == nil and core.may_wait() then return end
  self:finish()
  self:drop_errors()
end

--- Drops the errors that nobody will look at, of what this call owns. Those that
-- came after a cancellation are failures of clean-up: they are left to be
-- reported.
function Crowd:drop_errors()
  for _, future in ipairs(self.owned) do
    if future:done() and not core.has_met_cancellation(future) then core.take(future) end
  end
end

return M
