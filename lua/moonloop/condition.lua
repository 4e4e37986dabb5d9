-- SPDX-License-Identifier: MIT
-- The Condition: waiting, with a lock given back meanwhile, until another task
-- says that something has changed.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local lock = require "moonloop.lock"
local options = require "moonloop.options"
local sync = require "moonloop.sync"

local M = {}

local condition_mt, check = sync.class "Condition"
local Condition = condition_mt.__index

--- Makes a condition.
-- @param[opt] lock Lock to use, several conditions may share one; its own when
-- none is given
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Condition
-- @raise bad argument for anything but a Lock, and for an option that does not
-- exist
-- @see asyncio.Condition
function M.Condition(...)
  local name, own = sync.arguments("Condition", 1, ...)
  if own ~= nil and not lock.is_lock(own) then
    options.bad_argument(1, "Condition", "Lock expected, got " .. options.type_name(own))
  end
  local label = sync.label("condition", name)
  local self = setmetatable({
    name = name, lock = own or lock.new(name, "the lock of " .. label),
  }, condition_mt)
  -- What a task was told that is closed before it runs, the next one is told.
  self.waiters = core.waiters(label, function() self.waiters:wake() end)
  return self
end

--- Takes the lock. Awaits.
-- @function Condition:acquire
-- @return a guard for a to-be-closed variable
-- @raise as `Lock:acquire`
-- @see asyncio.Condition.acquire
function Condition:acquire()
  check(self, "acquire")
  return self.lock:acquire()
end

--- Gives the lock back.
-- @function Condition:release
-- @raise as `Lock:release`
-- @see asyncio.Condition.release
function Condition:release()
  check(self, "release")
  self.lock:release()
end

--- Tells whether a task holds the lock.
-- @function Condition:locked
-- @see asyncio.Condition.locked
function Condition:locked()
  check(self, "locked")
  return self.lock:locked()
end

-- What a task was told that never gets the lock again, the next one is told.
local function take_lock_again(self, guard, was_told)
  local is_back = false
  local _ <close> = blocks.on_leaving(function()
    if was_told and not is_back then self.waiters:wake() end
  end)
  lock.resume(self.lock, guard)
  is_back = true
end

--- Gives the lock back, waits until it is told to go on, and takes the lock
-- again, also when it is cancelled: that is raised after. Awaits.
-- @function Condition:wait
-- @return true
-- @raise InvalidStateError when this task does not hold the lock; see Awaiting
-- functions
-- @see asyncio.Condition.wait
function Condition:wait()
  check(self, "wait")
  lock.check_held(self.lock)
  core.checkpoint_if_due()
  local guard = lock.suspend(self.lock)
  local ok, err = pcall(self.waiters.wait, self.waiters)
  take_lock_again(self, guard, ok)
  if not ok then error(err, 0) end
  return true
end

--- Waits until `predicate()` is true, which is asked now and after each time that
-- it is told to go on. Awaits.
-- @function Condition:wait_for
-- @param predicate function, or anything that can be called
-- @return what `predicate` returned
-- @raise as `wait`; what `predicate` raises
-- @see asyncio.Condition.wait_for
function Condition:wait_for(predicate)
  check(self, "wait_for")
  options.check_callable(1, "wait_for", predicate)
  lock.check_held(self.lock)
  core.checkpoint_if_due()
  while true do
    local value = predicate()
    if value then return value end
    self:wait()
  end
end

local function wake(self, n)
  lock.check_held(self.lock)
  for _ = 1, n do
    if not self.waiters:wake() then return end
  end
end

--- Tells those who have waited longest to go on, once they have the lock.
-- @function Condition:notify
-- @param[opt=1] n integer, how many
-- @raise InvalidStateError when this task does not hold the lock
-- @see asyncio.Condition.notify
function Condition:notify(n)
  check(self, "notify")
  wake(self, sync.check_integer(1, "notify", n == nil and 1 or n, 0))
end

--- Tells all who wait to go on.
-- @function Condition:notify_all
-- @raise InvalidStateError when this task does not hold the lock
-- @see asyncio.Condition.notify_all
function Condition:notify_all()
  check(self, "notify_all")
  wake(self, #self.waiters)
end

function condition_mt.describe(self)
  return ("%d waiting; lock %s"):format(#self.waiters, lock.describe(self.lock))
end

return M
