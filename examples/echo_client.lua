-- SPDX-License-Identifier: MIT
-- What: a TCP client that sends its words as lines and prints the lines that come back.
-- Why: sending and receiving go on at the same time, in two tasks: a client that sent everything
--      first could wait for a server that waits for it. `write_eof` ends the sending side and
--      leaves the receiving side open.
-- Usage: moonloop examples/echo_client.lua [HOST [PORT [WORD...]]]
--        with a server: moonloop examples/echo_server.lua
--        or:            socat TCP-LISTEN:8007,reuseaddr,fork EXEC:cat
local moonloop = require "moonloop"

local host = arg[1] or "127.0.0.1"
local port = tonumber(arg[2] or 8007)
local words = #arg > 2 and table.move(arg, 3, #arg, 1, {}) or { "hello", "world" }

local stream <close> = moonloop.connect(host, port)

local sender = moonloop.create_task(function()
  for _, word in ipairs(words) do
    stream:write(word, "\n")
  end
  stream:write_eof()
end)

for line in stream:lines() do
  print(line)
end
sender:await()
