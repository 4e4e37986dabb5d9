-- SPDX-License-Identifier: MIT
-- What: task:uncancel() takes a cancellation request back; cancelling() counts those that stand.
-- Why: now and then a task is right to go on, a server that only starts anew, for example. It has
--      to say so; merely catching the error is not enough.
-- Usage: moonloop examples/cancellation_uncancel.lua
local moonloop = require "moonloop"

local function service()
  local me = moonloop.current_task()
  for round = 1, 2 do
    local ok, e = pcall(moonloop.sleep, round == 1 and 10 or 0.01)
    if ok then
      print("round " .. round .. ": undisturbed")
    else
      print("round " .. round .. ": told to " .. e.message .. ", requests: " .. me:cancelling())
      print("after uncancel: " .. me:uncancel())
    end
  end
  return "stopped by itself"
end

local task = moonloop.create_task(service)
moonloop.sleep(0)
task:cancel("reload")
print(task:await())
print("cancelled: " .. tostring(task:cancelled()))
