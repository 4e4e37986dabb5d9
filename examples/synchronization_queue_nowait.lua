-- SPDX-License-Identifier: MIT
-- What: put_nowait and get_nowait never wait: they raise QueueFull and QueueEmpty instead.
-- Why: a callback of the loop cannot wait; and sometimes it is better to drop an item, or to do
--      something else, than to wait.
-- Usage: moonloop examples/synchronization_queue_nowait.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local samples = moonloop.Queue(3)
local dropped = 0

for i = 1, 5 do
  loop:call_soon(function()
    local ok, e = pcall(samples.put_nowait, samples, i)
    if not ok and moonloop.is_error(e, "QueueFull") then
      dropped = dropped + 1
    end
  end)
end
moonloop.sleep(0.01)
print("full: " .. tostring(samples:full()) .. ", dropped: " .. dropped)

while not samples:empty() do
  print("sample " .. samples:get_nowait())
end
local _, e = pcall(samples.get_nowait, samples)
print(e.kind)
