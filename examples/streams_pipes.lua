-- SPDX-License-Identifier: MIT
-- What: connect_read_pipe and connect_write_pipe make a Stream of a pipe: a descriptor, or a file
--       from io.popen or io.open.
-- Why: reading from such a file as such would stop the whole program until there is something.
-- Usage: moonloop examples/streams_pipes.lua
local moonloop = require "moonloop"

local function show(command)
  local stream <close> = moonloop.connect_read_pipe(io.popen(command))
  for line in stream:lines() do
    print(line)
  end
end

print "two programs at once"
moonloop.gather(
  function() show "echo one; sleep 0.6; echo three" end,
  function() show "sleep 0.3; echo two; sleep 0.6; echo four" end)

print "sorted by a program"
io.stdout:flush() -- what we have printed comes before what sort prints
local program = io.popen("sort", "w")
do
  local stream <close> = moonloop.connect_write_pipe(program)
  stream:write("moon\n", "earth\n", "sun\n")
end
print("it has ended", program:close()) -- its pipe is closed; this waits for its exit status
