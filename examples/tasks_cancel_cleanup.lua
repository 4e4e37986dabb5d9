-- SPDX-License-Identifier: MIT
-- What: a task that tidies up when it is cancelled.
-- Why: a CancelledError is an error like any other: it unwinds the task, and on its way `<close>`
--      variables are closed. Clean-up registered by moonloop.defer may itself wait.
-- Usage: moonloop examples/tasks_cancel_cleanup.lua
local moonloop = require "moonloop"

local function write_report()
  print("report: opened")
  local _ <close> = moonloop.defer(function()
    print("report: writing what there is")
    moonloop.sleep(0.01)
    print("report: closed")
  end)
  moonloop.sleep(10)
  print("report: complete")
end

local task = moonloop.create_task(write_report)
moonloop.sleep(0.01)
print("main: cancelling")
task:cancel()
pcall(task.await, task)
print("main: cancelled: " .. tostring(task:cancelled()))
