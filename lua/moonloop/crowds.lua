-- SPDX-License-Identifier: MIT
-- A crowd: the Futures that one call waits for. Functions among its awaitables
-- are made tasks. What gather, wait, race and as_completed have in common is
-- here: checking the list, being told of each end, never leaving a task behind.

local core = require "moonloop.core"
local options = require "moonloop.options"
local tasks = require "moonloop.tasks"

local M = {}

local function is_awaitable(value)
  return core.isfuture(value) or options.is_callable(value)
end

M.is_awaitable = is_awaitable

local EXPECTED = "Future, Task or function expected, got %s"

--- Raises unless argument `position` of the user's call can be awaited.
function M.check_awaitable(position, name, value)
  if is_awaitable(value) then return value end
  options.bad_argument(position, name, EXPECTED:format(options.type_name(value)))
end

--- Raises unless `list` is a list of awaitables. Returns how many there are.
function M.check_list(position, name, list)
  if type(list) ~= "table" or options.is_callable(list) then
    options.bad_argument(position, name, "list of awaitables expected, got "
      .. options.type_name(list))
  end
  local n = math.tointeger(list.n) or #list
  for i = 1, n do
    if not is_awaitable(list[i]) then
      options.bad_argument(position, name,
        ("element %d: %s"):format(i, EXPECTED:format(options.type_name(list[i]))))
    end
  end
  return n
end

local function refuse_itself(future)
  if future == core.current_task() then core.raise("Error", "a task cannot await itself") end
end

--- Makes a Future of an awaitable. Returns also whether it made a task for that.
function M.as_future(value)
  if core.isfuture(value) then
    refuse_itself(value)
    return value, false
  end
  return core.task_new(nil, nil, false, tasks.callable_as_function(value)), true
end

-- ---- the crowd -----------------------------------------------------------------

local Crowd = {}
local crowd_mt = { __index = Crowd }

--- Makes a crowd of the first `n` of a list that was checked. `label` is what the
-- inspector shows of who waits for it.
function M.new(list, n, label)
  for i = 1, n do refuse_itself(list[i]) end -- before any task is made
  local self = setmetatable({
    futures = table.pack(), own = {}, n = n, left = n, waiters = core.waiters(label),
  }, crowd_mt)
  for i = 1, n do
    local future, own = M.as_future(list[i])
    self.futures[i] = future
    if own then self.own[#self.own + 1] = future end
  end
  return self
end

--- Has `each(future)` called for every one as it ends (where it has: now).
function Crowd:watch(each)
  self.observer = function(future)
    self.left = self.left - 1
    if each then each(future) end
    if self.left == 0 then self.waiters:wake_all() end
  end
  for i = 1, self.n do core.watch(self.futures[i], self.observer) end
end

--- Ends the watching of those that have not ended.
function Crowd:unwatch()
  for i = 1, self.n do
    local future = self.futures[i]
    if not future:done() then core.unwatch(future, self.observer) end
  end
end

--- Cancels those of a list that have not ended, this crowd's or only its own.
function Crowd:cancel(futures)
  for _, future in ipairs(futures or self.futures) do
    if not future:done() then future:cancel() end
  end
end

--- Waits until none is left. Awaits, also where none is.
function Crowd:wait()
  core.checkpoint_if_due()
  while self.left > 0 do self.waiters:wait() end
end

local function join_all(futures)
  for _, future in ipairs(futures) do core.join(future) end
end

--- Cancels and waits for those of a list that have not ended: what a call that
-- is left early does. Where it cannot wait it cancels them.
function Crowd:finish(futures)
  futures = futures or self.futures
  self:cancel(futures)
  if core.may_wait() then core.cancel_scope(nil, true):run(join_all, futures) end
end

--- For a to-be-closed variable: when the block is left early nobody of the crowd
-- is left behind.
function crowd_mt:__close()
  if self.left > 0 then self:finish() end
end

--- Drops the errors of the crowd that nobody will look at. Those that came after
-- a cancellation are failures of clean-up: they are left to be reported.
function Crowd:drop_errors()
  for _, future in ipairs(self.futures) do
    if not core.has_met_cancellation(future) then core.take(future) end
  end
end

return M
