-- SPDX-License-Identifier: MIT
-- What: call_soon, call_later and call_at give a handle, and handle:cancel() takes the call back.
-- Why: a timeout that is no longer needed must not fire.
-- Usage: moonloop examples/scheduling_cancel_handle.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local kept = loop:call_later(0.01, print, "kept: runs")
local dropped = loop:call_later(0.01, print, "dropped: never runs")
dropped:cancel()

print("kept is cancelled: " .. tostring(kept:cancelled()))
print("dropped is cancelled: " .. tostring(dropped:cancelled()))
moonloop.sleep(0.03)
