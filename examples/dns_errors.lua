-- SPDX-License-Identifier: MIT
-- What: each way in which a look-up fails is a DNSError with a code of its own, and the name in
--       `host`.
-- Why: "there is no such name" will be so again in a minute; "the server has a problem" may not. A
--      program that tries again wants to know which it was.
-- Usage: moonloop examples/dns_errors.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local name_server = require "lib.name_server"

local server <close> = name_server.start {
  ["moon.example"] = { A = { { host = "192.0.2.1" } } },
  ["broken.example"] = "SERVFAIL",
  ["secret.example"] = "REFUSED",
  ["ring.example"] = { CNAME = { { host = "ring.example" } } },
}
moonloop.dns.set_servers { server.address }

local nobody
do
  local closed <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
  nobody = closed:getsockname()
end

local function try(fn, ...)
  local ok, e = moonloop.pcall(fn, ...)
  print(ok, e.kind, e.code, e.host)
end

print "resolve"
try(moonloop.dns.resolve, "nosuch.example")
try(moonloop.dns.resolve, "moon.example", "MX")
try(moonloop.dns.resolve, "broken.example")
try(moonloop.dns.resolve, "secret.example")
try(moonloop.dns.resolve, "ring.example")
try(moonloop.dns.resolve, "moon.example", "A", { servers = { nobody } })

print "getaddrinfo"
try(moonloop.getaddrinfo, "nosuch.example.", 80)
try(moonloop.getaddrinfo, "broken.example.", 80)
try(moonloop.getaddrinfo, "secret.example.", 80)
try(moonloop.getaddrinfo, "127.0.0.1", 80, { family = "inet6" })
try(moonloop.getaddrinfo, "127.0.0.1", "no such service")

print "connecting"
try(moonloop.connect, "nosuch.example.", 80)
print(select(2, moonloop.pcall(moonloop.connect, "nosuch.example.", 80)))
