-- SPDX-License-Identifier: MIT
-- What: max_connections bounds how many connections a server has at once.
-- Why: the others are not refused: they wait in the system's queue until one has ended. So a crowd
--      makes the server slow for some, and never too large.
-- Usage: moonloop examples/servers_limit.lua
local moonloop = require "moonloop"

local now, most, served = 0, 0, 0
local server <close> = moonloop.start_server(function(stream)
  now = now + 1
  most = math.max(most, now)
  moonloop.sleep(0.05)
  stream:write("your turn\n")
  now, served = now - 1, served + 1
end, "127.0.0.1", 0, { max_connections = 3 })

local clients = {}
for i = 1, 10 do
  clients[i] = function()
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:read()
  end
end
moonloop.gather(clients)
print("served", served)
print("at once", most)
