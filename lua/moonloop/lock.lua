-- SPDX-License-Identifier: MIT
-- The Lock: held by one task at a time, handed over in the order of asking. It
-- knows who holds it, so a release by somebody else and a holder that ended
-- without releasing are errors and no riddles.

local core = require "moonloop.core"
local guards = require "moonloop.guards"
local sync = require "moonloop.sync"

local M = {}

local lock_mt, check, begin = sync.class "Lock"
local Lock = lock_mt.__index

-- ---- handing over ----------------------------------------------------------------

local function raise_dead_holder(self, task)
  core.raise("InvalidStateError", ("%s is held by task '%s', which has ended without releasing it")
    :format(self.label, task:get_name()))
end

-- While others wait, the end of the holder is watched for.
local function watch_holder(self)
  if self.watched then return end
  self.watched = self.holder
  core.watch(self.holder, self.on_holder_end)
end

local function unwatch_holder(self)
  local task = self.watched
  self.watched = nil
  if task and not task:done() then core.unwatch(task, self.on_holder_end) end
end

-- The one who has waited longest holds it now, or nobody.
local function hand_over(self)
  if self.watched then unwatch_holder(self) end
  if #self.waiters == 0 then
    self.holder, self.guard = nil, nil
    return
  end
  local guard = guards.new(self)
  self.holder, self.guard = self.waiters:wake(guard), guard
  if #self.waiters > 0 then watch_holder(self) end
end

-- A holder that has ended leaves the lock to nobody. Told a turn later, so that
-- tasks that are cancelled when their main task has ended do not all fail before.
local function on_holder_end(self, task)
  if self.watched ~= task then return end
  self.watched = nil
  self.waiters:wake_all(nil, task)
end

-- ---- the class ---------------------------------------------------------------------

--- Makes a lock that the inspector calls `label`.
function M.new(name, label)
  local self = setmetatable({ name = name, label = label }, lock_mt)
  -- A task that was closed before it knew that it holds the lock passes it on.
  self.waiters = core.waiters(self.label, function(guard)
    if guard and self.guard == guard then hand_over(self) end
  end)
  self.on_holder_end = function(task) core.call_later(nil, 0, on_holder_end, self, task) end
  return self
end

--- Makes a lock.
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Lock
-- @raise bad argument for an option that does not exist or of another type
-- @see asyncio.Lock
function M.Lock(opts)
  local name = sync.arguments("Lock", 0, opts)
  return M.new(name, sync.label("lock", name))
end

--- Whether a value is a Lock.
function M.is_lock(value) return getmetatable(value) == lock_mt end

local function wait_for_lock(self)
  local task = core.current_task()
  if self.holder == task then
    core.raise("InvalidStateError", ("%s is held by this very task, '%s'"):format(
      self.label, task:get_name()))
  end
  if self.holder:done() then raise_dead_holder(self, self.holder) end
  watch_holder(self)
  local guard, dead = self.waiters:wait()
  return guard or raise_dead_holder(self, dead)
end

--- Takes the lock. Awaits; a call that is cancelled holds nothing.
-- @function Lock:acquire
-- @return a guard for a to-be-closed variable: it releases this acquisition, once
-- @raise InvalidStateError when this task holds it already, or the task that holds
-- it has ended; see Awaiting functions
-- @see asyncio.Lock.acquire
function Lock:acquire()
  begin(self)
  if self.holder then return wait_for_lock(self) end
  local guard = guards.new(self)
  self.holder, self.guard = core.current_task(), guard
  return guard
end

local function name_of(task)
  return task and ("task '%s'"):format(task:get_name()) or "a callback"
end

--- Raises unless the running task holds the lock.
function M.check_held(self)
  if not self.holder then
    core.raise("InvalidStateError", ("%s is not held"):format(self.label))
  end
  local task = core.current_task()
  if self.holder ~= task then
    core.raise("InvalidStateError", ("%s is held by task '%s', not by %s"):format(
      self.label, self.holder:get_name(), name_of(task)))
  end
end

--- Gives the lock back: the task that has waited longest holds it now.
-- @function Lock:release
-- @raise InvalidStateError when this task does not hold it, naming who does
-- @see asyncio.Lock.release
function Lock:release()
  check(self, "release")
  M.check_held(self)
  hand_over(self)
end

--- Tells whether a task holds it.
-- @function Lock:locked
-- @see asyncio.Lock.locked
function Lock:locked()
  check(self, "locked")
  return self.holder ~= nil
end

function lock_mt.describe(self)
  if not self.holder then return "free" end
  return ("held by task '%s', %d waiting"):format(self.holder:get_name(), #self.waiters)
end

function lock_mt.has_guard(self, guard) return self.guard == guard end

function lock_mt.release_guard(self, guard)
  if self.guard == guard then hand_over(self) end
end

M.describe = lock_mt.describe

-- ---- for conditions ----------------------------------------------------------------

--- Releases the lock for a while. Returns its guard, for `resume`.
function M.suspend(self)
  local guard = self.guard
  hand_over(self)
  return guard
end

--- Takes the lock again, under its guard of before. Awaits, shielded.
function M.resume(self, guard)
  core.cancel_scope(nil, true):run(Lock.acquire, self)
  self.guard = guard
end

return M
