-- SPDX-License-Identifier: MIT
-- What: moonloop.wait waits until the first task, all of them, or the first failure is there, and
--       gives the done ones and the pending ones.
-- Why: it decides nothing: nobody is cancelled and no error is raised. It is for when a program
--      wants to look at its tasks itself, now and again.
-- Usage: moonloop examples/control_wait.lua
local moonloop = require "moonloop"

local function landing(seconds, fails)
  moonloop.sleep(seconds)
  if fails then
    error("bounced off", 0)
  end
  return "landed"
end

local tasks = {
  moonloop.create_task({ name = "first" }, landing, 0.01),
  moonloop.create_task({ name = "second" }, landing, 0.06, true),
  moonloop.create_task({ name = "third" }, landing, 0.12),
}

local function names(list)
  local words = {}
  for i, task in ipairs(list) do
    words[i] = task:get_name()
  end
  return #words > 0 and table.concat(words, ", ") or "none"
end

for _, condition in ipairs { "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED" } do
  local done, pending = moonloop.wait(tasks, { return_when = condition })
  print(condition .. ": done: " .. names(done) .. "; pending: " .. names(pending))
end
for _, task in ipairs(tasks) do
  print(task:get_name() .. ": " .. (task:error() or task:result()))
end
