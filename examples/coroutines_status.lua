-- SPDX-License-Identifier: MIT
-- What: what others see of an inner coroutine while it waits.
-- Why: its task drives it, so nobody else may resume or close it. Its status is "normal": it is
--      neither running nor free to be resumed.
-- Usage: moonloop examples/coroutines_status.lua
local moonloop = require "moonloop"

local inner = coroutine.create(function()
  moonloop.sleep(0.02)
  return "done"
end)
print("before: " .. coroutine.status(inner))

local task = moonloop.create_task(function()
  local _, value = coroutine.resume(inner)
  return value
end)
moonloop.sleep(0.01)
print("while it waits: " .. coroutine.status(inner))
print("another task may close it: " .. tostring(pcall(coroutine.close, inner)))

print("its task gets: " .. task:await())
print("after: " .. coroutine.status(inner))
