-- SPDX-License-Identifier: MIT
-- What: the script itself is a task, so it may wait at top level.
-- Why: there is nothing to set up. `moonloop script.lua` starts the event loop, runs the script as
--      its main task, and ends when the script ends.
-- Usage: moonloop examples/concepts_main_task.lua
local moonloop = require "moonloop"

print("the script runs as a task: " .. tostring(moonloop.current_task() ~= nil))

local loop = moonloop.get_running_loop()
print("the loop is running: " .. tostring(loop:is_running()))

loop:call_soon(print, "the loop runs this while the script waits")
print("the script waits")
moonloop.sleep(0.01)
print("the script goes on")
