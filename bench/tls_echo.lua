-- SPDX-License-Identifier: MIT
--
-- The Moonloop server of the tls_echo workload, tls_echo.lua PEM: Streams over TLS, one task for
-- each connection. The file PEM has the key and the certificate. Prints its port, then serves
-- until it is killed.

local moonloop = require "moonloop"

local function echo(stream)
  while true do
    local data = stream:read(65536)
    if not data then break end
    stream:write(data)
  end
end

local context = moonloop.tls.server_context { cert = arg[1], min_version = "TLSv1.3" }
local server = moonloop.start_server(echo, "127.0.0.1", 0, { tls = context })
print(server:port())
io.stdout:flush()
server:serve_forever()
