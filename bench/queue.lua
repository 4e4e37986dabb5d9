-- SPDX-License-Identifier: MIT
--
-- The queue workload: one task puts numbers into a queue that holds 64 of
-- them, another takes them out and checks that every one comes, in order.
-- Prints the CPU of an item as one line of JSON.

local moonloop = require "moonloop"

local BOUND = 64

local n = math.tointeger(tonumber((...) or 1000000))

local queue = moonloop.Queue(BOUND)
local taken = 0

local function produce()
  for i = 1, n do queue:put(i) end
end

local function consume()
  for i = 1, n do
    if queue:get() ~= i then error("item " .. i .. " is missing, or out of order") end
    taken = i
  end
end

collectgarbage()
local started = os.clock()
local producer = moonloop.create_task(produce)
moonloop.await(moonloop.create_task(consume))
moonloop.await(producer)
local seconds = os.clock() - started
assert(taken == n and queue:empty(), "an item is left over")
print(('{"items": %d, "item_ns": %.2f}'):format(n, seconds / n * 1e9))
