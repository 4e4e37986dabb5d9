-- SPDX-License-Identifier: MIT
-- What: an echo server and its client as protocols, over TLS.
-- Why: a protocol need not know whether its transport is encrypted: the loop's calls take the same
--      option, and connection_made comes when the handshake is done.
-- Usage: moonloop examples/tls_protocol.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls
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
  print("connected by " .. transport:get_extra_info("tls").version)
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

local authority <close> = certificates.authority "Moonloop example"
local server <close> = loop:create_server(Echo, "127.0.0.1", 0,
  { tls = tls.server_context(authority:issue { name = "localhost" }) })
local _, client = loop:create_connection(Client, "localhost", server:port(),
  { tls = tls.client_context { ca_file = authority.file } })
client.ended:await()
