-- SPDX-License-Identifier: MIT
-- What: a LifoQueue gives the item that came last first.
-- Why: where only what is new counts, or for a pool: the connection that was used last is the one
--      most likely to be alive.
-- Usage: moonloop examples/synchronization_lifo_queue.lua
local moonloop = require "moonloop"

local pool = moonloop.LifoQueue(3, { name = "pool" })
for _, name in ipairs { "first", "second", "third" } do
  pool:put(name .. " connection")
end

local function use(seconds)
  local connection = pool:get()
  local _ <close> = moonloop.defer(function() pool:put(connection) end)
  print("using the " .. connection)
  moonloop.sleep(seconds)
end

use(0)
use(0)
print("two at a time:")
moonloop.gather(function() use(0.02) end, function() use(0.01) end)
print("the pool is full again: " .. tostring(pool:full()))
print("on top: " .. pool:get())
