-- SPDX-License-Identifier: MIT
-- What: loop:add_reader(fd, fn) calls a function whenever a descriptor has something to read.
-- Why: it is the door for descriptors that other libraries own. Streams are built for most of what
--      one would do with it.
-- Usage: printf 'one\ntwo\nthree\n' | moonloop examples/scheduling_add_reader.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

io.stdin:setvbuf("no") -- a line kept in C's buffer would not make the descriptor readable again

local ended = moonloop.Future()
loop:add_reader(0, function()
  local line = io.read("l")
  if line then
    print("readable: " .. line)
  else
    loop:remove_reader(0)
    ended:set_result("end of file")
  end
end)

print("waiting for standard input")
print(ended:await())
