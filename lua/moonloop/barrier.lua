-- SPDX-License-Identifier: MIT
-- The Barrier: tasks that wait until a number of them has come, and then go on
-- together. The last one to come wakes the others, so it can be used again at
-- once.

local core = require "moonloop.core"
local sync = require "moonloop.sync"

local M = {}

local barrier_mt, check, begin = sync.class "Barrier"
local Barrier = barrier_mt.__index

local get_field = {
  n_waiting = function(self) return #self.waiters end,
}

function barrier_mt:__index(key)
  local get = get_field[key]
  if get then return get(self) end
  return Barrier[key]
end

--- Makes a barrier. Its fields: `parties` (integer), `n_waiting` (integer), `broken`
-- (boolean).
-- @param n integer, how many tasks have to come, 1 or more
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Barrier
-- @raise bad argument for another `n`, and for an option that does not exist
-- @see asyncio.Barrier
function M.Barrier(...)
  local name, n = sync.arguments("Barrier", 1, ...)
  n = sync.check_integer(1, "Barrier", n, 1)
  local label = sync.label("barrier", name)
  return setmetatable({
    name = name, label = label, parties = n, broken = false, waiters = core.waiters(label),
  }, barrier_mt)
end

local function raise_broken(self, how)
  core.raise("BrokenBarrierError", ("%s %s"):format(self.label, how))
end

local function release_all(self)
  for place = 1, self.parties - 1 do self.waiters:wake(place) end
  return self.parties
end

--- Waits until as many tasks wait as there are parties. Awaits; a call that is
-- cancelled no longer counts.
-- @function Barrier:wait
-- @return integer from 1 to `parties`, in the order in which they came
-- @raise BrokenBarrierError when it is broken, or reset meanwhile; see Awaiting
-- functions
-- @see asyncio.Barrier.wait
function Barrier:wait()
  begin(self)
  if self.broken then raise_broken(self, "is broken") end
  if #self.waiters == self.parties - 1 then return release_all(self) end
  local place, how = self.waiters:wait()
  return place or raise_broken(self, how)
end

--- Makes it empty and whole again; those who wait get a BrokenBarrierError.
-- @function Barrier:reset
-- @see asyncio.Barrier.reset
function Barrier:reset()
  check(self, "reset")
  self.broken = false
  self.waiters:wake_all(nil, "was reset")
end

--- Breaks it: those who wait and those who come get a BrokenBarrierError.
-- @function Barrier:abort
-- @see asyncio.Barrier.abort
function Barrier:abort()
  check(self, "abort")
  self.broken = true
  self.waiters:wake_all(nil, "is broken")
end

function barrier_mt.describe(self)
  return ("%d of %d waiting%s"):format(#self.waiters, self.parties,
    self.broken and ", broken" or "")
end

return M
