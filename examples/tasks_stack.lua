-- SPDX-License-Identifier: MIT
-- What: where a task is and what it waits for, asked from outside.
-- Why: "why does it hang?" has an answer: every waiting task tells its traceback and the thing it
--      waits for.
-- Usage: moonloop examples/tasks_stack.lua
local moonloop = require "moonloop"

local function inner()
  moonloop.sleep(10)
end

local function outer()
  inner()
  return "not reached"
end

local task = moonloop.create_task({ name = "sleeper" }, outer)
moonloop.sleep(0)

print(task:get_name() .. " waits in: " .. task:awaiting():match("%a+"))
for line in task:get_stack():gmatch("tasks_stack%.lua:(%d+):") do
  print("line " .. line)
end
task:cancel()
