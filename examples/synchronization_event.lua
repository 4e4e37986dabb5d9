-- SPDX-License-Identifier: MIT
-- What: an Event is a flag to wait for: set lets everybody go on who waits, and whoever comes
--       later.
-- Why: it is the simplest signal between tasks. Unlike a future it can be cleared and used again.
-- Usage: moonloop examples/synchronization_event.lua
local moonloop = require "moonloop"

local daylight = moonloop.Event { name = "daylight" }

local function flower(name)
  daylight:wait()
  print("  " .. name .. " opens")
end

local group <close> = moonloop.TaskGroup()
group:create_task(flower, "poppy")
group:create_task(flower, "daisy")
moonloop.sleep(0.01)
print("it is dark: " .. tostring(not daylight:is_set()))

daylight:set()
print("the sun rises")
moonloop.sleep(0)
flower("the late tulip") -- the event is set, so there is nothing to wait for

daylight:clear()
group:create_task(flower, "lily")
moonloop.sleep(0.01)
print("the lily waits for the morning")
daylight:set()
