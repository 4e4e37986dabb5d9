-- SPDX-License-Identifier: MIT
-- What: a server on a Unix socket: a path instead of a host and a port.
-- Why: it is reached from this machine only, by those whom the permissions of its file let in, and
--      it can tell who they are. A name that begins with "\0" needs no file at all.
-- Usage: moonloop examples/streams_unix.lua
local moonloop = require "moonloop"

local function serve(stream)
  local peer = stream:get_extra_info("peercred") -- as the system says, not as the client says
  stream:write(("hello, process %d of user %d\n"):format(peer.pid, peer.uid))
end

local function try(path)
  local _ <close> = moonloop.start_unix_server(serve, path, { mode = "600" })
  local stream <close> = moonloop.connect_unix(path)
  io.write((stream:readline():gsub("%d+", "N")))
end

local path = os.tmpname()
os.remove(path)
try(path)
print("left behind", (io.open(path))) -- the server has removed its file

try("\0moonloop example " .. math.random(1 << 40))
