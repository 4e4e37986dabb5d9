-- SPDX-License-Identifier: MIT
-- What: several tasks wait for one future, and all get its result.
-- Why: it is the simplest signal: "it has happened, go on, all of you". They go on in the order in
--      which they came.
-- Usage: moonloop examples/futures_waiters.lua
local moonloop = require "moonloop"

local opened = moonloop.Future()

local function guest(name)
  print(name .. " waits")
  local door = opened:await()
  print(name .. " enters by the " .. door)
end

local tasks = {}
for i, name in ipairs { "fox", "hare", "mole" } do
  tasks[i] = moonloop.create_task(guest, name)
end

moonloop.sleep(0) -- lets them run up to their wait
print("the door opens")
opened:set_result("front door")
for _, task in ipairs(tasks) do
  task:await()
end
