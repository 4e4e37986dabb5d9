-- SPDX-License-Identifier: MIT
-- What: a datagram to where nobody listens raises ConnectionRefusedError, at the next call.
-- Why: the network says so in a message of its own (ICMP). One that is told need not wait for an
--      answer that will never come; a time limit is needed all the same, as not all networks tell.
-- Usage: moonloop examples/sockets_unreachable.lua
local moonloop = require "moonloop"

local nobody
do
  local closed <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1" } }
  nobody = closed:getsockname()
end

local client <close> = moonloop.open_datagram { remote_addr = nobody }
client:send("anybody there?")
local ok, e = pcall(moonloop.wait_for, function() return client:recv() end, 1)
print(ok, e.kind)
