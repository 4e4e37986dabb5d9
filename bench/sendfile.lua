-- SPDX-License-Identifier: MIT
--
-- The Moonloop server of the sendfile workload: answers every request with the
-- file that it is given. Prints its port, then serves until it is killed.

local moonloop = require "moonloop"

local path = arg[1]
local file <close> = assert(io.open(path, "rb"))
local size = file:seek("end")

local function serve(stream)
  if not stream:readuntil("\r\n\r\n") then return end
  stream:write("HTTP/1.0 200 OK\r\nContent-Length: ", size, "\r\n\r\n")
  stream:sendfile(path)
end

local server = moonloop.start_server(serve, "127.0.0.1", 0)
print(server:port())
io.stdout:flush()
server:serve_forever()
