-- SPDX-License-Identifier: MIT
-- What: cancelling a future, and cancelling a task that waits for one.
-- Why: a cancelled future wakes its waiters with a CancelledError. A cancelled waiter only stops
--      waiting: the future is untouched and others may still get its result.
-- Usage: moonloop examples/futures_cancel.lua
local moonloop = require "moonloop"

local function wait_for(future)
  local ok, value = pcall(future.await, future)
  return ok and value or value.kind
end

local first = moonloop.Future()
local waiter = moonloop.create_task(wait_for, first)
moonloop.sleep(0)
first:cancel()
print("waiter of a cancelled future got: " .. waiter:await())
print("the future is cancelled: " .. tostring(first:cancelled()))

local second = moonloop.Future()
local impatient = moonloop.create_task(wait_for, second)
local patient = moonloop.create_task(wait_for, second)
moonloop.sleep(0)
impatient:cancel()
print("cancelled waiter got: " .. impatient:await())
print("the future is cancelled: " .. tostring(second:cancelled()))
second:set_result("the result")
print("the other waiter got: " .. patient:await())
