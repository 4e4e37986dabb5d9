-- SPDX-License-Identifier: MIT
-- What: one task cancels another, with a message.
-- Why: whoever holds a task may cancel it, at any time and from anywhere, a callback included.
-- Usage: moonloop examples/tasks_cancel_from_another.lua
local moonloop = require "moonloop"

local function searcher()
  local ok, e = pcall(moonloop.sleep, 10)
  if not ok then
    print("searcher: stopped, because " .. e.message)
    error(e) -- it is still a cancellation: pass it on
  end
end

local function supervisor(task)
  print("supervisor: that will do")
  task:cancel("it was found elsewhere")
end

local search = moonloop.create_task(searcher)
moonloop.create_task(supervisor, search)
pcall(search.await, search)
print("main: cancelled: " .. tostring(search:cancelled()))
