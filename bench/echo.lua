-- SPDX-License-Identifier: MIT
--
-- The Moonloop server of the echo and memory workloads: Streams, one task for
-- each connection. Prints its port, then serves until it is killed.

local moonloop = require "moonloop"

local function echo(stream)
  while true do
    local data = stream:read(65536)
    if not data then break end
    stream:write(data)
  end
end

local server = moonloop.start_server(echo, "127.0.0.1", 0)
print(server:port())
io.stdout:flush()
server:serve_forever()
