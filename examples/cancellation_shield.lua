-- SPDX-License-Identifier: MIT
-- What: moonloop.shield(fn) holds a cancellation back until fn has returned.
-- Why: for the steps that must not be torn apart, and for clean-up that waits. A shield without an
--      end is a way to hang: CancelScope with shield and deadline gives it one.
-- Usage: moonloop examples/cancellation_shield.lua
local moonloop = require "moonloop"

local function commit()
  print("  writing the first half")
  moonloop.sleep(0.02)
  print("  writing the second half")
  return "committed"
end

local function transaction()
  print("  " .. moonloop.shield(commit))
  moonloop.sleep(0) -- the cancellation that was held back comes here
  print("  not reached")
end

local function goodbye()
  local _, e = pcall(moonloop.sleep, 10)
  local scope = moonloop.CancelScope { shield = true, deadline = moonloop.time() + 0.02 }
  print("  the other side has answered:", scope:run(moonloop.sleep, 10))
  error(e, 0)
end

local function cancelled(what, fn)
  print(what .. ":")
  local task = moonloop.create_task(fn)
  moonloop.sleep(0)
  task:cancel()
  moonloop.wait { task }
  print("  cancelled: " .. tostring(task:cancelled()))
end

cancelled("a shield", transaction)
cancelled("a shield with a deadline", goodbye)
