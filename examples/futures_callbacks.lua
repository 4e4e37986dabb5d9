-- SPDX-License-Identifier: MIT
-- What: future:add_done_callback(fn) calls fn(future) once the future is done.
-- Why: a callback needs no task of its own. The loop always runs it later, never inside the setter,
--      so whoever sets the result is not interrupted.
-- Usage: moonloop examples/futures_callbacks.lua
local moonloop = require "moonloop"

local future = moonloop.Future()
future:add_done_callback(function(f) print("first callback: " .. f:result()) end)
future:add_done_callback(function(f) print("second callback: " .. f:result()) end)

future:set_result("ready")
print("the result is set, no callback has run")
moonloop.sleep(0)

print("a callback may come late")
future:add_done_callback(function(f) print("third callback: " .. f:result()) end)
moonloop.sleep(0)
