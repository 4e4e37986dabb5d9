-- SPDX-License-Identifier: MIT
-- What: a protocol that cuts what it receives into lines.
-- Why: data_received is called with whatever has come, half a line or three; what is not complete
--      has to be kept until the rest is there. (A Stream does this by itself.)
-- Usage: moonloop examples/protocols_lines.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local Lines = moonloop.Protocol:extend {}

function Lines:connection_made(transport)
  self.transport, self.rest = transport, ""
end

function Lines:data_received(data)
  local text = self.rest .. data
  local first = 1
  for line, after in text:gmatch("([^\n]*)\n()") do
    self:line_received(line)
    first = after
  end
  self.rest = text:sub(first)
end

local Reverse = Lines:extend {} -- a class may be extended further

function Reverse:line_received(line)
  self.transport:write(line:reverse() .. "\n")
end

local server <close> = loop:create_server(Reverse, "127.0.0.1", 0)
local stream <close> = moonloop.connect("127.0.0.1", server:port()) -- the other end is a Stream
for _, piece in ipairs { "dess", "erts\nli", "ve\nlevel\n" } do
  stream:write(piece)
  moonloop.sleep(0.01)
end
stream:write_eof() -- without eof_received, the transport closes after it
for line in stream:lines() do
  print(line)
end
