-- SPDX-License-Identifier: MIT
-- What: an error in a task comes out where the task is awaited.
-- Why: it belongs to whoever waits for the task, and stays what it was: a string keeps its place,
--      an Error object its kind.
-- Usage: moonloop examples/tasks_error.lua
local moonloop = require "moonloop"

local function careless()
  moonloop.sleep(0.01)
  error("fell into a crater")
end

local task = moonloop.create_task(careless)
local ok, message = pcall(task.await, task)
print("succeeded: " .. tostring(ok))
print("error: " .. message:gsub("^.*/", ""))
print("cancelled: " .. tostring(task:cancelled()))
print("the task keeps it: " .. tostring(task:error() == message))
