-- SPDX-License-Identifier: MIT
-- What: a retry loop that swallows its cancellation, and how it ends all the same.
-- Why: `while true do pcall(...) end` is written in a minute and can never be told to stop. A task
--      that has swallowed 1,000 cancellations in one scope is reported and closed: its `<close>`
--      variables run. The right loop is written with moonloop.pcall, and ends at once.
-- Usage: moonloop examples/cancellation_retry_loop.lua
local moonloop = require "moonloop"

local function connect()
  moonloop.sleep(10)
end

local function endless(protected_call)
  local attempts = 0
  local _ <close> = moonloop.defer(function() print("  attempts: " .. attempts) end)
  while true do
    attempts = attempts + 1
    protected_call(connect)
  end
end

-- The report goes to the exception handler; this one prints it.
moonloop.get_running_loop():set_exception_handler(function(_, context)
  print("  reported: " .. context.message)
end)

local function cancelled(what, ...)
  print(what .. ":")
  local task = moonloop.create_task({ name = "retrying" }, endless, ...)
  moonloop.sleep(0.01)
  task:cancel()
  moonloop.wait { task }
  print("  cancelled: " .. tostring(task:cancelled()))
end

cancelled("with pcall", pcall)
cancelled("with moonloop.pcall", moonloop.pcall)
