-- SPDX-License-Identifier: MIT
-- What: waiting for a task, and waiting for a function.
-- Why: a task that you made is yours: cancelling somebody who waits for it leaves it alone. A
--      function given to moonloop.await belongs to that call: cancelling the call cancels it too.
-- Usage: moonloop examples/tasks_belong.lua
local moonloop = require "moonloop"

local function work(name)
  return function()
    local _ <close> = moonloop.defer(function() print(name .. ": leaving") end)
    moonloop.sleep(0.1)
    print(name .. ": finished")
  end
end

local task = moonloop.create_task(work("task"))
local waits_for_task = moonloop.create_task(moonloop.await, task)
local waits_for_function = moonloop.create_task(moonloop.await, work("function"))
moonloop.sleep(0.01)

waits_for_task:cancel()
waits_for_function:cancel()
pcall(waits_for_task.await, waits_for_task)
pcall(waits_for_function.await, waits_for_function)
print("both waiters are cancelled")
task:await()
