-- SPDX-License-Identifier: MIT
-- What: moonloop.move_on_after(seconds, fn, ...) runs fn for at most so long.
-- Why: often running out of time is no error. It gives true and fn's values, or false.
-- Usage: moonloop examples/control_move_on.lua
local moonloop = require "moonloop"

local function look(seconds)
  moonloop.sleep(seconds)
  return "a comet", 7
end

print(moonloop.move_on_after(1, look, 0.01))
print(moonloop.move_on_after(0.02, look, 10))

-- What was gathered until then stays.
local seen = {}
local complete = moonloop.move_on_after(0.08, function()
  for i = 1, 100 do
    moonloop.sleep(i < 3 and 0.01 or 10)
    seen[i] = "star " .. i
  end
end)
print("complete: " .. tostring(complete) .. ", seen: " .. table.concat(seen, ", "))
