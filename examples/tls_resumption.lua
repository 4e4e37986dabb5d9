-- SPDX-License-Identifier: MIT
-- What: a client that connects again resumes its session.
-- Why: the second handshake needs no certificates and no signatures, which is most of what TLS
--      costs. It happens by itself when the context is the same.
-- Usage: moonloop examples/tls_resumption.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"

local server <close> = moonloop.start_server(function(stream)
  stream:write("hello\n")
end, "127.0.0.1", 0, { tls = tls.server_context(authority:issue { name = "localhost" }) })

local function visit(context)
  local stream <close> = moonloop.connect("localhost", server:port(), { tls = context })
  stream:readline() -- the ticket for the next time comes with the first bytes
  local info = stream:get_extra_info "tls"
  print(info.version, "resumed: " .. tostring(info.resumed),
    "verified: " .. tostring(info.verified))
end

for _, version in ipairs { "TLSv1.3", "TLSv1.2" } do
  local context = tls.client_context { ca_file = authority.file, max_version = version }
  visit(context)
  visit(context)
end

local forgetful = tls.client_context { ca_file = authority.file, session_cache = false }
visit(forgetful)
visit(forgetful)
