-- SPDX-License-Identifier: MIT
-- Connected descriptors that are not ours, for the specs of what watches descriptors: the two
-- ends of a TCP connection over loopback, made by LuaSocket, which never block. Builds on nothing
-- of what is under test, so it serves under stock Lua too.
local socket = require "socket"

local M = {}

local End = {}
End.__index = End
End.__name = "End"

--- Takes all that has come, which may be nothing. (LuaSocket reads ahead, so a part cannot be
-- left in the system's buffer; who wants the descriptor to stay ready doesn't read.)
function End:read()
  local text, err, part = self.socket:receive(8192)
  assert(text or err == "timeout" or err == "closed", err)
  return text or part
end

--- Writes `text`, which the system's buffer has to have room for.
function End:write(text)
  assert(self.socket:send(text))
end

--- Closes this end; may be called twice.
function End:close()
  self.socket:close()
end

End.__close = End.close

local function new(tcp)
  tcp:settimeout(0)
  return setmetatable({ socket = tcp, fd = math.tointeger(tcp:getfd()) }, End)
end

--- Two connected ends, each with its descriptor, an integer, in `fd`, and its LuaSocket object in
-- `socket`.
function M.pair()
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local near = assert(socket.connect("127.0.0.1", port))
  local far = assert(listener:accept())
  listener:close()
  return new(near), new(far)
end

return M
