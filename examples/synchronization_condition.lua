-- SPDX-License-Identifier: MIT
-- What: a Condition is a lock together with a place to wait until something has changed.
-- Why: "wait until there is enough of it" needs looking at a value under the lock, and letting go
--      of the lock while waiting. wait_for does both and looks again at every notification.
-- Usage: moonloop examples/synchronization_condition.lua
local moonloop = require "moonloop"

local tank = moonloop.Condition { name = "tank" }
local litres = 0

local function engine(name, needed)
  local _ <close> = tank:acquire()
  tank:wait_for(function() return litres >= needed end)
  litres = litres - needed
  print("  " .. name .. " takes " .. needed .. ", left: " .. litres)
end

local function pump(amount)
  local _ <close> = tank:acquire()
  litres = litres + amount
  print("pumped " .. amount .. ", there are " .. litres)
  tank:notify_all()
end

local group <close> = moonloop.TaskGroup()
group:create_task(engine, "the big engine", 50)
group:create_task(engine, "the small engine", 20)
for _, amount in ipairs { 30, 10, 40 } do
  moonloop.sleep(0.01)
  pump(amount)
end
