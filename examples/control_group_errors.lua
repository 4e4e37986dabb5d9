-- SPDX-License-Identifier: MIT
-- What: a child that fails cancels its group; the failures leave it together, as an ErrorGroup.
-- Why: a job in parts is of no use when a part has failed, so the others stop at once. And two
--      parts may fail at the same time: no error is lost, and each keeps its own traceback.
-- Usage: moonloop examples/control_group_errors.lua
local moonloop = require "moonloop"

local FuelError = moonloop.Error:extend "FuelError"

local ignition = moonloop.Event()

local function engine(name, err)
  local _ <close> = moonloop.defer(function() print("  " .. name .. " is shut down") end)
  ignition:wait()
  if err then
    error(err, 0)
  end
  moonloop.sleep(10)
end

local function launch()
  local group <close> = moonloop.TaskGroup()
  group:create_task(engine, "first engine", FuelError:new("the tank is empty"))
  group:create_task(engine, "second engine", "a valve is stuck")
  group:create_task(engine, "third engine")
  moonloop.sleep(0.01)
  ignition:set()
  moonloop.sleep(10)
  print("not reached")
end

local ok, e = pcall(launch)
print(ok, e.kind, #e.errors)

local fuel, others = e:split("FuelError")
print("fuel: " .. fuel.errors[1].message)
print("others: " .. others.errors[1].message)
print("has timed out: " .. tostring(e:subgroup("TimeoutError") ~= nil))
