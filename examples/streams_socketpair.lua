-- SPDX-License-Identifier: MIT
-- What: moonloop.socketpair() gives two Streams: what one writes, the other reads.
-- Why: it tries out a handler with no server and no port, and joins two parts of a program that
--      both speak Stream.
-- Usage: moonloop examples/streams_socketpair.lua
local moonloop = require "moonloop"

local function handler(stream)
  for line in stream:lines() do
    stream:write(line:len(), "\n")
  end
  stream:close()
end

local ours, theirs = moonloop.socketpair()
moonloop.create_task(handler, theirs)
ours:write("four\n", "seventeen letters\n")
ours:write_eof()
for answer in ours:lines() do
  print(answer)
end
ours:close()
