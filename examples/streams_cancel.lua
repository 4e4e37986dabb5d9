-- SPDX-License-Identifier: MIT
-- What: a read that is cancelled has consumed nothing; a write that is cancelled has sent nothing.
-- Why: a time limit on a read is harmless. What had come by then is there for the next read.
-- Usage: moonloop examples/streams_cancel.lua
local moonloop = require "moonloop"

local here, there = moonloop.socketpair()
here:write("half a li")

local ok, e = pcall(moonloop.wait_for, function() return there:readline() end, 0.02)
print(ok, e.kind)

here:write("ne\n")
io.write(there:readline())
here:close()
there:close()
