-- SPDX-License-Identifier: MIT
-- What: three ways to catch errors around a wait: pcall, moonloop.pcall, and pcall that passes a
--       cancellation on.
-- Why: Lua's pcall catches a cancellation like any error. That does no lasting harm, but the code
--      behind it runs on as if something had failed. moonloop.pcall catches the failures alone.
-- Usage: moonloop examples/cancellation_pcall.lua
local moonloop = require "moonloop"

local function with_pcall()
  local ok = pcall(moonloop.sleep, 10)
  print("  behind pcall: " .. tostring(ok))
  moonloop.sleep(0)
  print("  not reached: this wait raises again")
end

local function with_moonloop_pcall()
  print("  a failure is caught:", moonloop.pcall(error, "out of paper", 0))
  moonloop.pcall(moonloop.sleep, 10)
  print("  not reached: the cancellation has passed through")
end

local function with_a_second_look()
  local ok, e = pcall(moonloop.sleep, 10)
  if moonloop.is_error(e, "CancelledError") then
    print("  told to stop: " .. e.message)
    error(e, 0)
  end
  print("  not reached", ok)
end

local function cancelled(what, fn)
  print(what .. ":")
  local task = moonloop.create_task(fn)
  moonloop.sleep(0)
  task:cancel("the shop is closing")
  moonloop.wait { task }
  print("  cancelled: " .. tostring(task:cancelled()))
end

cancelled("pcall", with_pcall)
cancelled("moonloop.pcall", with_moonloop_pcall)
cancelled("pcall and a second look", with_a_second_look)
