-- SPDX-License-Identifier: MIT
-- What: the ways to read from a Stream: a line, up to a separator, so many bytes, some bytes, all.
-- Why: each waits for just what it needs and leaves the rest for the next one; at end of file they
--      give nil, and only read() without a number gives "".
-- Usage: moonloop examples/streams_read.lua
local moonloop = require "moonloop"

local function show(what, value)
  print(what, value and ("%q"):format(value):gsub("\\\n", "\\n") or "nil")
end

local here, there = moonloop.socketpair()
moonloop.create_task(function()
  for _, piece in ipairs { "title: a wa", "lk\nkey=value; 00", "0 rest", " of it" } do
    here:write(piece)
    moonloop.sleep(0.01) -- it comes in pieces, as from a network
  end
  here:close()
end)

show("readline", there:readline())
show("readuntil =", there:readuntil("="))
show("readuntil ; or ,", there:readuntil { ";", "," })
show("readexactly 4", there:readexactly(4))
show("read", there:read())
show("read again", there:read())
show("readline", there:readline())
show("read 10", there:read(10))
print("at_eof", there:at_eof())
there:close()
