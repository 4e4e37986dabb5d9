-- SPDX-License-Identifier: MIT
-- What: moonloop.socket: sockets as the system has them, with calls that wait.
-- Why: for what has no better name: a special option before connecting, a protocol of one's own. A
--      Stream can take over the socket when that is done.
-- Usage: moonloop examples/sockets_tcp.lua
local moonloop = require "moonloop"
local socket = moonloop.socket

local listener <close> = socket.tcp()
listener:setsockopt("SO_REUSEADDR", true)
listener:bind { host = "127.0.0.1", port = 0 }
listener:listen()
local address = listener:getsockname()

local server = moonloop.create_task(function()
  local peer <close>, from = listener:accept()
  print("accepted from", from.host)
  peer:sendall("you said: " .. peer:recv(100))
end)

do
  local client <close> = socket.tcp()
  client:setsockopt("TCP_NODELAY", true)
  client:connect(address)
  client:send("hello")
  print("received", client:recv(100))
  print("end of file", client:recv(100))
end
server:await()

local client = socket.tcp()
client:connect(address)
local stream <close> = moonloop.connect(nil, nil, { sock = client }) -- client is empty now
local peer <close> = listener:accept()
peer:sendall("a line\n")
io.write(stream:readline())
print("left in the socket", client:fileno())
