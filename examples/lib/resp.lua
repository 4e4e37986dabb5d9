-- SPDX-License-Identifier: MIT
-- A client for Redis: commands go out and replies come in by RESP, its protocol. Many tasks may
-- use one client at a time; their commands are pipelined. Builds on moonloop's Streams.
local moonloop = require "moonloop"

local M = {}

--- What the server answers with an error raises this kind.
M.RedisError = moonloop.Error:extend "RedisError"

--- What does not follow the protocol raises this kind.
M.ProtocolError = moonloop.Error:extend "ProtocolError"

--- A command as it goes over the wire.
function M.encode(...)
  local parts = { "*" .. select("#", ...) .. "\r\n" }
  for _, word in ipairs { ... } do
    word = tostring(word)
    parts[#parts + 1] = "$" .. #word .. "\r\n" .. word .. "\r\n"
  end
  return table.concat(parts)
end

local function closed(cause)
  return M.ProtocolError:new("the server has closed the connection", { cause = cause })
end

-- A server that goes while commands are on their way is noticed by who reads or by who writes,
-- as an end of file, a reset or a broken pipe: all of these mean the same.
local function checked(ok, result)
  if ok then return result end
  error(moonloop.is_error(result, "ConnectionError") and closed(result) or result, 0)
end

local readers = {}

--- Reads one reply. Awaits. An error of the server is given, not raised.
-- @return a string, an integer, a list (with its length in the field `n`), nil, or a RedisError
function M.read_reply(stream)
  local line = checked(moonloop.pcall(stream.readuntil, stream, "\r\n"))
  if not line then
    error(closed())
  end
  local reader = readers[line:sub(1, 1)]
  if not reader then
    error(M.ProtocolError:new(("not a reply: %q"):format(line)))
  end
  return reader(line:sub(2, -3), stream)
end

readers["+"] = function(text)
  return text
end

readers["-"] = function(text)
  return M.RedisError:new(text)
end

readers[":"] = function(text)
  return math.tointeger(text)
end

readers["$"] = function(text, stream)
  local length = math.tointeger(text)
  if length == -1 then
    return nil
  end
  return stream:readexactly(length + 2):sub(1, length)
end

readers["*"] = function(text, stream)
  local n = math.tointeger(text)
  if n == -1 then
    return nil
  end
  local list = { n = n }
  for i = 1, n do
    list[i] = M.read_reply(stream)
  end
  return list
end

local Client = {}
Client.__index = Client
Client.__name = "resp.Client"

-- Gives each reply to whoever waits for it: replies come in the order of the commands.
local function receive(self)
  local ok, err = moonloop.pcall(function()
    for waiter in self.waiters:iter() do
      self.current = waiter
      local reply = M.read_reply(self.stream)
      if not waiter:done() then -- nobody has given up waiting
        waiter:set_result(reply)
      end
    end
  end)
  if not ok then
    self.broken = err
    self.waiters:shutdown()
    self.current:set_error(err)
    for waiter in self.waiters:iter() do
      waiter:set_error(err)
    end
  end
end

--- Makes a client of a connected Stream, which it owns from then on.
function M.client(stream)
  local self = setmetatable({
    stream = stream, waiters = moonloop.Queue(), sending = moonloop.Lock { name = "redis" },
  }, Client)
  self.receiver = moonloop.create_task({ name = "redis replies" }, receive, self)
  return self
end

--- Sends a command. Awaits while the server is behind.
-- @return a Future of the reply
function Client:send(...)
  if self.broken then
    error(self.broken, 0)
  end
  local waiter = moonloop.Future()
  local _ <close> = self.sending:acquire() -- a command and its place among the waiters
  checked(moonloop.pcall(self.stream.write, self.stream, M.encode(...)))
  self.waiters:put_nowait(waiter)
  return waiter
end

--- Sends a command and waits for its reply. Awaits.
-- @raise RedisError when the reply is an error
function Client:call(...)
  local reply = self:send(...):await()
  if moonloop.is_error(reply, M.RedisError) then
    error(reply)
  end
  return reply
end

--- Waits for the replies that are still to come, then closes. Awaits.
function Client:close()
  self.waiters:shutdown()
  self.receiver:await()
  self.stream:close()
end

function Client:__close(err)
  if err ~= nil then
    self.receiver:cancel()
    self.stream:abort()
  else
    self:close()
  end
end

return M
