-- SPDX-License-Identifier: MIT
-- What: moonloop.dns.resolve asks name servers for records of any type, here one that the example
--       runs itself.
-- Why: where mail for a domain goes, which hosts offer a service, what a domain says about itself:
--      that is more than addresses.
-- Usage: moonloop examples/dns_resolve.lua
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local name_server = require "lib.name_server"

local server <close> = name_server.start {
  ["moon.example"] = {
    A = { { host = "192.0.2.1", ttl = 300 }, { host = "192.0.2.2", ttl = 300 } },
    MX = { { preference = 10, host = "mail.moon.example" } },
    TXT = { { text = "there is no dark side" } },
    NS = { { host = "ns.moon.example", ttl = 86400 } },
  },
  ["www.moon.example"] = { CNAME = { { host = "moon.example" } } },
  ["_chat._tcp.moon.example"] = {
    SRV = { { priority = 1, weight = 5, port = 7000, host = "chat.moon.example" } },
  },
  ["1.2.0.192.in-addr.arpa"] = { PTR = { { host = "moon.example" } } },
}
local options = { servers = { server.address }, timeout = 5 }

local function show(name, kind, ...)
  for _, record in ipairs(moonloop.dns.resolve(name, kind, options)) do
    local fields = {}
    for i, field in ipairs { ... } do
      fields[i] = record[field]
    end
    print(name, kind, record.ttl, table.concat(fields, " "))
  end
end

show("moon.example", "A", "host")
show("www.moon.example", "A", "host") -- an alias is followed
show("www.moon.example", "CNAME", "host")
show("moon.example", "MX", "preference", "host")
show("moon.example", "TXT", "text")
show("moon.example", "NS", "host")
show("_chat._tcp.moon.example", "SRV", "priority", "weight", "port", "host")
show("192.0.2.1", "PTR", "host")
