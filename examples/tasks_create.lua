-- SPDX-License-Identifier: MIT
-- What: moonloop.create_task(fn, ...) starts a function that runs beside this one.
-- Why: calling a function waits for it; making a task of it does not. The task first runs when its
--      creator waits.
-- Usage: moonloop examples/tasks_create.lua
local moonloop = require "moonloop"

local function square(n)
  print("  in the task")
  moonloop.sleep(0.01)
  return n * n
end

local task = moonloop.create_task(square, 12)
print("made; done: " .. tostring(task:done()))
print("waiting for it")
local value = task:await()
print("result: " .. value)
print("done: " .. tostring(task:done()) .. ", result again: " .. task:result())
