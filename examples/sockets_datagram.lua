-- SPDX-License-Identifier: MIT
-- What: moonloop.open_datagram sends and receives datagrams (UDP).
-- Why: each comes whole or not at all, with the address that it came from. What is longer than one
--      asked for is cut, and that is told: recv gives its real length then.
-- Usage: moonloop examples/sockets_datagram.lua
local moonloop = require "moonloop"

local server <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
local client <close> = moonloop.open_datagram { remote_addr = server:getsockname() }

client:send("first")
client:send("")
client:send("this one is long")

local data, from = server:recv()
print(data, from.port == client:getsockname().port)
print(#server:recv()) -- an empty datagram is a datagram
local start, _, size = server:recv(8)
print(start, size)

server:send("answer", from)
print((client:recv()))
