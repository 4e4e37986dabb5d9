-- SPDX-License-Identifier: MIT
-- What: the few places where a call cannot wait, and how the error says so.
-- Why: Lua cannot suspend a C function that called back into Lua (a table.sort comparison, a
--      string.gsub replacement), and outside of every task there is nobody to suspend. Both are
--      errors that name the reason, and the task may go on.
-- Usage: moonloop examples/coroutines_boundaries.lua
local moonloop = require "moonloop"

local ok, e = pcall(table.sort, { 3, 1, 2 }, function(a, b)
  moonloop.sleep(0)
  return a < b
end)
print("inside table.sort: " .. (ok and "waited" or "refused"))
print("the message names it: " .. tostring(tostring(e):find("sort", 1, true) ~= nil))

-- A callback of the loop is not a task.
local loop = moonloop.get_running_loop()
loop:call_soon(function()
  local callback_ok, message = pcall(moonloop.sleep, 0)
  print("inside a callback: " .. (callback_ok and "waited" or "refused"))
  print("because: " .. tostring(message):match("no running task"))
end)
moonloop.sleep(0)

-- coroutine.yield belongs to generators. A task's own body has nobody to yield to.
print("yield in a task's body: " .. (pcall(coroutine.yield, 1) and "yielded" or "refused"))
