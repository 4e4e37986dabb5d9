-- SPDX-License-Identifier: MIT
-- What: moonloop.sleep(0) ends the turn: every task that is ready runs once, then this one goes on.
-- Why: a task that computes for long holds the loop for as long. A sleep(0) now and then lets the
--      others in.
-- Usage: moonloop examples/scheduling_sleep_zero.lua
local moonloop = require "moonloop"

local function compute(name, polite)
  for step = 1, 3 do
    print(name .. ": step " .. step)
    if polite then
      moonloop.sleep(0)
    end
  end
end

local function both(polite)
  local a = moonloop.create_task(compute, "a", polite)
  local b = moonloop.create_task(compute, "b", polite)
  a:await()
  b:await()
end

print("without sleep(0):")
both(false)
print("with sleep(0):")
both(true)
