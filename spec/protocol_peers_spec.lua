-- SPDX-License-Identifier: MIT
-- Protocols beside real programs: python3's asyncio protocols at either end, which pause and
-- resume, reset and are reset; socat; curl with a small HTTP server made of a protocol.
local background = require "spec.support.background"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local pipes = require "spec.support.pipes"
local programs = require "spec.support.programs"
local protocols = require "spec.support.protocols"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()

local MIB = 1024 * 1024

-- Pends the spec unless this program is there.
local function need(program)
  local missing = programs.missing(program)
  if missing then pending(missing .. " is not installed") end
end

-- Echoes, and reads nothing while what it wrote piles up.
local Echo = moonloop.Protocol:extend {
  connection_made = function(self, transport) self.transport = transport end,
  data_received = function(self, data) self.transport:write(data) end,
  pause_writing = function(self) self.transport:pause_reading() end,
  resume_writing = function(self) self.transport:resume_reading() end,
}

-- Runs a Python program to its end and gives what it printed. Awaits.
local function python(folder, source, ...)
  local path = folder:write("program.py", source)
  local status, out = peers.run(table.concat({ "exec python3", path, ... }, " "))
  assert.equal(0, status, out)
  return out
end

-- Starts a Python server, which prints its port. Awaits.
-- @return a to-be-closed Program, the port
local function serve(folder, source)
  local path = folder:write("server.py", source)
  local program = background.start({ "python3", path }, "serving on (%d+)")
  return program, math.tointeger(program.found)
end

