-- SPDX-License-Identifier: MIT
-- TCP streams in pairs for the stream and server specs, words for feeding and
-- filling them, and for looking at errors. Builds on the public names only.
local assert = require "luassert"
local moonloop = require "moonloop"

local M = {}

local Pair = {}
Pair.__index = Pair
Pair.__name = "Pair"

--- Lets go of both ends and of the server between them. Awaits.
function Pair:close()
  self.client:abort()
  self.peer:abort()
  if not self.finished:done() then self.finished:set_result() end
  self.server:close()
  self.server:wait_closed()
end

Pair.__close = Pair.close

--- Two connected streams, `client` (from connect) and `peer` (a server's), which
-- a to-be-closed variable aborts. Awaits.
-- @param opts `client` and `server`: options for either side; `host`
function M.pair(opts)
  opts = opts or {}
  local host = opts.host or "127.0.0.1"
  local accepted, finished = moonloop.Future(), moonloop.Future()
  local server = moonloop.start_server(function(stream)
    accepted:set_result(stream)
    finished:await()
  end, host, 0, opts.server)
  local client = moonloop.connect(host, server:port(), opts.client)
  return setmetatable({
    client = client, peer = accepted:await(), server = server, finished = finished,
  }, Pair)
end

--- Writes `data` in pieces of `size` bytes, and lets each be taken. Awaits.
function M.trickle(stream, data, size)
  for first = 1, #data, size do
    stream:write(data:sub(first, first + size - 1))
    moonloop.testing.wait_all_blocked()
  end
end

local CHUNK = ("0123456789abcdef"):rep(4096)

--- Writes until nothing more is taken, when the other end does not read. Awaits.
-- @return the number of bytes taken, which are CHUNK again and again
function M.fill(stream)
  local count = 0
  while stream:try_write(CHUNK) do
    repeat
      count = count + #CHUNK
      assert(count < 256 * 1024 * 1024, "try_write never says no")
    until not stream:try_write(CHUNK)
    -- Not for a task: the system goes on moving from buffer to buffer for a while.
    moonloop.sleep(0.02)
    moonloop.testing.wait_all_blocked()
  end
  return count
end

--- Reads `count` bytes and checks that they are those of `fill`. Awaits.
function M.drain_filled(stream, count)
  for _ = 1, count // #CHUNK do
    assert(stream:readexactly(#CHUNK) == CHUNK, "other bytes than were written")
  end
end

--- Text of `size` bytes in which no two neighbouring kilobytes are alike.
function M.text(size)
  local pieces = {}
  for i = 1, size // 1024 + 1 do
    pieces[i] = ("%08x"):format(i):rep(128)
  end
  return table.concat(pieces):sub(1, size)
end

--- Calls `fn(...)`, which must raise an Error of that kind, and returns it.
function M.raises(kind, fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "nothing was raised")
  assert(moonloop.is_error(err, kind), kind .. " expected, got " .. tostring(err))
  return err
end

--- Calls `fn(...)`, which must raise the plain string of a bad argument.
-- @param what text that must be in it
function M.refuses(what, fn, ...)
  local ok, err = pcall(fn, ...)
  assert(not ok, "nothing was raised")
  assert.equal("string", type(err))
  assert.matches(what, err, 1, true)
  return err
end

--- A loopback port on which nobody listens. Awaits.
function M.free_port()
  local server = moonloop.start_server(function() end, "127.0.0.1", 0)
  local port = server:port()
  server:close()
  server:wait_closed()
  return port
end

return M
