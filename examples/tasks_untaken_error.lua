-- SPDX-License-Identifier: MIT
-- What: an error that nobody took is reported.
-- Why: a background task that fails must not fail in silence, nor end the program. Its error goes
--      to the loop's exception handler, which by default prints it on standard error with its
--      traceback; here a handler of our own prints one line.
-- Usage: moonloop examples/tasks_untaken_error.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

loop:set_exception_handler(function(_, context)
  print("handler: " .. context.error .. " (task " .. context.task:get_name() .. ")")
end)

moonloop.run(function()
  moonloop.create_task({ name = "taken" }, function() error("awaited by somebody", 0) end)
    :add_done_callback(function(task) print("callback: " .. task:error()) end)
  moonloop.create_task({ name = "lost" }, function() error("nobody is waiting", 0) end)
  moonloop.sleep(0.01)
  print("the end of the run")
end)
print("the program goes on")
