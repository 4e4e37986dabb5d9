-- SPDX-License-Identifier: MIT
-- What: moonloop.pcall catches errors but lets a cancellation pass.
-- Why: a retry loop wants to survive failures, and wants to end when it is cancelled. Lua's own
--      pcall cannot tell the two apart; this one does.
-- Usage: moonloop examples/tasks_cancel_pcall.lua
local moonloop = require "moonloop"

local function unreliable(attempt)
  moonloop.sleep(attempt < 3 and 0 or 10)
  error("attempt " .. attempt .. " failed", 0)
end

local function retry_for_ever()
  for attempt = 1, math.huge do
    local ok, message = moonloop.pcall(unreliable, attempt)
    print(ok, message)
  end
end

local task = moonloop.create_task(retry_for_ever)
moonloop.sleep(0.1)
task:cancel()
pcall(task.await, task)
print("cancelled: " .. tostring(task:cancelled()))
