-- SPDX-License-Identifier: MIT
-- What: moonloop.wait_for(awaitable, seconds) waits for one thing, but not for ever.
-- Why: when time is up it cancels what it waited for, lets the clean-up finish, and raises a
--      TimeoutError. To limit several calls of one's own, moonloop.timeout is plainer.
-- Usage: moonloop examples/control_wait_for.lua
local moonloop = require "moonloop"

local function reply(seconds)
  return function()
    local _ <close> = moonloop.defer(function() print("  the line is closed") end)
    moonloop.sleep(seconds)
    return "a reply"
  end
end

print("got: " .. moonloop.wait_for(reply(0.01), 1))

local ok, e = pcall(moonloop.wait_for, reply(10), 0.02)
print(ok, e.kind)

-- A task and a future may be waited for like this, too; nil is no limit.
local task = moonloop.create_task(reply(0.01))
print("got: " .. moonloop.wait_for(task, nil))
