-- SPDX-License-Identifier: MIT
-- What: loop:call_at(when, fn, ...) runs a function at a moment on the loop's clock.
-- Why: moments, unlike delays, can be compared and shared. Calls for the same moment run in the
--      order in which they were made.
-- Usage: moonloop examples/scheduling_call_at.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local start = loop:time()
loop:call_at(start + 0.04, print, "at 0.04: made first, runs third")
loop:call_at(start + 0.02, print, "at 0.02: made second, runs first")
loop:call_at(start + 0.02, print, "at 0.02: made third, runs second")

local handle = loop:call_at(start + 0.06, print, "at 0.06")
print("the handle knows when: " .. tostring(handle:when() == start + 0.06))

moonloop.sleep_until(start + 0.1)
