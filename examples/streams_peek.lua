-- SPDX-License-Identifier: MIT
-- What: peek waits for the first bytes and leaves them where they are.
-- Why: a server can look at how a client begins and pick what is to read it: here one port serves
--      two protocols.
-- Usage: moonloop examples/streams_peek.lua
local moonloop = require "moonloop"

local function lines(stream)
  stream:write("a line: ", stream:readline())
end

local function binary(stream)
  local length = string.unpack(">xI2", stream:readexactly(3)) -- the zero is still there to be read
  stream:write("a message: ", stream:readexactly(length), "\n")
end

local server <close> = moonloop.start_server(function(stream)
  local handler = stream:peek(1) == "\0" and binary or lines
  handler(stream)
end, "127.0.0.1", 0)

local function ask(data)
  local stream <close> = moonloop.connect("127.0.0.1", server:port())
  stream:write(data)
  io.write(stream:readline())
end

ask "how do you do\n"
ask(string.pack(">xs2", "how do you do"))
