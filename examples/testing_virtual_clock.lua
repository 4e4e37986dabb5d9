-- SPDX-License-Identifier: MIT
-- What: a clock that jumps to the next timer whenever every task waits.
-- Why: code that sleeps for hours is tested in milliseconds, and nothing about it has to change.
-- Usage: moonloop examples/testing_virtual_clock.lua
local moonloop = require "moonloop"

local function reminder(hours, what)
  moonloop.sleep(hours * 3600)
  print("after " .. hours .. " h: " .. what)
end

local _ <close> = moonloop.testing.virtual_clock()
local start = moonloop.time()

local tasks = {
  moonloop.create_task(reminder, 8, "go home"),
  moonloop.create_task(reminder, 4, "have lunch"),
  moonloop.create_task(reminder, 0.5, "drink some water"),
}
for _, task in ipairs(tasks) do
  task:await()
end
print(string.format("hours gone by: %.0f", (moonloop.time() - start) / 3600))
