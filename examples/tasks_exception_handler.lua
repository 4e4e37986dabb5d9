-- SPDX-License-Identifier: MIT
-- What: the exception handler, which hears of every error that has nobody else to go to.
-- Why: a callback that raises does not stop the loop. A program may have its own way to report: a
--      log file, a counter, a message to somebody.
-- Usage: moonloop examples/tasks_exception_handler.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

loop:set_exception_handler(function(_, context)
  print("handler: " .. context.error)
end)

loop:call_soon(error, "from a callback", 0)
local future = moonloop.Future()
future:add_done_callback(function() error("from a done-callback", 0) end)
future:set_result()
moonloop.sleep(0)

-- A program may use it too.
loop:call_exception_handler { message = "no task of ours", error = "from the program itself" }
loop:set_exception_handler(nil) -- back to the default: a report on standard error
print("the loop still runs: " .. tostring(loop:is_running()))
