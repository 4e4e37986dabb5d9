-- SPDX-License-Identifier: MIT
-- What: functions that wait call each other, each waiting for the one it called.
-- Why: steps that depend on each other are written one below the other. Only steps that can overlap
--      need tasks.
-- Usage: moonloop examples/coroutines_chain.lua
local moonloop = require "moonloop"

local function first_phase()
  print("  first phase")
  moonloop.sleep(0.01)
  return "ore"
end

local function second_phase(material)
  print("  second phase, with " .. material)
  moonloop.sleep(0.01)
  return "iron from " .. material
end

local function whole()
  print("whole: waiting for the first phase")
  local material = first_phase()
  print("whole: waiting for the second phase")
  return second_phase(material)
end

print("result: " .. whole())
