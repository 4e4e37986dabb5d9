-- SPDX-License-Identifier: MIT
-- What: a function that waits is an ordinary function, called in the ordinary way.
-- Why: there is no `async` to declare and no `await` to write. Whatever has to wait suspends the
--      task that called it, however deep in the call.
-- Usage: moonloop examples/coroutines_start.lua
local moonloop = require "moonloop"

local function brew()
  print("the water boils")
  moonloop.sleep(0.02) -- suspends this task, and no other
  print("the tea is ready")
end

print("calling brew")
brew()
print("back from brew")
