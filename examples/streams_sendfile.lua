-- SPDX-License-Identifier: MIT
-- What: stream:sendfile(file, offset, count) sends a file, or a part of it.
-- Why: on a plain socket the system moves the bytes itself, and none of them passes through Lua: a
--      file of any size takes no memory. Where that cannot be done, it reads and writes instead.
-- Usage: moonloop examples/streams_sendfile.lua
local moonloop = require "moonloop"

local path = os.tmpname()
local _ <close> = moonloop.defer(function() os.remove(path) end)
do
  local file <close> = assert(io.open(path, "w"))
  for i = 1, 100000 do
    file:write(("%7d\n"):format(i))
  end
end

local server <close> = moonloop.start_server(function(stream)
  print("whole file", stream:sendfile(path))
  print("two lines", stream:sendfile(path, 8 * 41, 8 * 2)) -- offset and count, in bytes
  local file <close> = assert(io.open(path))
  print("open file", stream:sendfile(file, 8 * 99999)) -- from there to its end
end, "127.0.0.1", 0)

local stream <close> = moonloop.connect("127.0.0.1", server:port())
local lines = {}
for line in stream:lines() do
  lines[#lines + 1] = line
end
print("lines received", #lines)
print("the last ones", table.unpack(lines, #lines - 2))
