-- SPDX-License-Identifier: MIT
-- What: moonloop.as_completed gives tasks in the order in which they end.
-- Why: whatever comes first is dealt with first. Leaving the loop early cancels what it made itself
--      (tasks made from functions) and waits for it; tasks that it was given go on.
-- Usage: moonloop examples/control_as_completed.lua
local moonloop = require "moonloop"

local function answer(name, seconds)
  return function()
    local ok, e = pcall(moonloop.sleep, seconds)
    if not ok then
      print("  " .. name .. " hangs up")
      error(e, 0) -- it is cancelled
    end
    return name .. " answers"
  end
end

for task in moonloop.as_completed { answer("far", 0.03), answer("near", 0.01),
    answer("middle", 0.02) } do
  print(task:result())
end

print("until one is quick:")
for task in moonloop.as_completed { answer("slow", 10), answer("quick", 0.01) } do
  local line = task:result()
  print(line)
  if line:find "quick" then
    break
  end
end
print("nobody is left on the line")
