-- SPDX-License-Identifier: MIT
-- What: moonloop.checkpoint() lets others run and takes a cancellation, if there is one.
-- Why: a task that only computes never waits, so it cannot be cancelled and nobody else gets a
--      turn. A checkpoint now and then makes it a good neighbour.
-- Usage: moonloop examples/cancellation_checkpoint.lua
local moonloop = require "moonloop"

local progress = 0

local function sum_of_squares(n)
  local sum = 0
  for i = 1, n do
    sum = sum + i * i
    if i % 1000 == 0 then
      progress = i
      moonloop.checkpoint()
    end
  end
  return sum
end

print(sum_of_squares(2000))

local task = moonloop.create_task(sum_of_squares, math.huge)
while progress < 10000 do
  moonloop.sleep(0)
end
task:cancel()
moonloop.wait { task }
print("cancelled: " .. tostring(task:cancelled()) .. ", at " .. progress)
