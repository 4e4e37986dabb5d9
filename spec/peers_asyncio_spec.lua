-- SPDX-License-Identifier: MIT
-- Python's asyncio at the other end, both ways: its streams over Unix sockets, its protocols, its
-- datagrams, its sendfile, and its child process with our standard streams.
local background = require "spec.support.background"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

-- Runs a Python program to its end and gives what it printed. Awaits.
local function python(folder, source, ...)
  local path = folder:write("program.py", source)
  local words = table.concat({ "exec python3", path, ... }, " ")
  local status, out = peers.run(words)
  assert.equal(0, status, out)
  return out
end

-- Starts a Python program and waits until it prints "serving on <what>". Awaits.
-- @return a to-be-closed Program, and <what>
local function serve(folder, source, ...)
  local path = folder:write("server.py", source)
  local program = background.start({ "python3", path, ... }, "serving on (%S+)")
  return program, program.found
end

local function port_of(program)
  return math.tointeger(tonumber(program.found))
end

describe("asyncio's streams", function()
  local SUM_CLIENT = [[
import asyncio, sys

async def one(path, i):
    reader, writer = await asyncio.open_unix_connection(path)
    numbers = range(i, i + 100)
    for n in numbers:
        writer.write(f"{n}\n".encode())
        if n % 10 == 0:
            await writer.drain()
    writer.write_eof()
    total = int(await reader.readline())
    assert total == sum(numbers), total
    assert await reader.readuntil(b";") == b"end;"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()

async def main():
    await asyncio.gather(*(one(sys.argv[1], i) for i in range(20)))
    print("20 sums")

asyncio.run(main())
]]

  it("get sums from our Unix server after their half-close", function()
    need("python3")
    local folder <close> = script.folder()
    local path, open = folder.path .. "/socket", 0
    local server <close> = moonloop.start_unix_server(function(stream)
      open = open + 1
      local sum = 0
      for line in stream:lines() do sum = sum + math.tointeger(tonumber(line)) end
      stream:write(sum, "\nend;")
    end, path)
    assert.equal("20 sums\n", python(folder, SUM_CLIENT, path))
    assert.equal(20, open)
    assert.is_true(server:is_serving())
  end)

  local UPPER_SERVER = [[
import asyncio, sys

async def handle(reader, writer):
    size = int(await reader.readline())
    data = await reader.readexactly(size)
    writer.write(data[::-1])
    writer.write_eof()
    assert await reader.read() == b"thanks"
    writer.close()

async def main():
    server = await asyncio.start_unix_server(handle, sys.argv[1])
    print("serving on", sys.argv[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
]]

  it("serve our client on a Unix socket, which writes after their half-close", function()
    need("python3")
    local folder <close> = script.folder()
    local program, path = serve(folder, UPPER_SERVER, folder.path .. "/socket")
    local _ <close> = program
    local text = net.text(300000)
    for _ = 1, 3 do
      local stream <close> = moonloop.connect_unix(path)
      stream:write(#text, "\n", text)
      assert.is_true(stream:read() == text:reverse())
      stream:write("thanks")
      stream:write_eof()
      assert.is_nil(stream:read(1))
    end
  end)

  local BOTH_WAYS = [[
import asyncio, sys

SIZE = 5 * 1024 * 1024

async def send(writer):
    sent, step = 0, 1
    while sent < SIZE:
        step = min(step * 3 % 70001, SIZE - sent)
        writer.write(bytes((sent + i) % 251 for i in range(step)))
        sent += step
        await writer.drain()
    writer.write_eof()

async def receive(reader):
    got = 0
    while data := await reader.read(10000):
        assert data == bytes((got + i) % 251 for i in range(len(data)))
        got += len(data)
    assert got == SIZE, got

async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    await asyncio.gather(send(writer), receive(reader))
    writer.close()
    print("both ways")

asyncio.run(main())
]]

  it("send and receive 5 MiB at the same time #load", function()
    need("python3")
    local folder <close> = script.folder()
    local server <close> = moonloop.start_server(function(stream)
      for data in stream:chunks() do stream:write(data) end
    end, "127.0.0.1", 0)
    assert.equal("both ways\n", python(folder, BOTH_WAYS, server:port()))
  end)

  local SENDER = [[
import asyncio, sys

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", int(sys.argv[1]))
    with open(sys.argv[2], "rb") as file:
        print("sent", await loop.sendfile(transport, file, fallback=False))
    transport.close()

asyncio.run(main())
]]

  it("send a file by sendfile to our reader", function()
    need("python3")
    local folder <close> = script.folder()
    local text = net.text(3000000)
    local path = folder:write("page", text)
    local came
    local server <close> = moonloop.start_server(function(stream) came = stream:read() end,
      "127.0.0.1", 0)
    assert.equal("sent 3000000\n", python(folder, SENDER, server:port(), path))
    server:close()
    server:wait_closed()
    assert.is_true(came == text)
  end)
end)

describe("asyncio's protocols", function()
  local LINES_CLIENT = [[
import asyncio, sys

class Client(asyncio.Protocol):
    def __init__(self):
        self.got = b""
        self.ended = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        self.transport = transport
        transport.writelines(f"line {i}\n".encode() for i in range(500))
        transport.write_eof()
    def data_received(self, data):
        self.got += data
    def eof_received(self):
        self.transport.close()
    def connection_lost(self, error):
        self.ended.set_result(error)

async def main():
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(Client, "127.0.0.1", int(sys.argv[1]))
    assert await client.ended is None
    assert client.got == b"".join(f"LINE {i}\n".encode() for i in range(500)), client.got[:100]
    print("500 lines")

asyncio.run(main())
]]

  it("talk to our protocol, which answers after their half-close", function()
    need("python3")
    local folder <close> = script.folder()
    local loop, order = moonloop.get_running_loop(), {}
    local Upper = moonloop.Protocol:extend {
      connection_made = function(self, transport)
        order[#order + 1] = "made"
        self.transport, self.pieces = transport, {}
      end,
      data_received = function(self, data) self.pieces[#self.pieces + 1] = data end,
      eof_received = function(self)
        order[#order + 1] = "eof"
        self.transport:write(table.concat(self.pieces):upper())
        self.transport:close()
        return true
      end,
      connection_lost = function(_, err) order[#order + 1] = "lost " .. tostring(err) end,
    }
    local server <close> = loop:create_server(Upper, "127.0.0.1", 0)
    assert.equal("500 lines\n", python(folder, LINES_CLIENT, server:port()))
    server:close()
    server:wait_closed()
    assert.same({ "made", "eof", "lost nil" }, order)
  end)

  local COUNT_SERVER = [[
import asyncio

class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        self.count = 0
        transport.write(b"welcome\n")
    def data_received(self, data):
        self.count += len(data)
    def eof_received(self):
        self.transport.write(b"%d bytes" % self.count)
        self.transport.write_eof()
        return True

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print("serving on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
]]

  it("serve our protocol, whose write side was closed before theirs", function()
    need("python3")
    local folder <close> = script.folder()
    local program = serve(folder, COUNT_SERVER)
    local _ <close> = program
    local loop, ended = moonloop.get_running_loop(), moonloop.Future()
    local text, came = net.text(2000000), {}
    local transport = loop:create_connection(function()
      return {
        connection_made = function(_, transport)
          transport:write(text)
          transport:write_eof()
        end,
        data_received = function(_, data) came[#came + 1] = data end,
        connection_lost = function(_, err) ended:set_result(err) end,
      }
    end, "127.0.0.1", port_of(program))
    assert.is_nil(ended:await())
    assert.equal("welcome\n2000000 bytes", table.concat(came))
    assert.is_true(transport:is_closing())
  end)
end)

describe("asyncio's datagrams", function()
  local ECHO = [[
import asyncio

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport
    def datagram_received(self, data, address):
        self.transport.sendto(data[::-1], address)

async def main():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
    print("serving on", transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
]]

  it("answer ours, one piece to a piece", function()
    need("python3")
    local folder <close> = script.folder()
    local program = serve(folder, ECHO)
    local _ <close> = program
    local there = { host = "127.0.0.1", port = port_of(program) }
    local udp <close> = moonloop.open_datagram { remote_addr = there }
    for _, size in ipairs { 1, 2, 1000, 60000 } do
      local text = net.text(size)
      udp:send(text)
      local data, from = udp:recv()
      assert.is_true(data == text:reverse())
      assert.same(there, { host = from.host, port = from.port })
    end
  end)

  local ASKER = [[
import asyncio, sys

class Asker(asyncio.DatagramProtocol):
    def __init__(self):
        self.answers = asyncio.Queue()
    def datagram_received(self, data, address):
        self.answers.put_nowait(data)

async def main():
    loop = asyncio.get_running_loop()
    transport, asker = await loop.create_datagram_endpoint(Asker,
        remote_addr=("127.0.0.1", int(sys.argv[1])))
    for i in range(50):
        transport.sendto(b"question %d" % i)
        answer = await asyncio.wait_for(asker.answers.get(), 20)
        assert answer == b"QUESTION %d" % i, answer
    transport.close()
    print("50 answers")

asyncio.run(main())
]]

  it("are answered by our endpoint", function()
    need("python3")
    local folder <close> = script.folder()
    local loop = moonloop.get_running_loop()
    local transport = loop:create_datagram_endpoint(function()
      return {
        connection_made = function(self, transport) self.transport = transport end,
        datagram_received = function(self, data, addr)
          self.transport:sendto(data:upper(), addr)
        end,
      }
    end, { local_addr = { host = "127.0.0.1", port = 0 } })
    local port = transport:get_extra_info("sockname").port
    assert.equal("50 answers\n", python(folder, ASKER, port))
    transport:close()
  end)
end)

describe("asyncio's child process", function()
  local PARENT = [[
import asyncio, sys

async def main():
    child = await asyncio.create_subprocess_exec(sys.argv[1], sys.argv[2],
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    for i in range(100):
        child.stdin.write(f"{i} {i}\n".encode())
        await child.stdin.drain()
        assert int(await child.stdout.readline()) == 2 * i
    out, _ = await child.communicate(b"1 2\n" * 10000)
    assert out == b"3\n" * 10000 + b"end\n", out[-100:]
    print("status", child.returncode)

asyncio.run(main())
]]

  it("is a script of ours that adds on its standard streams", function()
    need("python3")
    local folder <close> = script.folder()
    local adder = folder:write("adder.lua", [[
      local moonloop = require "moonloop"
      for line in moonloop.stdin:lines() do
        local a, b = line:match("(%d+) (%d+)")
        moonloop.stdout:write(("%d\n"):format(a + b))
      end
      moonloop.stdout:write("end\n")
    ]])
    assert.equal("status 0\n", python(folder, PARENT, script.binary, adder))
  end)
end)
