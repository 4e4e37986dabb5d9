-- SPDX-License-Identifier: MIT
-- Semaphores: permits that tasks take and give back, handed over in the order of
-- asking. The bounded one refuses more permits than it began with.

local core = require "moonloop.core"
local sync = require "moonloop.sync"

local M = {}

local semaphore_mt, check, begin = sync.class "Semaphore"
local Semaphore = semaphore_mt.__index
local bounded_mt = sync.class("BoundedSemaphore", semaphore_mt)

-- ---- permits -------------------------------------------------------------------

-- Each task has a chain of the guards it has open, the latest first, so that an
-- explicit release knows which one it stands for.
local function open_guard(self, task, guard)
  guard.outer = self.guards[task]
  self.guards[task] = guard
  return guard
end

local Guard = {}
local guard_mt = { __index = Guard, __name = "moonloop.Guard" }

local function new_guard(self, task)
  return open_guard(self, task, setmetatable({ semaphore = self, task = task }, guard_mt))
end

-- Takes a guard out of its task's chain. Returns whether it stood there.
local function shut_guard(self, guard)
  local inner, one = nil, self.guards[guard.task]
  while one and one ~= guard do inner, one = one, one.outer end
  if not one then return false end
  if inner then inner.outer = one.outer else self.guards[guard.task] = one.outer end
  return true
end

local function give_back(self)
  if self.bound and self.value >= self.bound then
    core.raise("InvalidStateError", ("%s has all its permits (%d): released too often")
      :format(self.label, self.bound))
  end
  if not self.waiters:wake() then self.value = self.value + 1 end
end

-- ---- the classes ---------------------------------------------------------------

local function new(class, name, n, opts)
  local position = 2
  if sync.is_options(n) and opts == nil then n, opts, position = nil, n, 1 end
  n = sync.check_integer(1, name, n == nil and 1 or n, 0)
  local own_name = sync.check_name(position, name, opts)
  local label = sync.label("semaphore", own_name)
  local self = setmetatable({
    name = own_name, label = label, value = n,
    guards = setmetatable({}, { __mode = "k" }),
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
function M.Semaphore(n, opts) return new(semaphore_mt, "Semaphore", n, opts) end

--- Makes a semaphore that never has more permits than it began with.
-- @param[opt=1] n integer, how many permits there are, 0 or more
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return BoundedSemaphore, a Semaphore
-- @raise as `Semaphore`
-- @see asyncio.BoundedSemaphore
function M.BoundedSemaphore(n, opts)
  local self = new(bounded_mt, "BoundedSemaphore", n, opts)
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
  local guard = self.guards[core.current_task() or self]
  if guard then shut_guard(self, guard) end
  give_back(self)
end

--- Tells whether no permit is free.
-- @function Semaphore:locked
-- @see asyncio.Semaphore.locked
function Semaphore:locked()
  check(self, "locked")
  return self.value == 0
end

function Semaphore:describe()
  return ("%d free, %d waiting"):format(self.value, #self.waiters)
end

--- Gives back the permit of this guard; nothing where that was done.
-- @function Guard:release
-- @raise as `Semaphore:release`
-- @see asyncio.Semaphore.release
function Guard:release()
  if shut_guard(self.semaphore, self) then give_back(self.semaphore) end
end

guard_mt.__close = Guard.release

return M
