-- SPDX-License-Identifier: MIT
-- What: a Future is a place for a result that is not there yet; await it to get the result.
-- Why: it joins the part of a program that waits with the part that will know.
-- Usage: moonloop examples/futures_wait.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local future = moonloop.Future()
print("done: " .. tostring(future:done()))

loop:call_later(0.01, function()
  print("setting the result")
  future:set_result("the result", 42) -- any number of values
end)

print("waiting")
print(future:await())
print("done: " .. tostring(future:done()))
print("again:", future:result())
