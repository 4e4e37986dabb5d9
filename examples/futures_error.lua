-- SPDX-License-Identifier: MIT
-- What: a future can carry an error instead of a result; waiting for it raises that error.
-- Why: whoever waits learns of the failure in the same place where it would have got the result.
-- Usage: moonloop examples/futures_error.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local future = moonloop.Future()
loop:call_later(0.01, function()
  future:set_error(moonloop.TimeoutError:new("the probe did not answer"))
end)

local ok, e = pcall(future.await, future)
print("succeeded: " .. tostring(ok))
print("kind: " .. e.kind)
print("message: " .. e.message)
print("the future keeps it: " .. tostring(future:error() == e))

-- Any Lua value can be an error, as with Lua's own error().
local plain = moonloop.Future()
plain:set_error("just a string")
print("plain:", pcall(plain.await, plain))
