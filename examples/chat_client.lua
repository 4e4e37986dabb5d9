-- SPDX-License-Identifier: MIT
-- What: a client for the chat server, and for any other server that talks in lines.
-- Why: the keyboard and the network are two Streams; whichever has something is served, and
--      neither waits for the other. When the server closes, the program ends; when the keyboard
--      ends (Ctrl-D), what is still to come is shown first.
-- Usage: moonloop examples/chat_client.lua [HOST [PORT]]     (127.0.0.1 8008)
local moonloop = require "moonloop"

local stream <close> = moonloop.connect(arg[1] or "127.0.0.1", tonumber(arg[2] or 8008))

local function speak()
  for line in moonloop.stdin:lines() do
    stream:write(line, "\n")
  end
  stream:write_eof() -- our side only: the loop below goes on
end

local keyboard <close> = moonloop.TaskGroup()
keyboard:create_task(speak)
for line in stream:lines() do
  moonloop.stdout:write(line, "\n")
end
keyboard:cancel()
