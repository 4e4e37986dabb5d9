-- SPDX-License-Identifier: MIT
-- What: an object of one's own with a __close that waits.
-- Why: Lua's to-be-closed variables are what `async with` is elsewhere: a block that is left by its
--      end, by return, by break or by an error closes them, and closing may wait.
-- Usage: moonloop examples/tasks_close.lua
local moonloop = require "moonloop"

local Session = {}
Session.__index = Session
Session.__name = "Session"

function Session.__close(self, e)
  moonloop.sleep(0.01) -- say good-bye properly
  print(self.name .. ": closed" .. (e and ", after: " .. e or ""))
end

local function open(name)
  moonloop.sleep(0.01)
  print(name .. ": open")
  return setmetatable({ name = name }, Session)
end

for i = 1, 3 do
  local session <close> = open("session " .. i)
  if i == 2 then
    print(session.name .. ": leaving the loop")
    break
  end
end

print(pcall(function()
  local session <close> = open("last session")
  error(session.name .. " failed", 0)
end))
