-- SPDX-License-Identifier: MIT
-- What: a TCP server that sends back whatever it gets.
-- Why: the smallest server worth the name. Every connection is a task of its own, so a client that
--      sends nothing, or reads nothing, holds up no other. `write` waits while the client is
--      behind.
-- Usage: moonloop examples/echo_server.lua [HOST [PORT]]     (127.0.0.1 8007; port 0: any free one)
--        then: moonloop examples/echo_client.lua 127.0.0.1 8007 hello
--        or:   socat - TCP:127.0.0.1:8007
local moonloop = require "moonloop"

local host = arg[1] or "127.0.0.1"
local port = tonumber(arg[2] or 8007)

local function echo(stream)
  while true do
    local data = stream:read(65536) -- some bytes, as they come
    if not data then
      return -- end of file: the stream is closed when its handler ends
    end
    stream:write(data)
  end
end

local server <close> = moonloop.start_server(echo, host, port)
print(("listening on %s port %d"):format(host, server:port()))
io.stdout:flush()
server:serve_forever() -- Ctrl-C cancels this, and the server is closed on the way out
