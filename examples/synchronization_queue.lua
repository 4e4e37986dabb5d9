-- SPDX-License-Identifier: MIT
-- What: producers put items into a Queue, consumers take them out.
-- Why: the two sides need not know each other, nor how many they are. A queue with a bound holds a
--      quick producer back until the consumers have caught up.
-- Usage: moonloop examples/synchronization_queue.lua
local moonloop = require "moonloop"

local letters = moonloop.Queue(2, { name = "letters" })
local fullest, delivered = 0, {}

local function writer(name, count)
  for i = 1, count do
    letters:put(name .. i)
    fullest = math.max(fullest, letters:qsize())
  end
end

local function carrier()
  for letter in letters:iter() do -- ends when the queue is shut down and empty
    moonloop.sleep(0.01)
    delivered[#delivered + 1] = letter
  end
end

moonloop.task_group(function(group)
  group:create_task(carrier)
  group:create_task(carrier)
  moonloop.gather(
    function() writer("a", 3) end,
    function() writer("b", 3) end)
  letters:shutdown()
end)
table.sort(delivered)
print("delivered: " .. table.concat(delivered, " "))
print("waiting at the same time, at most: " .. fullest)
