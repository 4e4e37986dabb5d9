-- SPDX-License-Identifier: MIT
-- What: moonloop.await takes a Future, a Task or a function; ensure_future makes a Future of each.
-- Why: code that takes "something to wait for" need not ask what it was given.
-- Usage: moonloop examples/futures_awaitables.lua
local moonloop = require "moonloop"

local future = moonloop.Future()
future:set_result("a future")
local task = moonloop.create_task(moonloop.sleep, 0.01, "a task")
local function fn()
  moonloop.sleep(0.01)
  return "a function, run as a task"
end

for _, awaitable in ipairs { future, task, fn } do
  print(tostring(moonloop.isfuture(awaitable)) .. ": " .. moonloop.await(awaitable))
end

print("a future stays itself: " .. tostring(moonloop.ensure_future(future) == future))
local made = moonloop.ensure_future(fn)
print("a function becomes a future: " .. tostring(moonloop.isfuture(made)))
print(made:await())
