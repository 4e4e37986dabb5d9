-- SPDX-License-Identifier: MIT
-- What: setsockopt and getsockopt take the system's names: "SO_REUSEADDR", "TCP_NODELAY".
-- Why: flags are true and false, numbers are numbers, and a name that is misspelt is told with the
--      one that it was meant to be.
-- Usage: moonloop examples/sockets_options.lua
local moonloop = require "moonloop"

local socket <close> = moonloop.socket.tcp()
print("SO_KEEPALIVE", socket:getsockopt("SO_KEEPALIVE"))
socket:setsockopt("SO_KEEPALIVE", true)
socket:setsockopt("TCP_KEEPIDLE", 30) -- seconds
print("SO_KEEPALIVE", socket:getsockopt("SO_KEEPALIVE"))
print("TCP_KEEPIDLE", socket:getsockopt("TCP_KEEPIDLE"))
print(pcall(function() socket:setsockopt("TCP_NODELY", true) end))
