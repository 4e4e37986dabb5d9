-- SPDX-License-Identifier: MIT
-- Semaphores: permits that tasks take and give back, handed over in the order of
-- asking. The bounded one refuses more permits than it began with.

local core = require "moonloop.core"
local guards = require "moonloop.guards"
local sync = require "moonloop.sync"

local M = {}

local semaphore_mt, check, begin = sync.class "Semaphore"
local Semaphore = semaphore_mt.__index
local bounded_mt = sync.class("BoundedSemaphore", semaphore_mt)

-- ---- permits -------------------------------------------------------------------

local function give_back(self)
  if self.bound and self.value >= self.bound then
    core.raise("InvalidStateError", ("%s has all its permits (%d): released too often")
      :format(self.label, self.bound))
  end
  if not self.waiters:wake() then self.value = self.value + 1 end
end

-- An explicit release stands for the latest guard that its task has open. Guards
-- are known weakly, for a task may take permits for ever and drop the guards while
-- others give permits back. Most tasks have one at a time; a list, the latest
-- last, is made when there are more.
local WEAK_VALUES <const> = { __mode = "v" }

local function trim(self, task, list)
  local n = list.n
  while n > 0 and not (list[n] and list[n].is_open) do
    list[n] = nil
    n = n - 1
  end
  list.n = n
  if n == 0 then self.lists[task] = nil end
end

local function latest_guard(self, task)
  local list = self.lists[task]
  if list then
    trim(self, task, list)
    return list[list.n]
  end
  local guard = self.guards[task]
  return guard and guard.is_open and guard or nil
end

local function new_guard(self, task)
  local guard = guards.new(self)
  local latest = latest_guard(self, task)
  if not latest then
    self.guards[task] = guard
    return guard
  end
  local list = self.lists[task] or setmetatable({ latest, n = 1 }, WEAK_VALUES)
  self.lists[task] = list
  list.n = list.n + 1
  list[list.n] = guard
  return guard
end

local function release_latest(self, task)
  local guard = latest_guard(self, task)
  give_back(self)
  if guard then guard.is_open = false end
end

-- ---- the classes ---------------------------------------------------------------

local function new(class, class_name, ...)
  local name, n = sync.arguments(class_name, 1, ...)
  n = sync.check_integer(1, class_name, n == nil and 1 or n, 0)
  local label = sync.label("semaphore", name)
  local self = setmetatable({
    name = name, label = label, value = n,
    guards = setmetatable({}, { __mode = "kv" }), -- by task
    lists = setmetatable({}, { __mode = "k" }), -- by task
  }, class)
  -- A task that was closed before it knew of its permit passes it on.
  self.waiters = core.waiters(label, function() give_back(self) end)
  return self
end

--- Makes a semaphore.
-- @param[opt=1] n integer, how many permits there are, 0 or more
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Semaphore
-- @raise bad argument for another `n`, and for an option that does not exist
-- @see asyncio.Semaphore
function M.Semaphore(...) return new(semaphore_mt, "Semaphore", ...) end

--- Makes a semaphore that never has more permits than it began with.
-- @param[opt=1] n integer, how many permits there are, 0 or more
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return BoundedSemaphore, a Semaphore
-- @raise as `Semaphore`
-- @see asyncio.BoundedSemaphore
function M.BoundedSemaphore(...)
  local self = new(bounded_mt, "BoundedSemaphore", ...)
  self.bound = self.value
  return self
end

--- Takes a permit. Awaits; a call that is cancelled takes none.
-- @function Semaphore:acquire
-- @return a guard for a to-be-closed variable: it gives this permit back, once
-- @raise see Awaiting functions
-- @see asyncio.Semaphore.acquire
function Semaphore:acquire()
  begin(self)
  if self.value > 0 then self.value = self.value - 1 else self.waiters:wait() end
  return new_guard(self, core.current_task())
end

--- Gives a permit back: the latest one that this task holds a guard of, which is
-- quiet then, or else a further one.
-- @function Semaphore:release
-- @raise InvalidStateError when a BoundedSemaphore has all its permits
-- @see asyncio.BoundedSemaphore.release
function Semaphore:release()
  check(self, "release")
  release_latest(self, core.current_task() or self)
end

--- Tells whether no permit is free.
-- @function Semaphore:locked
-- @see asyncio.Semaphore.locked
function Semaphore:locked()
  check(self, "locked")
  return self.value == 0
end

function semaphore_mt.describe(self)
  return ("%d free, %d waiting"):format(self.value, #self.waiters)
end

function semaphore_mt.has_guard(_, guard) return guard.is_open end

function semaphore_mt.release_guard(self, guard)
  if not guard.is_open then return end
  guard.is_open = false
  give_back(self)
end

return M
