-- SPDX-License-Identifier: MIT
-- What: a context as an object: copied, run in, and handed to a task.
-- Why: a callback or a task made in one place can so run with the values of another. What is set
--      inside a context stays inside.
-- Usage: moonloop examples/tasks_context_copy.lua
local moonloop = require "moonloop"

local user = moonloop.ContextVar("user")
user:set("ann")

local context = moonloop.copy_context()
user:set("ben")
print("here: " .. user:get())
print("in the copy: " .. context:get(user))

context:run(function()
  print("run inside: " .. user:get())
  user:set("cleo")
end)
print("here, unchanged: " .. user:get())
print("in the copy, changed: " .. context:get(user))

local task = moonloop.create_task({ context = context }, function()
  user:set("dora")
  return user:get()
end)
print("a task in that very context: " .. task:await())
print("which it has changed: " .. context:get(user))
