-- SPDX-License-Identifier: MIT
-- What: future:remove_done_callback(fn) takes callbacks back and returns how many there were.
-- Why: whoever loses interest before the result comes need not be told.
-- Usage: moonloop examples/futures_remove_callback.lua
local moonloop = require "moonloop"

local function told() print("told") end
local function told_twice() print("told, though added twice and removed") end

local future = moonloop.Future()
future:add_done_callback(told)
future:add_done_callback(told_twice)
future:add_done_callback(told_twice)

print("removed: " .. future:remove_done_callback(told_twice))
print("removed again: " .. future:remove_done_callback(told_twice))
future:set_result()
moonloop.sleep(0)
