-- SPDX-License-Identifier: MIT
-- What: with start_serving=false a server has its port and accepts nobody yet.
-- Why: the port can be told to others, or rights given up, before the first client is served.
--      Clients that come early wait; nobody is refused.
-- Usage: moonloop examples/servers_start_serving.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  stream:write("hello\n")
end, "127.0.0.1", 0, { start_serving = false })
print("serving", server:is_serving())

local connected = moonloop.Event()
local client = moonloop.create_task(function()
  local stream <close> = moonloop.connect("127.0.0.1", server:port())
  print("connected")
  connected:set()
  io.write(stream:readline())
end)

connected:wait()
server:start_serving()
print("serving", server:is_serving())
client:await()
