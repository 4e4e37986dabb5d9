-- SPDX-License-Identifier: MIT
-- A file of 1 GiB goes out by sendfile from a process of its own, byte for byte, and that
-- process's greatest resident memory stays what it was.
local background = require "spec.support.background"
local moonloop = require "moonloop"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

local SIZE = 1024 * 1024 * 1024
local GROWTH = 4096 -- KiB that the memory may grow by

-- Serves a file: as it is given, and what the process's greatest memory has been.
local SERVER = [[
  package.path = arg[1] .. "/?.lua;" .. package.path
  local moonloop = require "moonloop"
  local http_server = require "spec.support.http_server"

  local function memory()
    local file <close> = assert(io.open("/proc/self/status"))
    return file:read("a"):match("VmHWM:%s*(%d+) kB")
  end

  local http = http_server.new(function(request)
    if request.path == "/memory" then return "200 OK", memory() end
    return "200 OK", { file = arg[2], size = math.tointeger(tonumber(arg[3])) }
  end)
  local server <close> = moonloop.start_server(http.handle, "127.0.0.1", 0)
  io.stdout:setvbuf("no")
  print("serving on " .. server:port() .. ".")
  server:serve_forever()
]]

-- A file with holes, and with text at some places.
local function sparse_file(path)
  local file <close> = assert(io.open(path, "wb"))
  for at = 0, SIZE - 1, SIZE // 16 + 12345 do
    file:seek("set", at)
    file:write("here is byte ", at)
  end
  file:seek("set", SIZE - 3)
  file:write("end")
end

describe("A file of 1 GiB", function()
  local READERS = {
    curl = "exec curl -sS --max-time 50 http://127.0.0.1:%d/file | cmp - %s && echo same",
    python3 = [[exec python3 -c '
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
peer.sendall(b"GET /file HTTP/1.0\r\n\r\n")
came = peer.makefile("rb", buffering=1 << 20)
while came.readline() != b"\r\n":
    pass
with open(sys.argv[2], "rb", buffering=1 << 20) as file:
    while True:
        a, b = came.read(1 << 20), file.read(1 << 20)
        assert a == b
        if not a:
            break
print("same")
' %d %s]],
  }

  for reader, line in pairs(READERS) do
    it("goes out by sendfile to " .. reader .. " with flat memory #load", function()
      need(reader, "curl")
      local folder <close> = script.folder()
      local path = folder.path .. "/file"
      sparse_file(path)
      local server <close> = background.start({ script.binary, folder:write("server.lua", SERVER),
        script.root, path, tostring(SIZE) }, "serving on (%d+)%.")
      local port = math.tointeger(tonumber(server.found))

      local function memory()
        local stream <close> = moonloop.connect("127.0.0.1", port)
        stream:write("GET /memory HTTP/1.0\r\n\r\n")
        return math.tointeger(tonumber(stream:read():match("\r\n\r\n(%d+)$")))
      end

      -- What the first transfer of all brings in is not counted.
      peers.run(("curl -s http://127.0.0.1:%d/file | head -c 1000000"):format(port))
      local before = memory()
      local status, out = peers.run(line:format(port, path))
      assert.equal("same\n", out)
      assert.equal(0, status)
      local growth = memory() - before
      assert.is_true(growth <= GROWTH, growth .. " KiB")
    end)
  end
end)
