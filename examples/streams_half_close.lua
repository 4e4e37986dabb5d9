-- SPDX-License-Identifier: MIT
-- What: write_eof ends our side of a connection; the other side may still answer.
-- Why: "that was all" needs no length and no marker. The reader sees end of file and knows that it
--      has everything.
-- Usage: moonloop examples/streams_half_close.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  local words = {}
  for line in stream:lines() do
    words[#words + 1] = line
  end
  table.sort(words) -- can be done only when all of them are there
  stream:write(table.concat(words, " "), "\n")
end, "127.0.0.1", 0)

local stream <close> = moonloop.connect("127.0.0.1", server:port())
for _, word in ipairs { "moon", "earth", "sun" } do
  stream:write(word, "\n")
end
stream:write_eof()
io.write(stream:readline())
