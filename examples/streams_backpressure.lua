-- SPDX-License-Identifier: MIT
-- What: write waits while the other side is behind; try_write says no instead of waiting.
-- Why: a program that writes faster than its peer reads cannot fill its memory. Where waiting is
--      wrong, as with one slow listener among many, try_write lets the program choose.
-- Usage: moonloop examples/streams_backpressure.lua
local moonloop = require "moonloop"

local here, there = moonloop.socketpair()
local piece = ("x"):rep(65536)

local sent = 0
while here:try_write(piece) do -- nobody reads
  sent = sent + #piece
end
print("try_write says no before 100 MB", sent < 100e6)

local writer = moonloop.create_task(function()
  here:write("the end") -- waits for room
  print("written")
  here:close()
end)
moonloop.sleep(0.01)
print("the writer waits", not writer:done())

there:readexactly(sent) -- makes room
writer:await()
print(there:read())
there:close()
