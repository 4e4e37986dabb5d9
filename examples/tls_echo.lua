-- SPDX-License-Identifier: MIT
-- What: an echo server and its client over TLS, in one program.
-- Why: TLS is the option `tls` of the same calls, and what they give is a Stream as any other. The
--      client checks the server's certificate: that an authority it trusts has signed it, and that
--      it is for the name it has asked for.
-- Usage: moonloop examples/tls_echo.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local certificates = require "lib.certificates"
local tls = moonloop.tls

local authority <close> = certificates.authority "Moonloop example"
local own = authority:issue { name = "localhost" }

local server <close> = moonloop.start_server(function(stream)
  for line in stream:lines() do
    stream:write(line:upper(), "\n")
  end
end, "127.0.0.1", 0, { tls = tls.server_context { cert = own.cert, key = own.key } })

local context = tls.client_context { ca_file = authority.file }
local stream <close> = moonloop.connect("localhost", server:port(), { tls = context })

local info = stream:get_extra_info "tls"
print(info.version, info.cipher)
print(info.peercert.subject, "signed by " .. info.peercert.issuer, info.verified)

for _, line in ipairs { "nobody on the way", "can read this" } do
  stream:write(line, "\n")
  io.write(stream:readline())
end
