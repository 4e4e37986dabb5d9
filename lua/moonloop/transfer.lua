-- SPDX-License-Identifier: MIT
-- Moving bytes without looking at them: files to streams, and between two streams.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local control = require "moonloop.control"
local options = require "moonloop.options"
local sources = require "moonloop.sources"

local M = {}

local Stream = core.stream_methods

-- ---- sendfile ------------------------------------------------------------------

-- A Source: a descriptor, and the path that was opened or the Lua file that has it.
local Source = {}
local source_mt = { __index = Source }

local function open_source(position, name, source)
  if type(source) == "string" then
    return setmetatable({ fd = core.open_file(source), path = source }, source_mt)
  end
  sources.check(position, name, source)
  local file = io.type(source) and source
  if file then file:flush() end
  return setmetatable({ fd = sources.descriptor(source), file = file }, source_mt)
end

function Source:close(at)
  if self.path then
    core.close_descriptor(self.fd)
  elseif self.file and at then
    self.file:seek("set", at)
  elseif at then
    core.seek_descriptor(self.fd, at)
  end
end

local Job = {}
local job_mt = { __index = Job }

-- The next piece, read; "" at the end.
function Job:read(count)
  if self.seekable then return core.read_file(self.source.fd, self.at, count) end
  local file = self.source.file
  local buffered = file and core.buffered(file) or 0
  if buffered > 0 then return file:read(math.min(buffered, count)) end
  while true do
    core.wait_source(self.stream, self.source.fd)
    local data = core.read_file(self.source.fd, nil, count)
    if data then return data end
  end
end

function Job:copy(count)
  local data = self:read(count)
  local sent = 0
  while sent < #data do
    local n = core.send_held(self.stream, data, sent)
    sent = sent + n
    self.at = self.at + n
  end
  return #data
end

-- Sends a piece. Returns its size, 0 at the end of the file.
function Job:step(count)
  if not self.copies then
    local n = core.send_file(self.stream, self.source.fd, self.at, count)
    if n then
      self.at = self.at + n
      return n
    end
    self.copies = true
  end
  return self:copy(count)
end

function Job:run(offset, count)
  local left = count or math.maxinteger
  while left > 0 do
    local n = self:step(left)
    if n == 0 then break end
    left = left - n
  end
  return self.at - offset
end

local function check_number(position, name, value, what)
  if value == nil then return end
  local number = math.tointeger(value)
  if not number or type(value) ~= "number" then
    options.bad_argument(position, name,
      ("%s: integer expected, got %s"):format(what, options.type_name(value)))
  end
  if number < 0 then options.bad_argument(position, name, what .. " cannot be negative") end
  return number
end

--- Sends a file for the function `name`, whose file is argument `first`. Awaits.
function M.send(first, name, stream, file, offset, count)
  offset = check_number(first + 1, name, offset, "offset") or 0
  count = check_number(first + 2, name, count, "count")
  local source = open_source(first, name, file)
  local at
  local _ <close> = blocks.on_leaving(function() source:close(at) end)
  local seekable = core.is_seekable(source.fd, source.path)
  if not seekable and offset > 0 then
    options.bad_argument(first + 1, name, "offset: only a regular file has one")
  end
  core.take_pen(stream)
  local job = setmetatable({ stream = stream, source = source, at = offset,
    seekable = seekable, copies = not seekable }, job_mt)
  local _ <close> = blocks.on_leaving(function()
    at = seekable and job.at or nil
    core.drop_pen(stream)
  end)
  return job:run(offset, count)
end

--- Sends a file, by the kernel alone where it can (a regular file to a socket or
-- pipe), else by reading and writing. Awaits. Other writers wait their turn.
-- Cancelled, a part may have been sent.
-- @function Stream:sendfile
-- @param file string (a path), Lua file, or integer (a descriptor); the position of
-- the latter two is afterwards where the sending ended
-- @param[opt=0] offset integer, bytes; nil or 0 for what is no regular file
-- @param[opt] count integer, bytes; to the end of the file when it is nil
-- @return integer, bytes sent, which is less than `count` when the file ends before
-- @raise FileNotFoundError, PermissionError or another OSError of the file; as
-- `write`; see Awaiting functions
-- @see asyncio.loop.sendfile
function Stream:sendfile(file, offset, count)
  if not options.has_methods(self, Stream) then options.bad_self("sendfile", "Stream", self) end
  return (M.send(1, "sendfile", self, file, offset, count))
end

-- ---- relay ---------------------------------------------------------------------

local function copy(from, to, counts, key)
  for chunk in from:chunks() do
    local ok, err = pcall(to.write, to, chunk)
    if not ok then
      -- A write that was cancelled has queued nothing, so nothing was read either.
      if core.is_error(err, "CancelledError") then core.unread(from, chunk) end
      error(err, 0)
    end
    counts[key] = counts[key] + #chunk
  end
  if to:can_write_eof() then to:write_eof() end
end

local function check_stream(position, stream)
  if options.has_methods(stream, Stream) then return stream end
  options.bad_argument(position, "relay", "Stream expected, got " .. options.type_name(stream))
end

--- Copies from each of two streams to the other until both have ended. Awaits. The
-- end of one is passed on by `write_eof`, and the other direction goes on. Closes
-- neither.
-- @param a Stream
-- @param b Stream
-- @return integers: bytes copied from `a` to `b`, and from `b` to `a`
-- @raise what reading or writing raises; the other direction is cancelled then; see
-- Awaiting functions
function M.relay(a, b)
  check_stream(1, a)
  check_stream(2, b)
  local counts = { 0, 0 }
  control.gather(function() copy(a, b, counts, 1) end, function() copy(b, a, counts, 2) end)
  return counts[1], counts[2]
end

return M
