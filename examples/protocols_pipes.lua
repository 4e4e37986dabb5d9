-- SPDX-License-Identifier: MIT
-- What: loop:connect_read_pipe and loop:connect_write_pipe give a protocol a pipe.
-- Why: the same protocol that serves a connection can serve a program's output.
-- Usage: moonloop examples/protocols_pipes.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local Collect = moonloop.Protocol:extend {}

function Collect:connection_made()
  self.pieces, self.all = {}, moonloop.Future()
end

function Collect:data_received(data)
  table.insert(self.pieces, data)
end

function Collect:connection_lost()
  self.all:set_result(table.concat(self.pieces))
end

local _, output = loop:connect_read_pipe(Collect, io.popen("echo one; sleep 0.05; echo two"))
io.write(output.all:await())

io.stdout:flush() -- what we have printed comes before what sort prints
local program = io.popen("sort", "w")
local transport, writer = loop:connect_write_pipe(Collect, program)
transport:writelines { "moon\n", "earth\n", "sun\n" }
transport:close() -- when all is sent; connection_lost tells
writer.all:await()
program:close() -- sort sees the end of its input; this waits until it has ended
