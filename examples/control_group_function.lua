-- SPDX-License-Identifier: MIT
-- What: moonloop.task_group(fn) runs fn(group), waits for the group's children, and returns fn's
--       values.
-- Why: it is the same group as a function instead of a block. group:cancel() ends the children, and
--      here the body as well, without an error: "that will do".
-- Usage: moonloop examples/control_group_function.lua
local moonloop = require "moonloop"

local function count(name, seconds)
  moonloop.sleep(seconds)
  print("  " .. name .. " has been counted")
  return #name
end

local total, most = moonloop.task_group(function(group)
  local craters = group:create_task(count, "craters", 0.02)
  local seas = group:create_task(count, "seas", 0.01)
  return craters:await() + seas:await(), math.max(craters:result(), seas:result())
end)
print("total: " .. total .. ", most: " .. most)

-- The first to find it ends the search.
local found
moonloop.task_group(function(group)
  for _, place in ipairs { "the crater", "the rim", "the plain" } do
    group:create_task(function()
      moonloop.sleep(place == "the rim" and 0.01 or 10)
      print("  searched " .. place)
      found = place
      group:cancel()
    end)
  end
  moonloop.sleep_forever()
end)
print("found: " .. found)
