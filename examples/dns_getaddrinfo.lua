-- SPDX-License-Identifier: MIT
-- What: getaddrinfo gives the addresses that a host and a port stand for, best first.
-- Why: connecting does it by itself. It is for those who want to see all of them, or the kinds of
--      socket that fit, or whether something is an address at all.
-- Usage: moonloop examples/dns_getaddrinfo.lua
local moonloop = require "moonloop"

local function show(host, port, options)
  local ok, list = moonloop.pcall(moonloop.getaddrinfo, host, port, options)
  if not ok then
    print(host, list)
    return
  end
  for _, address in ipairs(list) do
    print(host, address.family, address.type, address.proto, address.host, address.port)
  end
end

print "a name"
show("localhost", 80, { family = "inet", type = "stream" })
show("moon.localhost", 80, { family = "inet6", type = "stream" })

print "an address, in every form"
show("127.0.0.1", 53)
show("0:0:0:0:0:0:0:1", 53, { type = "dgram" })
show("::ffff:192.0.2.1", 53, { proto = "udp" })

print "nothing: where a client and a server of this machine would look"
show(nil, 8000, { type = "stream", family = "inet" })
show(nil, 8000, { type = "stream", family = "inet", flags = { "AI_PASSIVE" } })

print "what is no address"
show("127.0.0.1", 80, { family = "inet6" })
show("localhost", 80, { flags = { "AI_NUMERICHOST" } })
show("no..name", 80)
