-- SPDX-License-Identifier: MIT
-- What: a context as an object: copied, run in, and handed to a task.
-- Why: a callback or a task made in one place can so run with the values of another. What is set
--      inside a context stays inside.
-- Usage: moonloop examples/tasks_context_copy.lua
local moonloop = require "moonloop"

local role = moonloop.ContextVar("role")
role:set("guest")

local context = moonloop.copy_context()
role:set("reader")
print("here: " .. role:get())
print("in the copy: " .. context:get(role))

context:run(function()
  print("run inside: " .. role:get())
  role:set("editor")
end)
print("here, unchanged: " .. role:get())
print("in the copy, changed: " .. context:get(role))

local task = moonloop.create_task({ context = context }, function()
  role:set("owner")
  return role:get()
end)
print("a task in that very context: " .. task:await())
print("which it has changed: " .. context:get(role))
