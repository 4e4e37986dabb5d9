-- SPDX-License-Identifier: MIT
-- What: moonloop.exit(status) ends the program with a status, unwinding every task first.
-- Why: os.exit ends the process at once and runs nobody's clean-up.
-- Usage: moonloop examples/concepts_exit.lua
local moonloop = require "moonloop"

moonloop.create_task(function()
  local _ <close> = moonloop.defer(function() print("background: cleaned up") end)
  moonloop.sleep_forever()
end)

local function deep_inside()
  local _ <close> = moonloop.defer(function() print("main: cleaned up") end)
  moonloop.sleep(0)
  moonloop.exit(0)
end

deep_inside()
print("never printed")
