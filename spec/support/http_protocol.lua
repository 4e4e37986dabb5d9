-- SPDX-License-Identifier: MIT
-- A small HTTP/1.1 server as a protocol class, for curl to talk to: requests in whatever pieces
-- they come, several on one connection, bodies both ways, and files by sendfile.
local moonloop = require "moonloop"

local Http = moonloop.Protocol:extend { rest = "", requests = 0 }

function Http:connection_made(transport)
  self.transport = transport
end

local function answer(self, status, body)
  self.transport:writelines {
    "HTTP/1.1 ", status, "\r\nContent-Length: ", #body, "\r\n\r\n", body,
  }
end

-- Serves no further request until the file is out.
local function send_file(self, path, size)
  self.sending = true
  self.transport:pause_reading()
  moonloop.create_task(function()
    self.transport:write(("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"):format(size))
    moonloop.get_running_loop():sendfile(self.transport, path)
    self.sending = false
    self.transport:resume_reading()
    self:data_received("")
  end)
end

local routes = {}

function routes.GET(self, path)
  if path == self.file then return send_file(self, path, self.file_size) end
  answer(self, "200 OK", "this is " .. path)
end

function routes.POST(self, _, body)
  answer(self, "200 OK", body:upper())
end

-- Serves the first request of what has come.
-- @return whether there was a whole one
local function serve_one(self)
  local head, after = self.rest:match("^(.-\r\n\r\n)()")
  if not head then return false end
  local size = math.tointeger(head:lower():match("\r\ncontent%-length: (%d+)") or 0)
  if #self.rest - after + 1 < size then return false end
  local body = self.rest:sub(after, after + size - 1)
  self.rest = self.rest:sub(after + size)
  self.requests = self.requests + 1
  local method, path = head:match("^(%u+) (%S+) HTTP/1%.1\r\n")
  local route = routes[method]
  if route then route(self, path, body) else answer(self, "501 Not Implemented", "") end
  return true
end

function Http:data_received(data)
  self.rest = self.rest .. data
  while not self.sending and serve_one(self) do end
end

return Http
