-- SPDX-License-Identifier: MIT
-- A Stream whose peer is not ours: an end made by LuaSocket, which sends, ends, closes or resets
-- exactly when it is told to, and reads only then. For the specs of what a Stream says when its
-- connection fails. Builds on connect and open_unix_connection.
local socket = require "socket"
local unix = require "socket.unix"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"

local M = {}

local MOST_PIECES = 100000 -- of one answer, which is given up then

local Link = {}
Link.__index = Link
Link.__name = "Link"

--- Sends `text`, which the system's buffer has to have room for.
function Link:send(text)
  assert(self.far:send(text))
end

--- Says that the peer sends no more; it goes on reading.
function Link:finish()
  assert(self.far:shutdown("send"))
end

--- Closes the peer's end, which is a reset if there is something that it has not read.
function Link:hang_up()
  self.far:close()
end

--- Resets the connection. Over a Unix socket that takes unread data, so `near` sends some
-- where it can.
function Link:reset()
  if self.kind == "TCP" then
    assert(self.far:setoption("linger", { on = true, timeout = 0 }))
  elseif not self.near:is_closing() then
    pcall(self.near.try_write, self.near, "unread")
  end
  self.far:close()
end

--- Takes all that comes until the connection ends in whatever manner. Awaits.
function Link:read_to_end()
  local pieces = {}
  for _ = 1, MOST_PIECES do
    local text, err, part = self.far:receive(65536)
    pieces[#pieces + 1] = text or part
    if err == "closed" then return table.concat(pieces) end
    if not text then moonloop.testing.wait_all_blocked() end
  end
  error("the connection does not end")
end

--- Takes `count` bytes, those of net.fill. Awaits.
function Link:read_filled(count)
  net.drain_filled(self, count)
end

--- Takes exactly `size` bytes. Awaits.
function Link:readexactly(size)
  local pieces = {}
  for _ = 1, MOST_PIECES do
    local text, err, part = self.far:receive(size)
    assert(text or err == "timeout", err)
    pieces[#pieces + 1] = text or part
    size = size - #pieces[#pieces]
    if size == 0 then return table.concat(pieces) end
    if not text then moonloop.testing.wait_all_blocked() end
  end
  error("the data do not come")
end

--- Lets go of both ends.
function Link.__close(self)
  self.near:abort()
  self.far:close()
end

local makers = {}

function makers.TCP(opts)
  local listener = assert(socket.bind("127.0.0.1", 0))
  local _, port = listener:getsockname()
  local near = moonloop.connect("127.0.0.1", math.tointeger(port), opts)
  local far = assert(listener:accept())
  listener:close()
  return near, far
end

makers["a Unix socket"] = function(opts)
  local place <close> = pipes.free_path()
  local listener = unix.stream()
  assert(listener:bind(place.path))
  assert(listener:listen(1))
  local near = moonloop.open_unix_connection(place.path, opts)
  local far = assert(listener:accept())
  listener:close()
  return near, far
end

M.KINDS = { "TCP", "a Unix socket" }

--- A Stream, `near`, and words for its peer; a to-be-closed variable ends both. Awaits.
-- @param kind one of KINDS
-- @param opts of the Stream
function M.link(kind, opts)
  local near, far = makers[kind](opts)
  far:settimeout(0)
  return setmetatable({ kind = kind, near = near, far = far }, Link)
end

return M
