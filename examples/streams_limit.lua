-- SPDX-License-Identifier: MIT
-- What: a line that is longer than the limit raises LimitOverrunError, and is still there; the
--       error's `consumed` says how many bytes of it can be read without losing its end.
-- Why: the limit keeps a peer from filling our memory. Since nothing is lost, the program may
--      read the data in another way and go on: here it leaves out what is too long.
-- Usage: moonloop examples/streams_limit.lua
local moonloop = require "moonloop"

local here, there = moonloop.socketpair { limit = 20 }
here:write("short\n", ("long "):rep(10), "\n", "short again\n")
here:close()

-- The next line; of one that is too long only its size.
local function next_line(stream)
  local skipped = 0
  while true do
    local ok, line = moonloop.pcall(stream.readline, stream)
    if ok and skipped > 0 then
      return ("(a line of %d bytes)\n"):format(skipped + #(line or ""))
    elseif ok then
      return line
    elseif not moonloop.is_error(line, "LimitOverrunError") then
      error(line, 0)
    end
    skipped = skipped + #stream:read(line.consumed)
  end
end

for line in next_line, there do
  io.write(line)
end
there:close()
