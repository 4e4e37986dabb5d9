-- SPDX-License-Identifier: MIT
-- What: in a cancelled scope every wait raises, also one that could be over at once.
-- Why: code that catches everything cannot lose a cancellation: the next wait brings it back, until
--      the scope is left. Behind it, the task waits as before.
-- Usage: moonloop examples/cancellation_stays.lua
local moonloop = require "moonloop"

local queue = moonloop.Queue()
queue:put("a parcel")

local function try(what, fn, ...)
  local ok, e = pcall(fn, ...)
  print("  " .. what .. ": " .. (ok and "fine" or e.kind))
end

local scope = moonloop.CancelScope()
print("in the scope:")
local finished = scope:run(function()
  try("sleep before", moonloop.sleep, 0)
  scope:cancel()
  try("sleep", moonloop.sleep, 0)
  try("sleep again", moonloop.sleep, 0)
  try("get from a queue with something in it", queue.get, queue)
  try("something that does not wait", queue.qsize, queue)
  moonloop.sleep(0)
end)
print("finished: " .. tostring(finished))
print("behind the scope:")
try("sleep", moonloop.sleep, 0)
try("get", queue.get, queue)
