-- SPDX-License-Identifier: MIT
-- What: `moonloop.timeout_at(when)` limits a block to a moment instead of a duration.
-- Why: several steps may share one deadline, and each gets the time that the others have left.
-- Usage: moonloop examples/control_timeout_at.lua
local moonloop = require "moonloop"

local function step(name, seconds, deadline)
  local _ <close> = moonloop.timeout_at(deadline)
  moonloop.sleep(seconds)
  print(name .. " is done")
end

local deadline = moonloop.time() + 0.1
step("unpacking", 0.02, deadline)
step("assembling", 0.02, deadline)
local ok, e = pcall(step, "testing", 10, deadline)
print("testing is done: " .. tostring(ok) .. ", " .. e.kind)
