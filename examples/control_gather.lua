-- SPDX-License-Identifier: MIT
-- What: moonloop.gather waits for several things at once and gives their values in order.
-- Why: the whole takes as long as the slowest of them, and there is nothing to collect by hand.
--      With a list instead of arguments it gives a list, for when their number is not known
--      beforehand.
-- Usage: moonloop examples/control_gather.lua
local moonloop = require "moonloop"

local function distance(name, kilometres, seconds)
  moonloop.sleep(seconds) -- as if asking an observatory
  print("  heard of " .. name)
  return kilometres
end

local moon, mars = moonloop.gather(
  function() return distance("the moon", 384400, 0.03) end,
  moonloop.create_task(distance, "mars", 225000000, 0.01))
print("the moon: " .. moon .. " km, mars: " .. mars .. " km")

local jobs = {}
for i, name in ipairs { "io", "europa", "callisto" } do
  jobs[i] = function() return distance(name, i * 400000, 0.04 - i / 100) end
end
local distances = moonloop.gather(jobs)
print(distances.n .. " distances: " .. table.concat(distances, ", "))
