-- SPDX-License-Identifier: MIT
-- What: a line that is longer than the limit raises LimitOverrunError, and is still there.
-- Why: the limit keeps a peer from filling our memory. Since nothing is lost, the program may
--      read the data in another way and go on.
-- Usage: moonloop examples/streams_limit.lua
local moonloop = require "moonloop"

local here, there = moonloop.socketpair { limit = 20 }
here:write("short\n", ("long "):rep(10), "\n", "short again\n")
here:close()

-- Reads away what is left of a line, piece by piece.
local function skip_line(stream)
  repeat
    local piece = stream:peek(20)
    local stop = piece and piece:find("\n", 1, true)
    stream:read(stop or 20)
  until stop or not piece
end

repeat
  local ok, line = moonloop.pcall(there.readline, there)
  if ok then
    io.write(line or "end of file\n")
  elseif moonloop.is_error(line, "LimitOverrunError") then
    print(line.kind)
    skip_line(there)
  else
    error(line, 0)
  end
until not line
there:close()
