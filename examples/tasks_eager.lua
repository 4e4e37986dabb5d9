-- SPDX-License-Identifier: MIT
-- What: a task with eager_start runs at once, up to its first wait.
-- Why: often there is nothing to wait for (the answer is in a cache); then the task is done before
--      create_task returns and never goes through the loop.
-- Usage: moonloop examples/tasks_eager.lua
local moonloop = require "moonloop"

local cache = { earth = 12742 }

local function diameter(name)
  print("  looking up " .. name)
  if not cache[name] then
    moonloop.sleep(0.01) -- as if asking somebody
    cache[name] = 3474
  end
  return cache[name]
end

local known = moonloop.create_task({ eager_start = true }, diameter, "earth")
print("earth: done at once: " .. tostring(known:done()))
local unknown = moonloop.create_task({ eager_start = true }, diameter, "luna")
print("luna: done at once: " .. tostring(unknown:done()))
print(known:result(), unknown:await())
