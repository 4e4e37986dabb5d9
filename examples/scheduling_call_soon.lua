-- SPDX-License-Identifier: MIT
-- What: loop:call_soon(fn, ...) runs a function in one of the loop's next turns.
-- Why: it is the smallest thing the loop can do: no task, no result. Callbacks run in the order in
--      which they were asked for, and they may not wait.
-- Usage: moonloop examples/scheduling_call_soon.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

loop:call_soon(print, "first, with arguments:", 1, nil, 3)
loop:call_soon(function()
  print("second, which asks for a fourth")
  loop:call_soon(print, "fourth")
end)
loop:call_soon(print, "third")

print("nothing has run yet")
moonloop.sleep(0.01)
print("all have run")
