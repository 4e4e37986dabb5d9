-- SPDX-License-Identifier: MIT
-- What: moonloop.relay(a, b) copies from each of two Streams to the other until both have ended.
-- Why: it is the inside of every proxy and tunnel: an end of file is passed on while the other
--      direction goes on, a slow side slows the other, an error on either side ends both.
-- Usage: moonloop examples/streams_relay.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  stream:write(stream:read():upper()) -- read() waits for the end of file
end, "127.0.0.1", 0)

local proxy <close> = moonloop.start_server(function(client)
  local target <close> = moonloop.connect("127.0.0.1", server:port())
  print("relayed", moonloop.relay(client, target))
end, "127.0.0.1", 0)

do
  local stream <close> = moonloop.connect("127.0.0.1", proxy:port())
  stream:write("through the proxy")
  stream:write_eof()
  print("answer", stream:read())
end
proxy:close()
proxy:wait_closed()
