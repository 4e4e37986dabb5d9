-- SPDX-License-Identifier: MIT
-- What: a context variable has a value of its own in every task.
-- Why: a task starts with a copy of its creator's values, so something like a request number
--      reaches every function below without being passed on, and tasks never see each other's.
-- Usage: moonloop examples/tasks_context.lua
local moonloop = require "moonloop"

local request = moonloop.ContextVar("request", "none")

local function log(message)
  print("[" .. request:get() .. "] " .. message)
end

local function handle(id, seconds)
  request:set(id)
  log("begins")
  moonloop.sleep(seconds)
  local child = moonloop.create_task(log, "a child task inherits the value")
  child:await()
  log("ends")
end

local first = moonloop.create_task(handle, "request 1", 0.01)
local second = moonloop.create_task(handle, "request 2", 0.1)
first:await()
second:await()
log("the main task's value never changed")

local token = request:set("temporary")
log("set")
request:reset(token)
log("reset")
