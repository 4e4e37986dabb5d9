-- SPDX-License-Identifier: MIT
-- What: an echo server and its client as protocols: objects whose methods the loop calls.
-- Why: it is the layer for those who think in callbacks, and for protocols written for asyncio. A
--      protocol has no task of its own; the loop calls it whenever something has happened.
-- Usage: moonloop examples/protocols_echo.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local Echo = moonloop.Protocol:extend {}

function Echo:connection_made(transport)
  self.transport = transport
end

function Echo:data_received(data)
  self.transport:write(data)
end

local Client = moonloop.Protocol:extend { message = "anybody there?" }

function Client:connection_made(transport)
  self.transport = transport
  self.ended = moonloop.Future()
  transport:write(self.message)
end

function Client:data_received(data)
  print("received", data)
  self.transport:close()
end

function Client:connection_lost(err)
  print("connection lost", err)
  self.ended:set_result()
end

local server <close> = loop:create_server(Echo, "127.0.0.1", 0)
local _, client = loop:create_connection(Client, "127.0.0.1", server:port())
client.ended:await()
