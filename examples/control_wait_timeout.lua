-- SPDX-License-Identifier: MIT
-- What: waiting for several tasks for a limited time, then cancelling those still pending.
-- Why: wait cancels nothing, so what is pending goes on until somebody ends it. Cancelling a task
--      only asks it to end: waiting for it once more lets its clean-up finish.
-- Usage: moonloop examples/control_wait_timeout.lua
local moonloop = require "moonloop"

local function download(name, seconds)
  local _ <close> = moonloop.defer(function()
    moonloop.sleep(0.01)
    print("  " .. name .. ": file closed")
  end)
  moonloop.sleep(seconds)
  return name .. " is complete"
end

local tasks = {
  moonloop.create_task(download, "map", 0.01),
  moonloop.create_task(download, "atlas", 10),
  moonloop.create_task(download, "encyclopedia", 20),
}

local done, pending = moonloop.wait(tasks, { timeout = 0.1 })
print("done: " .. #done .. ", pending: " .. #pending)
for _, task in ipairs(done) do
  print(task:result())
end

for _, task in ipairs(pending) do
  task:cancel()
end
done, pending = moonloop.wait(pending)
print("ended now: " .. #done .. ", pending: " .. #pending)
for _, task in ipairs(done) do
  print("cancelled: " .. tostring(task:cancelled()))
end
