-- SPDX-License-Identifier: MIT
-- What: a result and a cancellation, or a deadline, that come in the same turn of the loop.
-- Why: what is there already when the cancellation comes is delivered, so nothing is lost between
--      the two. The cancellation follows at the next wait.
-- Usage: moonloop examples/cancellation_same_turn.lua
local moonloop = require "moonloop"

local function opener(answer)
  print("  got " .. answer:await())
  moonloop.sleep(0)
  print("  went on")
end

local function attempt(what, first, second)
  print(what .. ":")
  local answer = moonloop.Future()
  local task = moonloop.create_task(opener, answer)
  moonloop.sleep(0)
  first(task, answer)
  second(task, answer)
  moonloop.wait { task }
  print("  cancelled: " .. tostring(task:cancelled()))
end

local function cancel(task) task:cancel() end
local function set(_, answer) answer:set_result("the answer") end

attempt("the result first", set, cancel)
attempt("the cancellation first", cancel, set)
