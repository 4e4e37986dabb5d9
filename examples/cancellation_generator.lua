-- SPDX-License-Identifier: MIT
-- What: a generator with a timeout of its own, in a loop that takes its time.
-- Why: a scope belongs to the coroutine that opened it. The timeout limits what the generator waits
--      for and not what the loop around it does, not even when its time runs out meanwhile.
-- Usage: moonloop examples/cancellation_generator.lua
local moonloop = require "moonloop"

local function readings(seconds)
  return coroutine.wrap(function()
    local _ <close> = moonloop.timeout(seconds)
    for i = 1, math.huge do
      coroutine.yield("reading " .. i)
      moonloop.sleep(0.01) -- as if asking the instrument for the next one
    end
  end)
end

local ok, e = pcall(function()
  for reading in readings(0.03) do
    print(reading)
    moonloop.sleep(0.05) -- the consumer is slow, and nothing happens to it
    print("  dealt with " .. reading)
  end
end)
print(ok, e.kind)
