-- SPDX-License-Identifier: MIT
-- What: one task reads a Stream at a time; a second one gets an error that names the first.
-- Why: two readers would tear each other's lines apart. Writing is another matter: tasks that
--      write at the same time take turns, and each write stays in one piece.
-- Usage: moonloop examples/streams_one_reader.lua
local moonloop = require "moonloop"

local here, there = moonloop.socketpair()

local first = moonloop.create_task({ name = "first" }, function()
  return there:readline()
end)
moonloop.sleep(0)
local ok, e = pcall(there.readline, there)
print(ok, e.kind, e.message:find("'first'", 1, true) ~= nil)

moonloop.gather(
  function() here:write("one ", "line\n") end,
  function() here:write("another ", "line\n") end)
io.write(first:await(), there:readline())
here:close()
there:close()
