-- SPDX-License-Identifier: MIT
-- What: client and server agree on the protocol to speak while they agree on TLS (ALPN).
-- Why: one port serves several protocols, and no round trip is lost on finding out which. The
--      server picks the first of its own list that the client has too.
-- Usage: moonloop examples/tls_alpn.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local reports = moonloop.Queue()
moonloop.get_running_loop():set_exception_handler(function(_, context)
  reports:put_nowait(context)
end)

local authority <close> = certificates.authority "Moonloop example"
local own = authority:issue { name = "localhost" }

local server <close> = moonloop.start_server(
  function(stream)
    stream:write(stream:get_extra_info("tls").alpn or "nothing", "\n")
  end, "127.0.0.1", 0,
  { tls = tls.server_context { cert = own.cert, key = own.key, alpn = { "moon/2", "moon/1" } } })

local function connect(protocols)
  local context = tls.client_context { ca_file = authority.file, alpn = protocols }
  local stream <close> = moonloop.connect("localhost", server:port(), { tls = context })
  print(stream:get_extra_info("tls").alpn, "the server says " .. stream:readline():gsub("\n", ""))
end

connect { "moon/1" }
connect { "moon/1", "moon/2" }
connect(nil)

local ok, e = moonloop.pcall(connect, { "sun/1" })
print(ok, e.kind)
print("client: " .. e.message:gsub(":%d+", ":PORT"))
local report = reports:get()
print("server: " .. report.message .. "\n  " .. report.error.message:gsub(":%d+", ":PORT"))
