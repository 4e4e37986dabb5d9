-- SPDX-License-Identifier: MIT
-- What: one server, several names, a certificate for each: the client says which name it wants
--       (SNI), and the server's `sni` chooses the context.
-- Why: names share an address, and TLS comes before any protocol that could say which is meant. The
--      client's part happens by itself.
-- Usage: moonloop examples/tls_sni.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"

local contexts = {}
for _, name in ipairs { "tides.example", "phases.example" } do
  contexts[name] = tls.server_context(authority:issue { name = name })
end

local default = authority:issue { name = "localhost", san = "DNS:localhost,IP:127.0.0.1" }
local server <close> = moonloop.start_server(
  function(stream)
    stream:write(stream:get_extra_info("tls").server_hostname or "no name", "\n")
  end, "127.0.0.1", 0, {
    tls = tls.server_context {
      cert = default.cert, key = default.key,
      sni = function(name) return contexts[name] end, -- nil: this context itself
    },
  })

local client = tls.client_context { ca_file = authority.file }

local function show(host, name)
  local stream <close> = moonloop.connect(host, server:port(),
    { tls = client, server_hostname = name })
  print(name or host, stream:get_extra_info("peercert").subject,
    "asked for: " .. stream:readline():gsub("\n", ""))
end

show("localhost")
show("127.0.0.1", "tides.example")
show("127.0.0.1", "phases.example")
show("127.0.0.1") -- an address is no name: nothing is sent, the certificate has the address
local ok, e = moonloop.pcall(show, "127.0.0.1", "eclipses.example") -- gets the default one
print(ok, e.kind, e.verify_code)