describe("A protocol of python3's asyncio", function()
  before_each(function() need("python3") end)

  local SLOW_CLIENT = [[
import asyncio, socket, sys

SIZE = 6 * 1024 * 1024
BLOCK = bytes(range(251)) * 300

class Client(asyncio.Protocol):
    def __init__(self):
        self.sent = self.got = self.pauses = 0
        self.paused = False
        self.ended = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        self.transport = transport
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF): # so that less than all fits
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 65536)
        transport.pause_reading()
        self.go_on()
    def go_on(self):
        while not self.paused and self.sent < SIZE:
            piece = BLOCK[:min(len(BLOCK), SIZE - self.sent)]
            self.transport.write(piece)
            self.sent += len(piece)
        if self.sent == SIZE:
            self.transport.write_eof()
    def pause_writing(self):
        self.pauses += 1
        self.paused = True
        self.transport.resume_reading()
    def resume_writing(self):
        self.paused = False
        self.go_on()
    def data_received(self, data):
        start = self.got % 251
        expected = (BLOCK * (len(data) // len(BLOCK) + 2))[start:start + len(data)]
        assert data == expected
        self.got += len(data)
    def connection_lost(self, error):
        self.ended.set_result(error)

async def main():
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, "127.0.0.1", int(sys.argv[1]))
    assert await client.ended is None
    print(client.got == SIZE, client.pauses > 0)

asyncio.run(main())
]]

  it("sends us more than fits and gets it back, with pauses on both sides", function()
    local folder <close> = script.folder()
    local Small = Echo:extend {
      connection_made = function(self, transport)
        local socket = transport:get_extra_info("socket")
        for _, option in ipairs { "SO_SNDBUF", "SO_RCVBUF" } do socket:setsockopt(option, 65536) end
        Echo.connection_made(self, transport)
      end,
    }
    local server <close> = loop:create_server(Small, "127.0.0.1", 0)
    assert.equal("True True\n", python(folder, SLOW_CLIENT, server:port()))
  end)

  local RESETTING_SERVER = [[
import asyncio, socket, struct

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        if data.startswith(b"abort"):
            linger = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.transport.abort()
        elif data.startswith(b"close"):
            self.transport.write(b"goodbye")
            self.transport.close()
        elif data.startswith(b"half"):
            self.transport.write(b"half")
            self.transport.write_eof()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print("serving on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
]]

  it("ends our connections in every way it has, and the callbacks say which", function()
    local folder <close> = script.folder()
    local program <close>, port = serve(folder, RESETTING_SERVER)
    assert.is_string(program.found)
    local function talk(word, extra)
      local protocol = protocols.recorder(extra)
      loop:create_connection(function() return protocol end, "127.0.0.1", port)
      protocol.transport:write(word)
      local err = protocol:lost()
      protocol:check()
      return err and err.kind, protocol:order(), protocol:text()
    end
    assert.same({ "ConnectionResetError", "made lost", "" }, { talk("abort") })
    assert.same({ nil, "made data eof lost", "goodbye" }, { talk("close") })
    assert.same({ nil, "made data eof lost", "half" }, { talk("half") })
    assert.same({ nil, "made data eof lost", "half" }, { talk("half", {
      eof_received = function(self)
        self.transport:write("late")
        loop:call_soon(function() self.transport:close() end)
        return true
      end,
    }) })
  end)

  local WATCHING_CLIENT = [[
import asyncio, sys

class Client(asyncio.Protocol):
    def __init__(self, word):
        self.word, self.log = word, []
        self.ended = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        transport.write(self.word)
    def data_received(self, data):
        self.log.append(data.decode())
    def eof_received(self):
        self.log.append("eof")
    def connection_lost(self, error):
        self.log.append(type(error).__name__)
        self.ended.set_result(None)

async def main():
    loop = asyncio.get_running_loop()
    for word in b"close", b"abort", b"reset", b"raise":
        _, client = await loop.create_connection(lambda: Client(word), "127.0.0.1",
            int(sys.argv[1]))
        await client.ended
        print(word.decode(), *client.log)

asyncio.run(main())
]]

  it("sees what we do to a connection", function()
    local folder <close> = script.folder()
    local reports <close> = tasks.reports()
    local acts = {
      close = function(transport)
        transport:write("well")
        transport:close()
      end,
      abort = function(transport) transport:abort() end,
      reset = protocols.reset,
      raise = function() error("no such word") end,
    }
    local made = {}
    local server <close> = loop:create_server(function()
      made[#made + 1] = protocols.recorder {
        data_received = function(self, data) acts[data](self.transport) end,
      }
      return made[#made]
    end, "127.0.0.1", 0)
    assert.equal(table.concat {
      "close well eof NoneType\n", "abort eof NoneType\n", "reset ConnectionResetError\n",
      "raise eof NoneType\n",
    }, python(folder, WATCHING_CLIENT, server:port()))
    assert.equal(4, #made)
    for i = 1, 4 do
      made[i]:lost()
      made[i]:check()
    end
    assert.equal(1, #reports)
  end)
end)

describe("socat", function()
  before_each(function() need("socat") end)

  it("gets back all that it sends through a protocol", function()
    local text = net.text(3 * MIB)
    local file <close> = pipes.file(text)
    local server <close> = loop:create_server(Echo, "127.0.0.1", 0)
    local status, out = peers.run(("exec socat -t 30 STDIO TCP:127.0.0.1:%d <%s"):format(
      server:port(), file.path))
    assert.equal(0, status)
    assert.is_true(out == text)
  end)

  it("talks to a protocol on an abstract Unix socket", function()
    local name = protocols.abstract_name()
    local server <close> = loop:create_unix_server(Echo, name)
    local status, out = peers.run("echo hello | socat -t 30 STDIO ABSTRACT-CONNECT:"
      .. name:sub(2))
    assert.equal("hello\n", out)
    assert.equal(0, status)
    assert.is_true(server:is_serving())
  end)

  it("is connected to by a protocol, which hears the end of its input", function()
    local port = net.free_port()
    local text = net.text(MIB)
    local file <close> = pipes.file(text)
    local job = peers.start(("exec socat -u %s TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr"):format(
      file.path, port))
    local protocol = protocols.recorder()
    repeat -- until it listens
      local ok = moonloop.pcall(loop.create_connection, loop, function() return protocol end,
        "127.0.0.1", port)
      if not ok then moonloop.sleep(0.05) end
    until ok
    assert.is_true(protocol:finished() == text)
    assert.is_nil(protocol:lost())
    protocol:check()
    assert.equal(0, (job:wait()))
  end)

  it("exchanges datagrams with a protocol", function()
    local transport, protocol = loop:create_datagram_endpoint(function()
      return protocols.recorder {
        datagram_received = function(self, data, addr)
          self.transport:sendto(data:upper(), addr)
        end,
      }
    end, { local_addr = { host = "127.0.0.1", port = 0 } })
    local status, out = peers.run(("echo hello | socat -t 2 STDIO UDP:127.0.0.1:%d"):format(
      transport:get_extra_info("sockname").port))
    assert.equal("HELLO\n", out)
    assert.equal(0, status)
    transport:close()
    protocol:lost()
    protocol:check()
  end)
end)

describe("curl", function()
  before_each(function() need("curl") end)

  -- Serves HTTP; every protocol that was made is in the list. Awaits.
  local function http_server(fields)
    local made = {}
    local Http = require("spec.support.http_protocol"):extend(fields or {})
    local server = loop:create_server(function()
      made[#made + 1] = Http:new()
      return made[#made]
    end, "127.0.0.1", 0)
    return server, "http://127.0.0.1:" .. server:port(), made
  end

  it("gets pages from an HTTP server made of a protocol, many by one connection", function()
    local server <close>, url, made = http_server()
    local urls, expected = {}, {}
    for i = 1, 20 do
      urls[i] = url .. "/page" .. i
      expected[i] = "this is /page" .. i
    end
    local status, out = peers.run("curl -sS " .. table.concat(urls, " "))
    assert.equal(table.concat(expected), out)
    assert.equal(0, status)
    assert.equal(1, #made)
    assert.equal(20, made[1].requests)
    assert.is_true(server:is_serving())
  end)

  it("posts a large body and gets the answer", function()
    local text = net.text(MIB)
    local file <close> = pipes.file(text)
    local server <close>, url, made = http_server()
    local status, out = peers.run(("curl -sS -H Expect: --data-binary @%s %s/upper"):format(
      file.path, url))
    assert.is_true(out == text:upper())
    assert.equal(0, status)
    assert.equal(1, made[1].requests)
    assert.is_true(server:is_serving())
  end)

  it("gets a file by sendfile, and another page after it", function()
    local text = net.text(5 * MIB)
    local file <close> = pipes.file(text)
    local server <close>, url, made = http_server { file = file.path, file_size = #text }
    local status, out = peers.run(("curl -sS %s%s %s/next"):format(url, file.path, url))
    assert.is_true(out == text .. "this is /next")
    assert.equal(0, status)
    assert.equal(2, made[1].requests)
    assert.is_true(server:is_serving())
  end)
end)
