-- SPDX-License-Identifier: MIT
-- What: a task's name, the current task, and the list of all tasks.
-- Why: names are what reports, tracebacks and inspectors show.
-- Usage: moonloop examples/tasks_names.lua
local moonloop = require "moonloop"

local function who_am_i()
  local me = moonloop.current_task()
  print("I am " .. me:get_name())
  moonloop.sleep(0.01)
end

local fetcher = moonloop.create_task({ name = "fetcher" }, who_am_i)
local parser = moonloop.create_task(who_am_i)
parser:set_name("parser")
moonloop.current_task():set_name("chief")
moonloop.sleep(0)

local names = {}
for i, task in ipairs(moonloop.all_tasks()) do
  names[i] = task:get_name()
end
table.sort(names)
print("unfinished: " .. table.concat(names, ", "))

fetcher:await()
parser:await()
print("unfinished: " .. #moonloop.all_tasks())
