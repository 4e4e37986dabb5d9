-- SPDX-License-Identifier: MIT
-- What `acquire` gives: a value for a to-be-closed variable that gives back what
-- was acquired, once, and nothing else.

local sync = require "moonloop.sync"

local M = {}

local guard_mt, check = sync.class "Guard"
local Guard = guard_mt.__index

--- Makes a guard of a lock or semaphore, whose class has `release_guard(self,
-- guard)` and `has_guard(self, guard)`.
function M.new(owner) return setmetatable({ owner = owner, is_open = true }, guard_mt) end

local function release(self)
  getmetatable(self.owner).release_guard(self.owner, self)
end

--- Gives back what this guard was given for; nothing where that was done, by an
-- explicit `release` of the lock or semaphore too.
-- @function Guard:release
-- @raise InvalidStateError when a BoundedSemaphore has all its permits
-- @see asyncio.Lock.release
function Guard:release()
  check(self, "release")
  release(self)
end

--- Does the same when the block is left.
-- @function Guard:__close
-- @see asyncio.Lock
guard_mt.__close = release

function guard_mt.describe(self)
  local held = getmetatable(self.owner).has_guard(self.owner, self)
  return ("%s, %s"):format(self.owner.label, held and "held" or "released")
end

return M
