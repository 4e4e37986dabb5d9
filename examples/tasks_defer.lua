-- SPDX-License-Identifier: MIT
-- What: local _ <close> = moonloop.defer(fn) runs fn when the block is left, however it is left.
-- Why: the end is written beside the beginning. Several are run in reverse order, and each may
--      wait.
-- Usage: moonloop examples/tasks_defer.lua
local moonloop = require "moonloop"

local function visit(fail)
  print("open the gate")
  local _ <close> = moonloop.defer(function() print("close the gate") end)
  print("switch on the light")
  local _ <close> = moonloop.defer(function()
    moonloop.sleep(0.01)
    print("switch off the light")
  end)
  moonloop.sleep(0.01)
  if fail then
    error("slipped", 0)
  end
  return "a pleasant visit"
end

print(visit(false))
print(pcall(visit, true))
