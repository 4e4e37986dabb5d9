-- SPDX-License-Identifier: MIT
-- The Event: a flag that tasks wait for.

local core = require "moonloop.core"
local sync = require "moonloop.sync"

local M = {}

local event_mt, check, begin = sync.class "Event"
local Event = event_mt.__index

--- Makes an event that is not set.
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Event
-- @raise bad argument for an option that does not exist or of another type
-- @see asyncio.Event
function M.Event(opts)
  local name = sync.arguments("Event", 0, opts)
  return setmetatable({
    name = name, waiters = core.waiters(sync.label("event", name)), value = false,
  }, event_mt)
end

--- Sets it and wakes all who wait, in the order in which they came. A `clear`
-- right after does not take that back.
-- @function Event:set
-- @see asyncio.Event.set
function Event:set()
  check(self, "set")
  self.value = true
  self.waiters:wake_all()
end

--- Makes it not set: `wait` waits again.
-- @function Event:clear
-- @see asyncio.Event.clear
function Event:clear()
  check(self, "clear")
  self.value = false
end

--- Tells whether it is set.
-- @function Event:is_set
-- @see asyncio.Event.is_set
function Event:is_set()
  check(self, "is_set")
  return self.value
end

--- Waits until it is set. Awaits.
-- @function Event:wait
-- @return true
-- @raise see Awaiting functions
-- @see asyncio.Event.wait
function Event:wait()
  begin(self)
  if not self.value then self.waiters:wait() end
  return true
end

function event_mt.describe(self)
  return ("%s, %d waiting"):format(self.value and "set" or "not set", #self.waiters)
end

return M
