-- SPDX-License-Identifier: MIT
-- What: getnameinfo is the way back: from an address to a name, and from a port to a service.
-- Why: logs are easier to read with names. An address need not have one, and a name that it has
--      proves nothing: whoever owns the address may call it anything.
-- Usage: moonloop examples/dns_getnameinfo.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local name_server = require "lib.name_server"

local server <close> = name_server.start {
  ["7.2.0.192.in-addr.arpa"] = { PTR = { { host = "far-side.example" } } },
}
moonloop.dns.set_servers { server.address }

print(moonloop.getnameinfo { host = "192.0.2.7", port = 40404 })
print(moonloop.getnameinfo { host = "192.0.2.8", port = 40404 })
print(moonloop.getnameinfo({ host = "192.0.2.7", port = 80 },
  { "NI_NUMERICHOST", "NI_NUMERICSERV" }))

local ok, e = moonloop.pcall(moonloop.getnameinfo, { host = "192.0.2.8", port = 80 },
  { "NI_NAMEREQD" })
print(ok, e.code)
