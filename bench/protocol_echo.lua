-- SPDX-License-Identifier: MIT
--
-- The Moonloop server of the protocol_echo workload: transports and protocols,
-- no task for a connection. Prints its port, then serves until it is killed.

local moonloop = require "moonloop"

local Echo = moonloop.Protocol:extend {
  connection_made = function(self, transport) self.transport = transport end,
  data_received = function(self, data) self.transport:write(data) end,
}

local loop = moonloop.get_running_loop()
local server = loop:create_server(Echo, "127.0.0.1", 0)
print(server:port())
io.stdout:flush()
server:serve_forever()
