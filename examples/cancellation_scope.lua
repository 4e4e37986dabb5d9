-- SPDX-License-Identifier: MIT
-- What: a CancelScope: a part of a task that can be cancelled while the rest of the task goes on.
-- Why: task:cancel() ends a whole task. A scope ends what runs inside scope:run(fn), from anywhere,
--      and run tells whether fn came to its end.
-- Usage: moonloop examples/cancellation_scope.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local function play(song)
  for bar = 1, math.huge do
    print("  " .. song .. ", bar " .. bar)
    moonloop.sleep(bar < 3 and 0.01 or 10)
  end
end

local scope = moonloop.CancelScope()
loop:call_later(0.1, function() scope:cancel("enough of that") end) -- as if a key was pressed
print("finished:", scope:run(play, "the long song"))
print("cancelled: " .. tostring(scope.cancel_called) .. ", " .. tostring(scope.cancelled_caught))

local other = moonloop.CancelScope { deadline = moonloop.time() + 1 }
print("finished:", other:run(function() return "the short song", 7 end))
print("cancelled: " .. tostring(other.cancel_called) .. ", " .. tostring(other.cancelled_caught))
