-- SPDX-License-Identifier: MIT
-- A small HTTP/1.1 on Streams, both sides of it: requests and answers are read properly (status
-- line, headers, Content-Length, chunked bodies, connections kept open), everything else is left
-- out. Builds on moonloop's Streams; knows nothing of crawlers or sites.
local moonloop = require "moonloop"

local M = {}

--- What does not follow the protocol raises this kind.
M.HTTPError = moonloop.Error:extend "HTTPError"

local MAX_HEADERS = 100

local REASONS = {
  [200] = "OK", [301] = "Moved Permanently", [400] = "Bad Request", [404] = "Not Found",
  [405] = "Method Not Allowed",
}

local function fail(message)
  error(M.HTTPError:new(message))
end

-- A line without its end, or nil at end of file.
local function read_line(stream)
  local line = stream:readline()
  return line and (line:gsub("\r?\n$", ""))
end

-- The header lines up to the empty one: lower-case name to value.
local function read_headers(stream)
  local headers = {}
  for _ = 1, MAX_HEADERS do
    local line = read_line(stream) or fail "the connection ended within the headers"
    if line == "" then
      return headers
    end
    local name, value = line:match "^([^%s:]+):%s*(.-)%s*$"
    if not name then
      fail("not a header line: " .. line)
    end
    name = name:lower()
    headers[name] = headers[name] and headers[name] .. ", " .. value or value
  end
  fail("more than " .. MAX_HEADERS .. " headers")
end

-- Whether the connection stays open after this message.
local function stays_open(version, headers)
  local connection = (headers.connection or ""):lower()
  if version == "1.0" then
    return connection:find("keep-alive", 1, true) ~= nil
  end
  return not connection:find("close", 1, true)
end

local function read_chunks(stream)
  local parts = {}
  while true do
    local size = tonumber((read_line(stream) or ""):match "^%s*(%x+)" or fail "no chunk size", 16)
    if size == 0 then
      break
    end
    parts[#parts + 1] = stream:readexactly(size)
    read_line(stream)
  end
  read_headers(stream) -- the trailer
  return table.concat(parts)
end

-- The body of an answer, and whether its end was marked (if not, the connection's end was it).
local function read_body(stream, status, headers)
  if status == 204 or status == 304 then
    return "", true
  end
  if (headers["transfer-encoding"] or ""):lower():find("chunked", 1, true) then
    return read_chunks(stream), true
  end
  local length = headers["content-length"]
  if not length then
    return stream:read(), false
  end
  length = tonumber(length:match "^%d+$" or fail("not a length: " .. length))
  return length == 0 and "" or stream:readexactly(length) or fail "no body", true
end

--- Reads one answer. Awaits.
-- @return a table with `status`, `reason`, `headers`, `body` and `keep_alive`
function M.read_response(stream)
  local line = read_line(stream) or fail "the connection ended before an answer"
  local version, status, reason = line:match "^HTTP/(1%.[01]) (%d%d%d) ?(.*)$"
  if not version then
    fail("not a status line: " .. line)
  end
  status = tonumber(status)
  local headers = read_headers(stream)
  if status < 200 then -- 100 Continue and its like announce the answer proper
    return M.read_response(stream)
  end
  local body, marked = read_body(stream, status, headers)
  return {
    status = status, reason = reason, headers = headers, body = body,
    keep_alive = marked and stays_open(version, headers),
  }
end

--- Reads one request, without a body; nil when the client has closed. Awaits.
-- @return a table with `method`, `target`, `headers` and `keep_alive`
function M.read_request(stream)
  local line = read_line(stream)
  if not line then
    return nil
  end
  local method, target, version = line:match "^(%u+) (%S+) HTTP/(1%.[01])$"
  if not method then
    fail("not a request line: " .. line)
  end
  local headers = read_headers(stream)
  return {
    method = method, target = target, headers = headers,
    keep_alive = stays_open(version, headers),
  }
end

--- Writes one answer, in one piece. Awaits while the client is slow to read.
-- @param answer `status`, `body`, and a list `headers` of lines, each a string
function M.write_response(stream, answer, keep_alive)
  local body = answer.body or ""
  local lines = {
    ("HTTP/1.1 %d %s"):format(answer.status, REASONS[answer.status] or "Unknown"),
    "Content-Length: " .. #body,
    "Connection: " .. (keep_alive and "keep-alive" or "close"),
  }
  table.move(answer.headers or {}, 1, #(answer.headers or {}), #lines + 1, lines)
  stream:write(table.concat(lines, "\r\n"), "\r\n\r\n", body)
end

--- Serves one connection: `respond(request)` gives the answer to each of its requests. Awaits.
function M.serve(stream, respond)
  repeat
    local ok, request = moonloop.pcall(M.read_request, stream)
    if not ok then
      if moonloop.is_error(request, M.HTTPError) then
        M.write_response(stream, { status = 400, body = request.message .. "\n" }, false)
      end
      return
    end
    if request then
      M.write_response(stream, respond(request), request.keep_alive)
    end
  until not (request and request.keep_alive)
end

local Client = {}
Client.__index = Client
Client.__name = "http.Client"
Client.__close = function(self) self:close() end

--- Makes a client with one connection, opened when it is needed and kept open between requests.
function M.client(host, port)
  return setmetatable({ host = host, port = port }, Client)
end

function Client:close()
  local stream = self.stream
  self.stream = nil
  if stream then
    stream:close()
  end
end

local function exchange(self, target)
  self.stream = self.stream or moonloop.connect(self.host, self.port)
  local host = self.host:find(":", 1, true) and "[" .. self.host .. "]" or self.host
  self.stream:write(
    "GET ", target, " HTTP/1.1\r\nHost: ", host, ":", tostring(self.port),
    "\r\nUser-Agent: moonloop-example\r\nAccept: */*\r\n\r\n")
  return M.read_response(self.stream)
end

-- A server may close a connection that was idle just as the next request goes out.
local function went_stale(e)
  return moonloop.is_error(e, "ConnectionError") or moonloop.is_error(e, M.HTTPError)
end

--- Fetches `target`, a path with its query. Awaits.
-- @return an answer as read_response gives it
function Client:get(target)
  local reused = self.stream ~= nil
  local ok, answer = moonloop.pcall(exchange, self, target)
  if not ok and reused and went_stale(answer) then
    self:close()
    ok, answer = moonloop.pcall(exchange, self, target)
  end
  if not ok or not answer.keep_alive then
    self:close()
  end
  if not ok then
    error(answer, 0)
  end
  return answer
end

return M
