-- SPDX-License-Identifier: MIT
-- What: a task that was cancelled stays cancelled, whatever it catches.
-- Why: a pcall around a waiting call would swallow the cancellation, and the program would never
--      end. Here the next waiting call raises it again. A task that really means to go on says so,
--      by uncancel().
-- Usage: moonloop examples/tasks_cancel_stays.lua
local moonloop = require "moonloop"

local function stubborn()
  for attempt = 1, 3 do
    local ok, e = pcall(moonloop.sleep, 0.01)
    print("stubborn, wait " .. attempt .. ": " .. (ok and "slept" or e.kind))
  end
end

local function persuasive()
  for attempt = 1, 3 do
    local ok, e = pcall(moonloop.sleep, 0.01)
    print("persuasive, wait " .. attempt .. ": " .. (ok and "slept" or e.kind))
    if not ok then
      print("persuasive, requests left: " .. moonloop.current_task():uncancel())
    end
  end
  return "finished all the same"
end

local first = moonloop.create_task(stubborn)
moonloop.sleep(0)
first:cancel()
first:await() -- it swallowed its cancellation and returned, so this raises nothing
print("stubborn is cancelled: " .. tostring(first:cancelled()))

local second = moonloop.create_task(persuasive)
moonloop.sleep(0)
second:cancel()
print("persuasive: " .. second:await())
