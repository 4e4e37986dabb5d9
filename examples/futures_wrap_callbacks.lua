-- SPDX-License-Identifier: MIT
-- What: an API that calls back, turned into a function that waits.
-- Why: a future is all it takes: the callback sets it, the caller awaits it.
-- Usage: moonloop examples/futures_wrap_callbacks.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

-- Somebody else's library: it takes a callback for success and one for failure.
local function measure(what, on_value, on_failure)
  loop:call_later(0.01, function()
    if what == "height" then
      on_value(384400)
    else
      on_failure("cannot measure " .. what)
    end
  end)
end

local function measured(what)
  local future = moonloop.Future()
  measure(what, function(value) future:set_result(value) end,
    function(message) future:set_error(message) end)
  return future:await()
end

print("height: " .. measured("height"))
print("colour:", pcall(measured, "colour"))
