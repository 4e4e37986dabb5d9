-- SPDX-License-Identifier: MIT
-- What: a function that waits returns its values like any other: several of them, nil included.
-- Why: waiting is no change of type. There is no promise to unpack.
-- Usage: moonloop examples/coroutines_return.lua
local moonloop = require "moonloop"

local function look_up(name)
  moonloop.sleep(0.01)
  if name == "luna" then
    return "moon", nil, 3474
  end
  return nil, "no such body"
end

print("called:", look_up("luna"))
print("called:", look_up("nibiru"))

local task = moonloop.create_task(look_up, "luna")
print("as a task:", task:await())
print("number of values:", select("#", task:result()))
