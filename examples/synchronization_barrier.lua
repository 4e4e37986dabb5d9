-- SPDX-License-Identifier: MIT
-- What: at a Barrier tasks wait until as many have come as it takes; then all go on together.
-- Why: work in rounds: nobody begins the second part before everybody has done the first. wait
--      gives each task its place in the order of arrival, and the last one may do what is done
--      once.
-- Usage: moonloop examples/synchronization_barrier.lua
local moonloop = require "moonloop"

local summit = moonloop.Barrier(3)

local function climber(name, seconds)
  moonloop.sleep(seconds)
  print(name .. " has arrived; waiting: " .. summit.n_waiting)
  local place = summit:wait()
  if place == summit.parties then
    print("  somebody takes the picture")
  end
  return place
end

print("places:", moonloop.gather(
  function() return climber("the goat", 0.01) end,
  function() return climber("the snail", 0.03) end,
  function() return climber("the fox", 0.02) end))

-- One that cannot come breaks the barrier, so that the others do not wait for ever.
local waiting = moonloop.create_task(climber, "the goat", 0)
moonloop.sleep(0.01)
summit:abort()
local ok, e = pcall(waiting.await, waiting)
print(ok, e.kind)
summit:reset()
print("broken: " .. tostring(summit.broken))
