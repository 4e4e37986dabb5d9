-- SPDX-License-Identifier: MIT
-- What: a generator made with coroutine.wrap may wait between two values.
-- Why: `yield` inside it goes to the `for` loop, a wait goes to the event loop, and neither is
--      taken for the other. While the generator waits, its whole task is suspended and others run.
-- Usage: moonloop examples/coroutines_generator.lua
local moonloop = require "moonloop"

local function readings(n)
  return coroutine.wrap(function()
    for i = 1, n do
      moonloop.sleep(0.03) -- as if asking a slow instrument
      coroutine.yield(i, i * i)
    end
  end)
end

local other = moonloop.create_task(function()
  moonloop.sleep(0.01)
  print("another task ran while the generator waited")
end)

for i, square in readings(3) do
  print("reading " .. i .. ": " .. square)
end
other:await()
