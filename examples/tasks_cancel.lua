-- SPDX-License-Identifier: MIT
-- What: task:cancel() stops a task at the call in which it waits.
-- Why: the waiting call raises a CancelledError inside the task; nothing after it runs, unless the
--      task cleans up. A task cancelled before its first turn never begins.
-- Usage: moonloop examples/tasks_cancel.lua
local moonloop = require "moonloop"

local function traveller(name)
  print(name .. " sets out")
  moonloop.sleep(10)
  print(name .. " arrives")
end

local early = moonloop.create_task(traveller, "early")
moonloop.sleep(0.01)
print("cancel says: " .. tostring(early:cancel()))
local _, e = pcall(early.await, early)
print("awaiting it raises: " .. e.kind)
print("cancelled: " .. tostring(early:cancelled()))

local never = moonloop.create_task(traveller, "never")
never:cancel()
pcall(never.await, never)
print("cancelled before it began: " .. tostring(never:cancelled()))

print("cancelling it again says: " .. tostring(never:cancel()))
