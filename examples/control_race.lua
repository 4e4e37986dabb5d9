-- SPDX-License-Identifier: MIT
-- What: moonloop.race waits for the first of several to succeed and cancels the others.
-- Why: ask several mirrors for the same file and take the first that comes. A failure does not end
--      the race; only when all have failed is there an ErrorGroup with all their errors.
-- Usage: moonloop examples/control_race.lua
local moonloop = require "moonloop"

local function mirror(name, seconds, fails)
  return function()
    local _ <close> = moonloop.defer(function() print("  " .. name .. " is closed") end)
    moonloop.sleep(seconds)
    if fails then
      error(name .. " is down", 0)
    end
    return "the file", name
  end
end

print(moonloop.race { mirror("europe", 0.03), mirror("asia", 0.01, true), mirror("africa", 0.02) })

local ok, e = pcall(moonloop.race, { mirror("europe", 0.02, true), mirror("asia", 0.01, true) })
print(ok, e.kind)
for i, err in ipairs(e.errors) do
  print(i, err.message)
end
