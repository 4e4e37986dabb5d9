-- SPDX-License-Identifier: MIT
-- What: the order in which a protocol's methods are called, and what an error in one of them does.
-- Why: connection_made comes first, connection_lost last and once, never one within another. An
--      error is reported and ends this connection only.
-- Usage: moonloop examples/protocols_order.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

loop:set_exception_handler(function(_, context)
  print("reported", context.message)
end)

local Careful = moonloop.Protocol:extend {}

function Careful:connection_made(transport)
  print("connection_made")
  self.transport, self.ended = transport, moonloop.Future()
  self.begun = moonloop.Event()
end

function Careful:data_received(data)
  print("data_received", data)
  self.begun:set()
  if data == "boo" then
    error("that was loud", 0)
  end
end

function Careful.eof_received()
  print("eof_received")
  return false -- true would keep our side open
end

function Careful:connection_lost(err)
  print("connection_lost", err)
  self.ended:set_result()
end

local function talk(finish)
  local made = moonloop.Future()
  local server <close> = loop:create_server(function()
    local protocol = Careful:new()
    made:set_result(protocol)
    return protocol
  end, "127.0.0.1", 0)
  local stream <close> = moonloop.connect("127.0.0.1", server:port())
  stream:write("hello")
  local protocol = made:await()
  protocol.begun:wait()
  finish(stream)
  protocol.ended:await()
end

talk(function(stream) stream:write_eof() end)
print()
talk(function(stream) stream:write("boo") end)
