-- SPDX-License-Identifier: MIT
-- What: datagrams to a group: one is sent, all who have joined the group receive it.
-- Why: it announces something to whoever wants to hear it, without disturbing the others.
-- Usage: moonloop examples/sockets_multicast.lua
local moonloop = require "moonloop"

local GROUP = "239.255.77.77"

local function member(port)
  local datagram = moonloop.open_datagram {
    local_addr = { host = GROUP, port = port }, reuse_port = true,
  }
  datagram:setsockopt("IP_MULTICAST_ALL", false) -- only what this very socket has joined
  datagram:join(GROUP, "lo") -- by this interface; without it, by one that the system chooses
  return datagram
end

local first <close> = member(0)
local port = first:getsockname().port
local second <close> = member(port)

local sender <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
sender:send("the moon is up", { host = GROUP, port = port })
print("first", (first:recv()))
print("second", (second:recv()))

second:leave(GROUP, "lo")
sender:send("the moon is down", { host = GROUP, port = port })
print("first", (first:recv()))
print("second", moonloop.move_on_after(0.05, second.recv, second))
