-- SPDX-License-Identifier: MIT
-- What: a Semaphore lets a number of tasks in at a time; a BoundedSemaphore minds its bound.
-- Why: a server that is asked by a thousand tasks at once answers none of them well. Make as many
--      tasks as there is work, and let the semaphore hold them back.
-- Usage: moonloop examples/synchronization_semaphore.lua
local moonloop = require "moonloop"

local docks = moonloop.Semaphore(2, { name = "docks" })
local busy, most = 0, 0

local function ship(number)
  local _ <close> = docks:acquire()
  busy = busy + 1
  most = math.max(most, busy)
  moonloop.sleep(0.01)
  busy = busy - 1
  return number
end

local ships = {}
for i = 1, 6 do
  ships[i] = function() return ship(i) end
end
print("unloaded: " .. table.concat(moonloop.gather(ships), ", "))
print("at the docks at the same time, at most: " .. most)

-- A permit released twice is a mistake that a BoundedSemaphore finds.
local tokens = moonloop.BoundedSemaphore(1)
tokens:acquire()
tokens:release()
local ok, e = pcall(tokens.release, tokens)
print(ok, e.kind)
