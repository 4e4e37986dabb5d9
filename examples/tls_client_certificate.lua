-- SPDX-License-Identifier: MIT
-- What: a server that asks its clients for a certificate, and knows them by it.
-- Why: a certificate does what a password does, without being sent, and for machines as well as for
--      people. One's own authority signs those that are let in.
-- Usage: moonloop examples/tls_client_certificate.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local reports = moonloop.Queue()
moonloop.get_running_loop():set_exception_handler(function(_, context)
  reports:put_nowait(context)
end)

local authority <close> = certificates.authority "Moonloop example"
local strangers <close> = certificates.authority "Somebody else"
local own = authority:issue { name = "localhost" }

local function serve(verify_client)
  return moonloop.start_server(
    function(stream)
      local peer = stream:get_extra_info "peercert"
      stream:write("hello, ", peer and peer.subject or "whoever you are", "\n")
    end, "127.0.0.1", 0, {
      tls = tls.server_context {
        cert = own.cert, key = own.key,
        client_ca = authority.file, verify_client = verify_client,
      },
    })
end

local function visit(server, certificate)
  local context = tls.client_context {
    ca_file = authority.file,
    cert = certificate and certificate.cert, key = certificate and certificate.key,
  }
  local stream <close> = moonloop.connect("localhost", server:port(), { tls = context })
  io.write(stream:readline())
end

-- A server refuses when the client is done with its part: reading raises it.
local function refused(server, certificate)
  local ok, e = moonloop.pcall(visit, server, certificate)
  print(ok, e.kind)
  print("  client: " .. e.message:gsub(":%d+", ":PORT"))
  local report = reports:get().error
  print("  server: " .. report.kind .. ": " .. report.message:gsub(":%d+", ":PORT"))
end

local luna = authority:issue { name = "Luna", purpose = "clientAuth" }
local stranger = strangers:issue { name = "Luna", purpose = "clientAuth" }

do
  local server <close> = serve(true)
  visit(server, luna)
  refused(server, nil)
  refused(server, stranger)
end

local server <close> = serve "optional"
visit(server, luna)
visit(server, nil)
