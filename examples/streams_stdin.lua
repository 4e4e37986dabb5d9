-- SPDX-License-Identifier: MIT
-- What: moonloop.stdin and moonloop.stdout are Streams on the standard descriptors.
-- Why: io.read stops the whole program until somebody has typed a line; here only the task that
--      reads waits. Nothing about the descriptors changes for other programs that have them too.
-- Usage: printf 'one\ntwo\nthree\n' | moonloop examples/streams_stdin.lua
--        or type lines, and Ctrl-D at the end
local moonloop = require "moonloop"

local seconds = 0
local clock = moonloop.create_task(function()
  while true do
    moonloop.sleep(1)
    seconds = seconds + 1
  end
end)

for line in moonloop.stdin:lines() do
  moonloop.stdout:write(("after %d s: %s\n"):format(seconds, line:upper()))
end
clock:cancel()
print("end of file")
