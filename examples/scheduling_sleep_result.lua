-- SPDX-License-Identifier: MIT
-- What: moonloop.sleep(seconds, value) returns the value when it wakes.
-- Why: it is a stand-in for anything slow that answers, handy while trying things out.
-- Usage: moonloop examples/scheduling_sleep_result.lua
local moonloop = require "moonloop"

print("answer: " .. moonloop.sleep(0.01, "forty-two"))

local slow = moonloop.create_task(moonloop.sleep, 0.04, "slow")
local quick = moonloop.create_task(moonloop.sleep, 0.02, "quick")
print(slow:await() .. " and " .. quick:await())
