-- SPDX-License-Identifier: MIT
-- start_tls with python3 at the other end, both ways: its streams' and its loop's start_tls, and a
-- blocking socket that sends its handshake together with what comes before it.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local python = require "spec.support.python"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

-- A plain server that speaks TLS from the client's first line on, and then sends back what comes.
-- `lines` has the first lines, `errors` what the handlers raised. Awaits.
local function start(context)
  local lines, errors = {}, {}
  local server = moonloop.start_server(function(stream)
    local ok, err = moonloop.pcall(function()
      lines[#lines + 1] = stream:readline()
      if lines[#lines] == "STARTTLS\n" then stream:write("go\n") end
      stream:start_tls(context or tls.server())
      for data in stream:chunks() do stream:write(data) end
    end)
    if not ok then errors[#errors + 1] = err end
  end, "127.0.0.1", 0)
  return server, lines, errors
end

local function settle(server)
  server:close()
  server:wait_closed()
end

describe("start_tls of a server of ours", function()
  before_each(python.need)

  it("answers asyncio's StreamWriter.start_tls", function()
    local server <close>, lines, errors = start()
    assert.equal("TLSv1.3 300000\n", python.run([[
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(b"STARTTLS\n")
    assert await reader.readline() == b"go\n"
    await writer.start_tls(client_context(), server_hostname="localhost")
    data = bytes(range(250)) * 1200
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    print(writer.get_extra_info("ssl_object").version(), len(data))
    writer.close()

asyncio.run(main())
]], server))
    settle(server)
    assert.same({ "STARTTLS\n" }, lines)
    assert.same({}, errors)
  end)

  it("answers asyncio's loop.start_tls", function()
    local server <close>, _, errors = start()
    assert.equal("echo\n", python.run([[
class Client(asyncio.Protocol):
    def __init__(self):
        self.came = asyncio.Queue()
    def data_received(self, data):
        self.came.put_nowait(data)

async def main():
    loop = asyncio.get_running_loop()
    transport, client = await loop.create_connection(Client, "127.0.0.1", PORT)
    transport.write(b"STARTTLS\n")
    assert await client.came.get() == b"go\n"
    transport = await loop.start_tls(transport, client, client_context(),
        server_hostname="localhost")
    transport.write(b"echo")
    print((await client.came.get()).decode())
    transport.close()

asyncio.run(main())
]], server))
    settle(server)
    assert.same({}, errors)
  end)

  -- Sends `first` and a ClientHello in one segment, goes on over the same socket and has
  -- b"hello" sent back.
  local ONE_SEGMENT = [[
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
peer = socket.create_connection(("127.0.0.1", PORT), 20)
tls = client_context().wrap_bio(incoming, outgoing, server_hostname="localhost")

def pump(call):
    while True:
        try:
            result = call()
            peer.sendall(outgoing.read())
            return result
        except ssl.SSLWantReadError:
            peer.sendall(outgoing.read())
            data = peer.recv(65536)
            assert data, "the server closed"
            incoming.write(data)

try:
    tls.do_handshake()
except ssl.SSLWantReadError:
    peer.sendall(%s + outgoing.read())
pump(tls.do_handshake)
pump(lambda: tls.write(b"hello"))
print(pump(lambda: tls.read(5)).decode())
pump(tls.unwrap)
]]

  it("takes a ClientHello that came in one segment with a PROXY line", function()
    local server <close>, lines, errors = start()
    assert.equal("hello\n", python.run(
      ONE_SEGMENT:format([[b"PROXY TCP4 192.0.2.7 192.0.2.8 1 443\r\n"]]), server))
    settle(server)
    assert.same({ "PROXY TCP4 192.0.2.7 192.0.2.8 1 443\r\n" }, lines)
    assert.same({}, errors)
  end)

  it("takes no plain text that was sent ahead", function()
    local server <close>, lines, errors = start()
    assert.equal("refused\n", python.run([[
peer = socket.create_connection(("127.0.0.1", PORT), 20)
peer.sendall(b"STARTTLS\nRCPT TO: somebody else\n")
assert peer.recv(3) == b"go\n"
try:
    client_context().wrap_socket(peer, server_hostname="localhost")
except (ssl.SSLError, ConnectionError):
    print("refused")
]], server))
    settle(server)
    assert.same({ "STARTTLS\n" }, lines)
    assert.equal(1, #errors)
    assert.equal("TLSError", errors[1].kind)
    assert.matches("does not speak TLS", errors[1].message, 1, true)
  end)

  it("fails when the client ends in its place, and the server goes on", function()
    local server <close>, _, errors = start()
    python.run([[
peer = socket.create_connection(("127.0.0.1", PORT), 20)
peer.sendall(b"STARTTLS\n")
assert peer.recv(3) == b"go\n"
peer.close()
]], server)
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:write("STARTTLS\n")
    assert.equal("go\n", stream:readline())
    stream:start_tls(tls.client(), { server_hostname = "localhost" })
    tls.talk(stream)
    assert.equal(1, #errors)
    assert.equal("EOF", errors[1].code)
  end)
end)

describe("start_tls of a client of ours", function()
  before_each(python.need)

  local STREAMS = [[
async def handle(reader, writer):
    assert await reader.readline() == b"STARTTLS\n"
    writer.write(b"go\n")
    await writer.drain()
    await writer.start_tls(server_context())
    while line := await reader.readline():
        writer.write(line.upper())
    writer.close()

serve(handle)
]]

  it("is answered by asyncio's StreamWriter.start_tls", function()
    local server <close>, port = python.serve(STREAMS)
    local stream <close> = moonloop.connect("127.0.0.1", port)
    assert.is_nil(stream:get_extra_info("tls"))
    stream:write("STARTTLS\n")
    assert.equal("go\n", stream:readline())
    stream:start_tls(tls.client(), { server_hostname = "localhost" })
    assert.is_true(stream:get_extra_info("tls").verified)
    for i = 1, 10 do
      stream:write("line ", i, "\n")
      assert.equal("LINE " .. i .. "\n", stream:readline())
    end
    assert.truthy(server)
  end)

  it("verifies what asyncio's server shows", function()
    local server <close>, port = python.serve(STREAMS)
    local stream <close> = moonloop.connect("127.0.0.1", port)
    stream:write("STARTTLS\n")
    assert.equal("go\n", stream:readline())
    local err = net.raises("CertificateError", stream.start_tls, stream, tls.client(),
      { server_hostname = "a.example" })
    assert.matches("wrong host", err.message, 1, true)
    assert.is_true(stream:is_closing())
    assert.truthy(server)
  end)

  it("upgrades a transport, whose protocol talks on", function()
    local server <close>, port = python.serve([[
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.came = transport, asyncio.Queue()
        self.task = asyncio.create_task(self.talk())
    def data_received(self, data):
        self.came.put_nowait(data)
    async def talk(self):
        assert await self.came.get() == b"STARTTLS\n"
        self.transport.write(b"go\n")
        tls = await asyncio.get_running_loop().start_tls(self.transport, self,
            server_context(), server_side=True)
        tls.write((await self.came.get()).upper())
        tls.close()

async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    listening(server)
    await server.serve_forever()

asyncio.run(main())
]])
    local loop, went = moonloop.get_running_loop(), moonloop.Future()
    local protocol = protocols.recorder {
      data_received = function(_, data) if data == "go\n" then went:set_result() end end,
    }
    local transport = loop:create_connection(function() return protocol end, "127.0.0.1", port)
    transport:write("STARTTLS\n")
    went:await()
    assert.equal(transport, loop:start_tls(transport, protocol, tls.client(),
      { server_hostname = "localhost" }))
    assert.equal("TLSv1.3", transport:get_extra_info("tls").version)
    transport:write("words")
    assert.is_nil(protocol:lost())
    protocol:check()
    assert.equal("go\nWORDS", protocol:text())
    assert.matches("^made data eof lost$", protocol:order())
    assert.truthy(server)
  end)
end)

describe("The end of a TLS connection", function()
  before_each(python.need)

  -- A server may send tickets when the handshake is over. A descriptor that is closed with unread
  -- bytes sends a reset, and that would throw away what is still on its way.
  it("loses nothing that was written, although the peer's tickets were never read", function()
    local server <close>, port = python.serve([[
listener = socket.create_server(("127.0.0.1", 0))
print("serving on", listener.getsockname()[1], flush=True)
plain, _ = listener.accept()
peer = server_context().wrap_socket(plain, server_side=True)
signal, _ = listener.accept()
signal.sendall(b"the tickets are sent\n")
assert signal.recv(10) == b"read now"
got = 0
while data := peer.recv(65536):
    got += len(data)
signal.sendall(b"%d" % got)
signal.close()
]])
    local stream = tls.connect(port)
    local signal <close> = moonloop.connect("127.0.0.1", port)
    assert.equal("the tickets are sent\n", signal:readline())
    local writer = tasks.start(function()
      stream:write(("x"):rep(300000))
      stream:close()
      stream:wait_closed()
    end)
    signal:write("read now")
    assert.equal("300000", signal:read())
    writer:await()
    assert.truthy(server)
  end)
end)
