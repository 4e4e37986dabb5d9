-- SPDX-License-Identifier: MIT
-- What: queue:join() waits until every item was not only taken but dealt with.
-- Why: a consumer says so by task_done(). When join returns the work is done, and consumers that
--      would wait for more for ever can be cancelled.
-- Usage: moonloop examples/synchronization_queue_join.lua
local moonloop = require "moonloop"

local plates = moonloop.Queue()

local function washer(name)
  while true do
    local plate = plates:get()
    moonloop.sleep(0.01)
    print(name .. " has washed plate " .. plate)
    plates:task_done()
  end
end

for i = 1, 4 do
  plates:put(i)
end
moonloop.task_group(function(group)
  group:create_task(washer, "the bear")
  group:create_task(washer, "the stork")
  plates:join()
  print("every plate is clean")
  group:cancel()
end)

local ok, e = pcall(plates.task_done, plates)
print(ok, e.kind)
