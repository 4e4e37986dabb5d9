-- SPDX-License-Identifier: MIT
-- python3's ssl at the other end of TLS, both ways: asyncio's streams and protocols, and blocking
-- sockets, which close in every manner that TLS knows.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local python = require "spec.support.python"
local tls = require "spec.support.tls"

-- A TLS server that calls `handler(stream)`, and waits for the end of its connections when the
-- value is closed; `results` has what the handler returned or raised. Awaits.
local function serve(handler, context)
  local results = {}
  local server = moonloop.start_server(function(stream)
    local _, result = moonloop.pcall(handler, stream)
    results[#results + 1] = result
  end, "127.0.0.1", 0, { tls = context or tls.server() })
  return server, results
end

local function settle(server)
  server:close()
  server:wait_closed()
end

describe("asyncio's streams over TLS", function()
  before_each(python.need)

  local CLIENT = [[
async def one(i):
    reader, writer = await open_connection()
    numbers = range(i, i + 100)
    for n in numbers:
        writer.write(f"{n}\n".encode())
        if n % 10 == 0:
            await writer.drain()
    writer.write(b"end\n")
    assert int(await reader.readline()) == sum(numbers)
    assert await reader.readuntil(b";") == b"done;"
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()

async def main():
    await asyncio.gather(*(one(i) for i in range(10)))
    print("10 sums")

asyncio.run(main())
]]

  it("get sums from our server and hear of its end", function()
    local server <close>, results = serve(function(stream)
      local sum = 0
      for line in stream:lines() do
        if line == "end" then break end
        sum = sum + math.tointeger(tonumber(line))
      end
      stream:write(sum, "\ndone;")
      return "summed"
    end)
    assert.equal("10 sums\n", python.run(CLIENT, server))
    assert.equal(10, #results)
    assert.equal("summed", results[1])
  end)

  local SERVER = [[
async def handle(reader, writer):
    tls = writer.get_extra_info("ssl_object")
    writer.write(f"{tls.version()} {tls.cipher()[0]} {tls.session_reused}\n".encode())
    size = int(await reader.readline())
    data = await reader.readexactly(size)
    writer.write(data[::-1])
    writer.close()

serve(handle, server_context())
]]

  it("serve our client, whose session they take up again", function()
    local server <close>, port = python.serve(SERVER)
    local text, context = net.text(300000), tls.client()
    for _, resumed in ipairs { false, true, true } do
      local stream <close> = tls.connect(port, context)
      local info = stream:get_extra_info("tls")
      local python_says = ("%s %s %s\n"):format(info.version, info.cipher,
        resumed and "True" or "False")
      assert.equal(python_says, stream:readline())
      assert.equal(resumed, info.resumed)
      stream:write(#text, "\n", text)
      assert.is_true(stream:read() == text:reverse())
    end
    assert.truthy(server)
  end)

  it("are asked for a client certificate and check ours", function()
    local server <close>, port = python.serve([[
async def handle(reader, writer):
    subject = writer.get_extra_info("peercert")["subject"]
    writer.write(f"{subject[-1][0][1]}\n".encode())
    writer.close()

serve(handle, server_context(client_ca="client_ca"))
]])
    local stream <close> = tls.connect(port, tls.client_with())
    assert.equal("client\n", stream:readline())
    net.raises("TLSError", function() -- asyncio sends no alert
      local refused <close> = tls.connect(port)
      refused:read()
    end)
    assert.truthy(server)
  end)

  it("show their client certificate, which we check", function()
    local server <close>, results = serve(function(stream)
      stream:write(stream:get_extra_info("peercert").subject, "\n")
      return stream:get_extra_info("tls").verified
    end, tls.server("server", { client_ca = certs.client_ca, verify_client = true }))
    assert.matches("^CN=client,O=Moonloop\n$", python.run([[
async def main():
    reader, writer = await open_connection(client_context("client"))
    print((await reader.read()).decode(), end="")
    writer.close()

asyncio.run(main())
]], server))
    settle(server)
    assert.same({ true }, results)
  end)

  it("refuse our certificate with its verify code, and we go on", function()
    local reports <close> = tls.reports()
    local server <close> = serve(function() return "served" end, tls.server("expired"))
    assert.equal("10 certificate has expired\n", python.run([[
async def main():
    try:
        await open_connection()
    except ssl.SSLCertVerificationError as e:
        print(e.verify_code, e.verify_message)

asyncio.run(main())
]], server))
    assert.equal("EOF", reports:wait().error.code) -- asyncio sends no alert
    local stream <close> = tls.connect(server, tls.client { verify = false })
    assert.is_nil(stream:read(1))
  end)
end)

describe("asyncio's protocols over TLS", function()
  before_each(python.need)

  it("get back from our protocol all that they send", function()
    local loop = moonloop.get_running_loop()
    local Echo = moonloop.Protocol:extend {
      connection_made = function(self, transport) self.transport = transport end,
      data_received = function(self, data) self.transport:write(data) end,
      pause_writing = function(self) self.transport:pause_reading() end,
      resume_writing = function(self) self.transport:resume_reading() end,
    }
    local server <close> = loop:create_server(Echo, "127.0.0.1", 0, { tls = tls.server() })
    assert.equal("2000000 None\n", python.run([[
SIZE = 2000000

class Client(asyncio.Protocol):
    def __init__(self):
        self.got = 0
        self.ended = asyncio.get_running_loop().create_future()
    def connection_made(self, transport):
        self.transport = transport
        transport.write(bytes(range(250)) * (SIZE // 250))
    def data_received(self, data):
        start = self.got % 250
        assert data == (bytes(range(250)) * (len(data) // 250 + 2))[start:start + len(data)]
        self.got += len(data)
        if self.got == SIZE:
            self.transport.close()
    def connection_lost(self, error):
        self.ended.set_result(error)

async def main():
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", PORT,
        ssl=client_context(), server_hostname="localhost")
    error = await client.ended
    print(client.got, error)

asyncio.run(main())
]], server))
  end)

  it("serve our protocol, whose callbacks come in order", function()
    local server <close>, port = python.serve([[
class Server(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
        transport.write(b"welcome\n")
    def data_received(self, data):
        self.transport.write(data.upper())
        self.transport.close()

async def main():
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0,
        ssl=server_context())
    listening(server)
    await server.serve_forever()

asyncio.run(main())
]])
    local loop, protocol = moonloop.get_running_loop(), protocols.recorder()
    loop:create_connection(function() return protocol end, "127.0.0.1", port,
      { tls = tls.client(), server_hostname = "localhost" })
    protocol.transport:write("goodbye")
    assert.is_nil(protocol:lost())
    protocol:check()
    assert.equal("welcome\nGOODBYE", protocol:text())
    assert.matches("^made .*data eof lost$", protocol:order())
    assert.truthy(server)
  end)
end)

describe("A blocking TLS socket of Python", function()
  before_each(python.need)

  local function read_all(stream)
    stream:write("hello")
    return stream:read()
  end

  it("says goodbye by unwrap, which is our end of file", function()
    local server <close>, results = serve(read_all)
    assert.equal("hello None\n", python.run([[
with connect() as peer:
    peer.sendall(b"some words")
    print(peer.recv(5).decode(), peer.unwrap().fileno() and None)
]], server))
    settle(server)
    assert.same({ "some words" }, results)
  end)

  it("is closed without a goodbye, which is a truncation, unless we allow it", function()
    local CLIENT = [[
peer = connect()
peer.sendall(b"some words")
assert peer.recv(5) == b"hello"
peer.close()
print("closed")
]]
    local strict <close>, results = serve(read_all)
    assert.equal("closed\n", python.run(CLIENT, strict))
    settle(strict)
    assert.equal("TLSError", results[1].kind)
    assert.equal("EOF", results[1].code)
    assert.equal("some words", results[1].partial)
    local lenient <close>, texts = serve(read_all, tls.server("server",
      { allow_truncation = true }))
    python.run(CLIENT, lenient)
    settle(lenient)
    assert.same({ "some words" }, texts)
  end)

  it("still writes after our half-close, and we still read", function()
    local server <close>, results = serve(function(stream)
      stream:write("question")
      stream:write_eof()
      return stream:read()
    end)
    assert.equal("question\n", python.run([[
peer = connect()
asked = b""
while piece := peer.recv(100):
    asked += piece
peer.sendall(b"answer to " + asked)
peer.unwrap()
print(asked.decode())
]], server))
    settle(server)
    assert.same({ "answer to question" }, results)
  end)

  it("half-closes, and reads what we write after that", function()
    local server <close>, results = serve(function(stream)
      local asked = stream:read()
      stream:write("answer to " .. asked)
      return asked
    end)
    assert.equal("answer to question\n", python.run([[
peer = connect()
peer.sendall(b"question")
peer.setblocking(False)
try:
    peer.unwrap()
except ssl.SSLWantReadError:
    pass
peer.settimeout(20)
answer = b""
try:
    while True:
        answer += peer.recv(100)
except ssl.SSLZeroReturnError:
    print(answer.decode())
]], server))
    settle(server)
    assert.same({ "question" }, results)
  end)

  it("notices whether we closed or aborted", function()
    local server <close> = serve(function(stream)
      stream:write("hello")
      if stream:readexactly(5) == "abort" then stream:abort() end
    end)
    assert.equal("close b''\nabort SSLEOFError\n", python.run([[
for word in "close", "abort":
    peer = connect(suppress_ragged_eofs=False)
    peer.sendall(word.encode())
    assert peer.recv(5) == b"hello"
    try:
        print(word, peer.recv(1))
    except ssl.SSLError as e:
        print(word, type(e).__name__)
    peer.close()
]], server))
  end)

  it("resumes a session of our server", function()
    local server <close>, results = serve(function(stream)
      stream:write("hello")
      stream:read()
      return stream:get_extra_info("tls").resumed
    end)
    assert.equal("False True True\n", python.run([[
context, session, reused = client_context(), None, []
for _ in range(3):
    peer = connect(context, session=session)
    assert peer.recv(5) == b"hello"
    session = peer.session
    reused.append(peer.session_reused)
    peer.unwrap()
print(*reused)
]], server))
    settle(server)
    assert.same({ false, true, true }, results)
  end)

  it("changes the protocol by SNI and ALPN as it likes, and we see both", function()
    local server <close>, port = python.serve([[
contexts = {"a.example": server_context("a"), "b.example": server_context("b")}

def choose(tls, name, context):
    tls.context = contexts[name]

async def handle(reader, writer):
    tls = writer.get_extra_info("ssl_object")
    writer.write(str(tls.selected_alpn_protocol()).encode())
    writer.close()

front = server_context()
front.sni_callback = choose
for context in front, *contexts.values():
    context.set_alpn_protocols(["two", "one"])
serve(handle, front)
]])
    for _, name in ipairs { "a.example", "b.example" } do
      local stream <close> = tls.connect(port, tls.client { alpn = { "one", "two" } },
        { server_hostname = name })
      assert.equal("two", stream:read())
      local info = stream:get_extra_info("tls")
      assert.equal("two", info.alpn)
      assert.matches("CN=" .. name, info.peercert.subject, 1, true)
    end
    assert.truthy(server)
  end)
end)
