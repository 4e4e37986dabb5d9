-- SPDX-License-Identifier: MIT
-- What: any function can be a task: a local one, a closure, a method, one of Lua's own.
-- Why: there is no special kind of function for tasks; arguments follow the function.
-- Usage: moonloop examples/tasks_functions.lua
local moonloop = require "moonloop"

local counter = { value = 0 }
function counter:add(n)
  moonloop.sleep(0)
  self.value = self.value + n
  return self.value
end

local word = "closure"
local tasks = {
  moonloop.create_task(function() return "a " .. word end),
  moonloop.create_task(counter.add, counter, 5),
  moonloop.create_task(string.rep, "la", 3),
  moonloop.create_task(moonloop.sleep, 0.01, "slept"),
}
for _, task in ipairs(tasks) do
  print(task:await())
end
