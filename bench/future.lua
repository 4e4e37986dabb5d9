-- SPDX-License-Identifier: MIT
--
-- The future workload: two tasks hand futures to each other. One round trip is
-- two futures made, set and awaited: the asker makes one for the answer, sets
-- the one that the answerer waits for, and waits. Prints the CPU of a round
-- trip as one line of JSON.

local moonloop = require "moonloop"

local Future = moonloop.Future
local n = math.tointeger(tonumber((...) or 500000))

local question, answer = Future(), nil

local function ask()
  for i = 1, n do
    answer = Future()
    question:set_result(i)
    assert(answer:await() == i)
  end
end

local function reply()
  for _ = 1, n do
    local i = question:await()
    question = Future()
    answer:set_result(i)
  end
end

collectgarbage()
local started = os.clock()
local asker = moonloop.create_task(ask)
moonloop.await(moonloop.create_task(reply))
moonloop.await(asker)
local seconds = os.clock() - started
print(('{"round_trips": %d, "round_trip_ns": %.2f}'):format(n, seconds / n * 1e9))
