-- SPDX-License-Identifier: MIT
-- What: datagrams with protocols: a server that answers each one, and a client that asks.
-- Why: one object serves any number of peers; each datagram says where it came from. What the
--      network reports, as that nobody listens, comes to error_received.
-- Usage: moonloop examples/protocols_datagram.lua
local moonloop = require "moonloop"
local loop = moonloop.get_running_loop()

local Upper = moonloop.DatagramProtocol:extend {}

function Upper:connection_made(transport)
  self.transport = transport
end

function Upper:datagram_received(data, addr)
  self.transport:sendto(data:upper(), addr)
end

local Client = moonloop.DatagramProtocol:extend {}

function Client:connection_made(transport)
  self.transport, self.answer = transport, moonloop.Future()
  transport:sendto("is this the moon?")
end

function Client:datagram_received(data)
  self.answer:set_result(data)
end

function Client:error_received(err)
  self.answer:set_error(err)
end

local function ask(addr)
  local transport, client = loop:create_datagram_endpoint(Client, { remote_addr = addr })
  local _ <close> = moonloop.defer(function() transport:close() end)
  return client.answer:await()
end

local server = loop:create_datagram_endpoint(Upper, { local_addr = { host = "127.0.0.1" } })
local addr = server:get_extra_info("sockname")
print(ask(addr))

server:close()
moonloop.sleep(0)
local ok, e = pcall(ask, addr)
print(ok, e.kind)
