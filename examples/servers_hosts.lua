-- SPDX-License-Identifier: MIT
-- What: one server listens on several hosts.
-- Why: one handler, one place to close it, one count of its connections. Port 0 is the same free
--      port on all of them.
-- Usage: moonloop examples/servers_hosts.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  stream:write("you reached ", stream:get_extra_info("sockname").host, "\n")
end, { "127.0.0.1", "127.0.0.2" }, 0)

for _, address in ipairs(server:sockets()) do
  local stream <close> = moonloop.connect(address.host, address.port)
  io.write(stream:readline())
end
print("one port", server:sockets()[1].port == server:sockets()[2].port)
