-- SPDX-License-Identifier: MIT
-- What: for piece in stream:chunks(n) goes through what comes, n bytes at most at a time.
-- Why: it takes things as they come, so a large transfer needs the memory of one piece only.
-- Usage: moonloop examples/streams_chunks.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  for i = 1, 1000 do
    stream:write(("%04d"):format(i):rep(250)) -- waits when the other side is behind
  end
end, "127.0.0.1", 0)

local stream <close> = moonloop.connect("127.0.0.1", server:port())
local total, longest = 0, 0
for piece in stream:chunks(4096) do
  total = total + #piece
  longest = math.max(longest, #piece)
end
print("bytes", total)
print("no piece above 4096", longest <= 4096)
