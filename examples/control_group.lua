-- SPDX-License-Identifier: MIT
-- What: a TaskGroup: tasks that belong to a block, which is not left before they have ended.
-- Why: nothing outlives the block: whoever reads it knows that below its `end` no child is running
--      any more. Children may start further ones in the same group.
-- Usage: moonloop examples/control_group.lua
local moonloop = require "moonloop"

local function dig(group, depth)
  moonloop.sleep(0.01)
  print("  dug at depth " .. depth)
  if depth < 3 then
    group:create_task(dig, group, depth + 1)
  end
  return depth * 10
end

do
  local group <close> = moonloop.TaskGroup()
  local first = group:create_task(dig, group, 1)
  group:create_task({ name = "watcher" }, function()
    moonloop.sleep(0.1)
    print("  the watcher has seen it all")
  end)
  print("two children are made; the first one's result: " .. first:await())
  print("the body comes to its end")
end
print("all children have ended")
