-- SPDX-License-Identifier: MIT
-- What: one openssl command makes a certificate that signs itself; a client that trusts this one
--       certificate connects, and shows what it says.
-- Why: that is all it takes to try TLS on one's own machine. For a server that others reach, an
--      authority signs the certificate instead.
-- Usage: moonloop examples/tls_certificate.lua
local moonloop = require "moonloop"
local tls = moonloop.tls

local folder = os.tmpname()
os.remove(folder)
assert(os.execute("mkdir " .. folder))
local _ <close> = moonloop.defer(function() os.execute("rm -r " .. folder) end)

local cert, key = folder .. "/cert.pem", folder .. "/key.pem"
assert(os.execute("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
  .. " -keyout " .. key .. " -out " .. cert .. " -days 30 -subj '/O=Moonloop/CN=localhost'"
  .. " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null"))

local server <close> = moonloop.start_server(function() end, "127.0.0.1", 0,
  { tls = tls.server_context { cert = cert, key = key } })
local stream <close> = moonloop.connect("localhost", server:port(),
  { tls = tls.client_context { ca_file = cert } })

local peer = stream:get_extra_info "peercert"
print("subject", peer.subject)
print("issuer", peer.issuer)
print("names", table.concat(peer.san, ", "))
print("days", (peer.not_after - peer.not_before) // (24 * 60 * 60))
print("valid now", peer.not_before <= os.time() and os.time() < peer.not_after)

local openssl <close> = io.popen("openssl x509 -noout -fingerprint -sha256 -in " .. cert)
local fingerprint = openssl:read("a"):match("=([%x:]+)"):gsub(":", ""):lower()
print("the same fingerprint as openssl's", peer.fingerprint_sha256 == fingerprint)
