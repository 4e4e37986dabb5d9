-- SPDX-License-Identifier: MIT
-- What: group:start(fn) runs fn(started, ...) as a child and waits until it calls started(...).
-- Why: a background service has to be ready before others use it. start gives what the child hands
--      to started, here the port; a service that fails before that raises its error right here.
-- Usage: moonloop examples/control_start.lua
local moonloop = require "moonloop"

local function echo_service(started)
  local server <close> = moonloop.start_server(function(stream)
    stream:write("echo: ", stream:readline())
  end, "127.0.0.1", 0)
  started(server:port())
  moonloop.sleep_forever()
end

local function broken_service()
  moonloop.sleep(0.01)
  error("no such service", 0)
end

moonloop.task_group(function(group)
  local port = group:start({ name = "echo" }, echo_service)
  local stream <close> = moonloop.connect("127.0.0.1", port)
  stream:write("hello\n")
  io.write(stream:readline())

  print(pcall(group.start, group, broken_service))
  print("the group goes on")
  group:cancel()
end)
print("the service has ended")
