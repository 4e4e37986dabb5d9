-- SPDX-License-Identifier: MIT
-- What: queue:shutdown() says that nothing more will come.
-- Why: what is in the queue is still handed out, then get raises QueueShutDown and `for ... in
--      queue:iter()` ends. put raises at once. shutdown(true) drops what is in the queue as well.
-- Usage: moonloop examples/synchronization_queue_shutdown.lua
local moonloop = require "moonloop"

local function kind_of_error(...)
  local ok, e = pcall(...)
  return ok and "none" or e.kind
end

local orders = moonloop.Queue()
orders:put("tea")
orders:put("cake")
orders:shutdown()
print("error of put: " .. kind_of_error(orders.put, orders, "coffee"))
for order in orders:iter() do
  print("served: " .. order)
end
print("error of get: " .. kind_of_error(orders.get, orders))

-- Who waits is woken on both sides.
local narrow = moonloop.Queue(1)
narrow:put("first")
local putter = moonloop.create_task(narrow.put, narrow, "second")
moonloop.sleep(0)
narrow:shutdown(true)
print("error of the waiting put: " .. kind_of_error(putter.await, putter))
print("left: " .. narrow:qsize())
