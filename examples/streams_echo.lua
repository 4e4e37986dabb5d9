-- SPDX-License-Identifier: MIT
-- What: a TCP server and three clients, in one program.
-- Why: a Stream reads and writes as a Lua file does; each connection is a task, so a slow client
--      holds up nobody.
-- Usage: moonloop examples/streams_echo.lua
local moonloop = require "moonloop"

local server <close> = moonloop.start_server(function(stream)
  for line in stream:lines() do
    moonloop.sleep(#line / 50) -- a long line takes longer to answer
    stream:write(line:upper(), "\n")
  end
end, "127.0.0.1", 0)

local function client(line)
  local stream <close> = moonloop.connect("127.0.0.1", server:port())
  stream:write(line, "\n")
  print(line .. " -> " .. stream:readline():gsub("\n", ""))
end

local group <close> = moonloop.TaskGroup()
for _, line in ipairs { "patience", "soon", "a" } do
  group:create_task(client, line)
end
