-- SPDX-License-Identifier: MIT
-- What: a broadcast reaches everybody on a network who listens on that port.
-- Why: it finds out who is there when no address is known. The system wants to be told that it is
--      meant: allow_broadcast.
-- Usage: moonloop examples/sockets_broadcast.lua
local moonloop = require "moonloop"

local listener <close> = moonloop.open_datagram { local_addr = { host = "0.0.0.0" } }
local everybody = { host = "127.255.255.255", port = listener:getsockname().port }

local shy <close> = moonloop.open_datagram { family = "inet" }
local ok, e = pcall(shy.send, shy, "psst", everybody)
print(ok, e.kind)

local loud <close> = moonloop.open_datagram { family = "inet", allow_broadcast = true }
loud:send("is anybody there?", everybody)
print((listener:recv()))
