-- SPDX-License-Identifier: MIT
-- What: between two waits nothing else runs.
-- Why: tasks take turns, and a turn ends only where a call waits. Code without a wait in it needs
--      no lock; code that waits between reading a value and writing it back can be overtaken.
-- Usage: moonloop examples/concepts_one_thread.lua
local moonloop = require "moonloop"

local count = 0

local function in_one_turn()
  local seen = count
  count = seen + 1
end

local function in_two_turns()
  local seen = count
  moonloop.sleep(0) -- every other task runs here and reads the same value
  count = seen + 1
end

local function run_ten(fn)
  count = 0
  local tasks = {}
  for i = 1, 10 do
    tasks[i] = moonloop.create_task(fn)
  end
  for _, task in ipairs(tasks) do
    task:await()
  end
  return count
end

print("ten additions, each in one turn: " .. run_ten(in_one_turn))
print("ten additions, each with a wait inside: " .. run_ten(in_two_turns))
