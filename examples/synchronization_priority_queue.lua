-- SPDX-License-Identifier: MIT
-- What: a PriorityQueue gives the smallest item first, whatever the order in which they came.
-- Why: what is urgent overtakes what is not. Equal items keep their order. Items that are no
--      numbers or strings need a comparison, as for table.sort.
-- Usage: moonloop examples/synchronization_priority_queue.lua
local moonloop = require "moonloop"

local numbers = moonloop.PriorityQueue()
for _, n in ipairs { 5, 1, 4, 1.5 } do
  numbers:put(n)
end
print(numbers:get(), numbers:get(), numbers:get(), numbers:get())

local function more_urgent(a, b)
  return a.level < b.level
end

local calls = moonloop.PriorityQueue(0, more_urgent)
calls:put { level = 2, text = "the tap drips" }
calls:put { level = 1, text = "the roof is gone" }
calls:put { level = 2, text = "the door squeaks" }
calls:put { level = 1, text = "the cellar is full of water" }
calls:shutdown()
for call in calls:iter() do
  print(call.level, call.text)
end
