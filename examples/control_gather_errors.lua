-- SPDX-License-Identifier: MIT
-- What: what gather does when one of its awaitables fails.
-- Why: the first failure ends the whole: the others are cancelled, gather waits for their clean-up,
--      and raises it. Nothing goes on in the background. With return_exceptions nobody is cancelled
--      and the errors stand in the list beside the values.
-- Usage: moonloop examples/control_gather_errors.lua
local moonloop = require "moonloop"

local SignalLost = moonloop.Error:extend "SignalLost"

local function probe(name, seconds, fails)
  return function()
    local _ <close> = moonloop.defer(function() print("  " .. name .. " is switched off") end)
    moonloop.sleep(seconds)
    if fails then
      error(SignalLost:new(name .. " is silent"))
    end
    return name .. " is fine"
  end
end

local function probes()
  return { probe("north", 0.01), probe("east", 0.02, true), probe("south", 0.03) }
end

print("the first failure is raised:")
local ok, e = pcall(moonloop.gather, probes())
print(ok, e)

print("errors in their places:")
local list = moonloop.gather(probes(), { return_exceptions = true })
for i = 1, list.n do
  print(i, list[i])
end
