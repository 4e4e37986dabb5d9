-- SPDX-License-Identifier: MIT
-- What: a running task is kept alive by the loop.
-- Why: nobody has to hold on to it. A task that was started runs to its end, even when its creator
--      has forgotten it and the garbage collector runs.
-- Usage: moonloop examples/tasks_held.lua
local moonloop = require "moonloop"

local finished = 0
for i = 1, 100 do
  moonloop.create_task(function()
    moonloop.sleep(0.01 + i / 10000)
    finished = finished + 1
  end)
end

moonloop.sleep(0)
collectgarbage()
collectgarbage()
while #moonloop.all_tasks() > 1 do
  moonloop.sleep(0.01)
end
print("finished: " .. finished)
