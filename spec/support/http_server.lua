-- SPDX-License-Identifier: MIT
-- A small HTTP/1.1 server on Streams, for curl and nginx to talk to: kept connections, bodies with
-- a length or in chunks, "Expect: 100-continue", files by sendfile.
local moonloop = require "moonloop"

local M = {}

-- nil at end of file, and where the client broke off.
local function read_head(stream)
  local ok, head = moonloop.pcall(stream.readuntil, stream, "\r\n\r\n")
  if not ok and not moonloop.is_error(head, "IncompleteReadError") then error(head, 0) end
  if not ok or not head then return nil end
  local method, path, version = head:match("^(%S+) (%S+) HTTP/1%.(%d)\r\n")
  local request = { method = method, path = path, version = version, headers = {} }
  for name, value in head:gmatch("\r\n([^:\r\n]+):[ \t]*([^\r\n]*)") do
    request.headers[name:lower()] = value
  end
  return request
end

local function read_chunks(stream)
  local parts = {}
  while true do
    local size = tonumber(stream:readline():match("^%x+"), 16)
    parts[#parts + 1] = stream:readexactly(size)
    assert(stream:readexactly(2) == "\r\n", "a chunk ends otherwise")
    if size == 0 then return table.concat(parts) end
  end
end

local function read_body(stream, headers)
  if headers.expect == "100-continue" then stream:write("HTTP/1.1 100 Continue\r\n\r\n") end
  if headers["transfer-encoding"] == "chunked" then return read_chunks(stream) end
  local length = math.tointeger(tonumber(headers["content-length"] or 0))
  return length > 0 and stream:readexactly(length) or ""
end

local function write_head(stream, status, keep, framing)
  stream:write("HTTP/1.1 ", status, "\r\n", framing, "\r\nConnection: ",
    keep and "keep-alive" or "close", "\r\n\r\n")
end

-- A body is text, {file=, size=} or a function that gives one piece after the other.
local function write_answer(stream, status, body, keep)
  if type(body) == "string" then
    write_head(stream, status, keep, "Content-Length: " .. #body)
    return stream:write(body)
  elseif type(body) == "table" then
    write_head(stream, status, keep, "Content-Length: " .. body.size)
    return stream:sendfile(body.file)
  end
  write_head(stream, status, keep, "Transfer-Encoding: chunked")
  for piece in body do stream:write(("%x\r\n"):format(#piece), piece, "\r\n") end
  stream:write("0\r\n\r\n")
end

local function keeps(request)
  local connection = (request.headers.connection or ""):lower()
  if request.version == "0" then return connection == "keep-alive" end
  return connection ~= "close"
end

local function serve(self, stream)
  self.connections = self.connections + 1
  for request in function() return read_head(stream) end do
    self.requests = self.requests + 1
    request.body = read_body(stream, request.headers)
    local keep = keeps(request)
    local status, body = self.respond(request)
    write_answer(stream, status, body, keep)
    if not keep then return end
  end
end

--- Makes a server.
-- @param respond function(request) → status ("200 OK") and a body; `request` has
-- `method`, `path`, `headers` (by name in small letters) and `body`
-- @return a table with `handle` (for start_server and start_unix_server), and what
-- it has counted: `connections`, `requests`
function M.new(respond)
  local self = { respond = respond, connections = 0, requests = 0 }
  self.handle = function(stream) serve(self, stream) end
  return self
end

return M
