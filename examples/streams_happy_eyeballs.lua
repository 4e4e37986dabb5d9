-- SPDX-License-Identifier: MIT
-- What: connect takes a list of addresses, starts a new attempt every quarter of a second, and
--       takes the first that succeeds ("happy eyeballs", RFC 8305).
-- Why: an address that does not answer costs a moment and not a minute; one that refuses costs
--      nothing.
-- Usage: moonloop examples/streams_happy_eyeballs.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function() end, "127.0.0.3", 0)
local port = server:port()

-- 127.0.0.2 is silent: its queue is full, and it never accepts.
local silent <close> = moonloop.socket.tcp()
silent:bind { host = "127.0.0.2", port = port }
silent:listen(0)
local _ <close> = moonloop.connect("127.0.0.2", port)

do -- nobody listens on 127.0.0.1
  local hosts = { "127.0.0.1", "127.0.0.2", "127.0.0.3" }
  local stream <close> = moonloop.connect(hosts, port, { happy_eyeballs_delay = 0.05 })
  print("connected to " .. stream:get_extra_info("peername").host)
end

local ok, e = pcall(moonloop.connect, { "127.0.0.1", "127.0.0.4" }, port)
print(ok, e.kind)
for i, err in ipairs(e.errors) do
  print(i, (err.message:gsub(port, "PORT")))
end
