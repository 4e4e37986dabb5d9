-- SPDX-License-Identifier: MIT
-- What: server:shutdown{grace=} stops accepting, lets connections end for a while, cancels those
--       that go on, and aborts those that have not ended a second later.
-- Why: a server that restarts should cut off nobody who is about to finish, and wait for nobody
--      who never will.
-- Usage: moonloop examples/servers_shutdown.lua
local moonloop = require "moonloop"

local handlers = {
  quick = function(stream)
    moonloop.sleep(0.05)
    stream:write("done\n")
  end,
  endless = function(stream)
    local _ <close> = moonloop.defer(function() stream:write("sorry\n") end)
    moonloop.sleep_forever()
  end,
  stubborn = function()
    moonloop.shield(moonloop.sleep, 1.5) -- cannot be cancelled for longer than the second
  end,
}

local arrived = moonloop.Barrier(4) -- three handlers, and whoever shuts down
local server = moonloop.start_server(function(stream)
  local kind = stream:readline():match("%w+")
  arrived:wait()
  handlers[kind](stream)
end, "127.0.0.1", 0)

local function client(kind)
  local stream <close> = moonloop.connect("127.0.0.1", server:port())
  stream:write(kind, "\n")
  local ok, answer = moonloop.pcall(stream.readline, stream)
  print(kind, ok and (answer or "closed\n"):match("%w+") or answer.kind)
end

do
  local group <close> = moonloop.TaskGroup()
  for _, kind in ipairs { "quick", "endless", "stubborn" } do
    group:create_task(client, kind)
  end
  arrived:wait()
  print("ended, cancelled, aborted:", server:shutdown { grace = 0.2 })
end
