-- SPDX-License-Identifier: MIT
-- stream:start_tls: plain text first and TLS from a point on, in every role, with what has come
-- already or is not out yet; plain text that is slipped in behind the point; who may call it and
-- when; what ends it. loop:start_tls, the same for transports, is in tls_start_tls_protocol_spec.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local NAME = { server_hostname = "localhost" }

-- Has `stream` start TLS as a client, and waits until it waits for the peer. Awaits.
local function client_task(stream, opts)
  return tasks.start({ name = "client" }, stream.start_tls, stream, (link.contexts()), opts or NAME)
end

local function server_task(stream, opts)
  return tasks.start({ name = "server" }, stream.start_tls, stream, select(2, link.contexts()),
    opts)
end

-- Sends a line each way.
local function talk(a, b)
  a:write("there\n")
  b:write("and back\n")
  assert.equal("there\n", b:readline())
  assert.equal("and back\n", a:readline())
end

describe("start_tls", function()
  it("makes a connection of plain text one over TLS, on both sides", function()
    local pair <close> = net.pair()
    pair.client:write("STARTTLS\n")
    assert.equal("STARTTLS\n", pair.peer:readline())
    pair.peer:write("go ahead\n")
    assert.equal("go ahead\n", pair.client:readline())
    assert.is_nil(pair.client:get_extra_info("tls"))
    link.upgrade(pair.client, pair.peer)
    talk(pair.client, pair.peer)
    assert.equal("TLSv1.3", pair.client:get_extra_info("tls").version)
    assert.equal("localhost", pair.client:get_extra_info("tls").server_hostname)
  end)

  it("returns nothing, and the stream stays the same", function()
    local pair <close> = pipes.pair()
    local there = server_task(pair.peer)
    assert.equal(0, select("#", pair.client:start_tls((link.contexts()), NAME)))
    assert.equal(0, select("#", there:await()))
    talk(pair.client, pair.peer)
  end)

  it("takes its role from the context, whoever connected", function()
    local pair <close> = net.pair()
    link.upgrade(pair.peer, pair.client)
    talk(pair.client, pair.peer)
    assert.equal("localhost", pair.peer:get_extra_info("tls").server_hostname)
  end)

  it("takes server_side where it says the same", function()
    local pair <close> = pipes.pair()
    local there = server_task(pair.peer, { server_side = true })
    pair.client:start_tls((link.contexts()), { server_side = false, server_hostname = "localhost" })
    there:await()
    talk(pair.client, pair.peer)
  end)

  it("checks the server's certificate", function()
    local pair <close> = pipes.pair()
    local there = server_task(pair.peer)
    local err = net.raises("CertificateError", pair.client.start_tls, pair.client,
      (link.contexts()), { server_hostname = "other.example" })
    assert.matches("wrong host", err.message, 1, true)
    net.raises("TLSError", there.await, there)
  end)

  it("works over what a limit, a half-read line and a peek have left behind", function()
    local pair <close> = pipes.pair { limit = 100 }
    pair.peer:write("220 ready\n")
    assert.equal("220", pair.client:peek(3))
    assert.equal("220 ready\n", pair.client:readline())
    link.upgrade(pair.client, pair.peer)
    talk(pair.client, pair.peer)
    pair.peer:write(("x"):rep(200), "\n")
    net.raises("LimitOverrunError", pair.client.readline, pair.client)
  end)
end)

describe("start_tls with what has come already", function()
  -- A wire on which the client waits in start_tls; its ClientHello. Awaits.
  local function greeting()
    local wire = link.wire()
    wire.starting = client_task(wire.client)
    return wire, link.record(wire.near)
  end

  it("gives it to TLS: a ClientHello in one segment with the line before it", function()
    for _, before in ipairs { "STARTTLS\n", "PROXY TCP4 192.0.2.1 192.0.2.2 5 443\r\n" } do
      local wire, hello = greeting()
      local _ <close> = wire
      wire.far:write(before .. hello)
      assert.equal(before, wire.peer:readline())
      wire:flow()
      wire.peer:start_tls(select(2, link.contexts()))
      wire.starting:await()
      talk(wire.client, wire.peer)
    end
  end)

  it("takes a ClientHello of which only a part has come", function()
    for _, size in ipairs { 1, 5, 6, 100 } do
      local wire, hello = greeting()
      local _ <close> = wire
      wire.far:write("line\n" .. hello:sub(1, size))
      assert.equal("line\n", wire.peer:readline())
      local there = server_task(wire.peer)
      wire.far:write(hello:sub(size + 1))
      wire:flow()
      there:await()
      wire.starting:await()
      talk(wire.client, wire.peer)
    end
  end)

  it("takes the first data of the client that come in one segment with its Finished", function()
    local wire, hello = greeting()
    local _ <close> = wire
    wire.far:write(hello)
    local there = server_task(wire.peer)
    repeat
      wire.near:write(wire.far:read(65536))
      wait_all_blocked()
    until wire.starting:done()
    wire.starting:await()
    wire.client:write("early bird\n")
    wait_all_blocked()
    wire.far:write(wire.near:read(65536))
    there:await()
    assert.equal("early bird\n", wire.peer:readline())
  end)

  it("fails where that is plain text, which is never read as if it were protected", function()
    for _, side in ipairs { "client", "peer" } do
      local pair <close> = pipes.pair()
      local victim = pair[side]
      local attacker = side == "client" and pair.peer or pair.client
      local start = side == "client" and client_task or server_task
      attacker:write("go ahead\nRCPT TO: <everyone>\n")
      assert.equal("go ahead\n", victim:readline())
      local task = start(victim)
      local err = net.raises("TLSError", task.await, task)
      assert.matches("the peer does not speak TLS", err.message, 1, true)
      assert.is_true(victim:is_closing())
      for _, method in ipairs { "read", "readline", "peek" } do
        net.raises("InvalidStateError", victim[method], victim, method ~= "readline" and 100)
      end
    end
  end)
end)

describe("start_tls with what is not out yet", function()
  it("lets the plain text out first, on either side", function()
    for _, side in ipairs { "client", "peer" } do
      local pair <close> = pipes.pair()
      local writer, other = pair[side], side == "client" and pair.peer or pair.client
      local start = side == "client" and client_task or server_task
      local answer = side == "client" and server_task or client_task
      local count = net.fill(writer)
      local task = start(writer)
      assert.is_false(task:done())
      net.drain_filled(other, count)
      wait_all_blocked()
      local there = answer(other)
      task:await()
      there:await()
      talk(pair.client, pair.peer)
    end
  end)

  it("raises what the writing raises", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local task = client_task(pair.client)
    pair.peer:abort() -- with data unread
    net.raises("ConnectionError", task.await, task)
  end)
end)

describe("start_tls raises InvalidStateError", function()
  local function refused(stream, text)
    local err = net.raises("InvalidStateError", stream.start_tls, stream, (link.contexts()), NAME)
    if text then assert.matches(text, err.message, 1, true) end
  end

  it("while another task reads, which goes on", function()
    local pair <close> = pipes.pair()
    local reader = tasks.start({ name = "the reader" }, pair.client.readline, pair.client)
    refused(pair.client, "the reader")
    pair.peer:write("line\n")
    assert.equal("line\n", reader:await())
    link.upgrade(pair.client, pair.peer)
  end)

  it("while another task writes, which goes on", function()
    local pair <close> = pipes.pair()
    local count = net.fill(pair.client)
    local writer = tasks.start(pair.client.write, pair.client, "more")
    refused(pair.client)
    net.drain_filled(pair.peer, count)
    assert.equal("more", pair.peer:readexactly(4))
    writer:await()
  end)

  it("in whoever reads, writes or starts TLS meanwhile, and goes on", function()
    local pair <close> = pipes.pair()
    local task = client_task(pair.client)
    for _, call in ipairs {
      { "read", 1 }, { "read" }, { "readline" }, { "readexactly", 1 }, { "readuntil", ";" },
      { "peek", 1 }, { "write", "x" }, { "try_write", "x" }, { "writelines", { "x" } },
      { "write_eof" },
    } do
      net.raises("InvalidStateError", pair.client[call[1]], pair.client, call[2])
    end
    refused(pair.client)
    local there = server_task(pair.peer)
    task:await()
    there:await()
    talk(pair.client, pair.peer)
  end)

  it("on a stream that has TLS already", function()
    local pair <close> = tls.pair()
    refused(pair.client)
    talk(pair.client, pair.peer)
    local upgraded <close> = link.socketpair()
    refused(upgraded.client)
    talk(upgraded.client, upgraded.peer)
  end)

  it("on a closed stream, and on one that has ended its writing", function()
    local pair <close> = pipes.pair()
    pair.client:write_eof()
    refused(pair.client)
    pair.client:close()
    refused(pair.client)
  end)

  it("on pipes, terminals and files", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local source <close> = moonloop.connect_read_pipe(reading)
    local target <close> = moonloop.connect_write_pipe(writing)
    local master <close> = moonloop.open_pty()
    local file <close> = pipes.file("text")
    local regular <close> = moonloop.connect_read_pipe(assert(io.open(file.path)))
    for _, stream in ipairs { source, target, master, regular } do refused(stream) end
  end)
end)

describe("start_tls refuses", function()
  local function refuses(text, ...)
    local pair <close> = pipes.pair()
    local arguments = table.pack(...)
    local err = net.refuses(text, function()
      pair.client:start_tls(table.unpack(arguments, 1, arguments.n))
    end)
    assert.matches("to 'start_tls'", err, 1, true)
    link.upgrade(pair.client, pair.peer) -- nothing has been done
  end

  it("a context of the other role than server_side says", function()
    local client, server = link.contexts()
    refuses("bad argument", client, { server_side = true, server_hostname = "localhost" })
    refuses("bad argument", true, { server_side = true, server_hostname = "localhost" })
    refuses("bad argument", server, { server_side = false })
  end)

  it("what is no context", function()
    for _, value in ipairs { 1, "x", {}, false } do refuses("bad argument #1", value, NAME) end
    refuses("bad argument #1")
  end)

  it("options that do not exist, and wrong values", function()
    local client = link.contexts()
    refuses("did you mean 'server_hostname'", client, { sever_hostname = "x" })
    refuses("tls_handshake_timeout", client, {
      server_hostname = "localhost", tls_handshake_timeout = "1",
    })
    refuses("tls_shutdown_timeout", client, {
      server_hostname = "localhost", tls_shutdown_timeout = -1,
    })
  end)
end)

describe("start_tls ends", function()
  it("with the cancellation, which aborts the connection", function()
    for _, start in ipairs { client_task, server_task } do
      local pair <close> = pipes.pair()
      local task = start(pair.client)
      assert.is_true(tasks.cancel(task))
      assert.is_true(pair.client:is_closing())
      net.raises("InvalidStateError", pair.client.read, pair.client, 1)
      while pair.peer:read(65536) do end -- to the end of file
    end
  end)

  it("cancelled while plain text goes out, before anything is done", function()
    local pair <close> = pipes.pair()
    local count = net.fill(pair.client)
    assert.is_true(tasks.cancel(client_task(pair.client)))
    net.drain_filled(pair.peer, count)
    talk(pair.client, pair.peer)
    link.upgrade(pair.client, pair.peer)
    talk(pair.client, pair.peer)
  end)

  it("with TimeoutError after its time", function()
    for _, start in ipairs { client_task, server_task } do
      local pair <close> = pipes.pair()
      local task = start(pair.client, {
        tls_handshake_timeout = 0.01, server_hostname = start == client_task and "localhost" or nil,
      })
      local err = net.raises("TimeoutError", task.await, task)
      assert.matches("tls handshake with", err.message, 1, true)
      assert.matches("0.01 s", err.message, 1, true)
      assert.is_true(pair.client:is_closing())
    end
  end)

  it("with TLSError, code EOF, when the peer closes in the middle", function()
    for _, start in ipairs { client_task, server_task } do
      local pair <close> = pipes.pair()
      local task = start(pair.client)
      if start == client_task then link.record(pair.peer) end
      pair.peer:close()
      local err = net.raises("TLSError", task.await, task)
      assert.equal("EOF", err.code)
      assert.matches("the peer closed the connection", err.message, 1, true)
      assert.is_true(pair.client:is_closing())
    end
  end)

  it("with InvalidStateError when the stream is closed or aborted meanwhile", function()
    for _, ending in ipairs { "close", "abort" } do
      local pair <close> = pipes.pair()
      local task = client_task(pair.client)
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", task.await, task)
      pair.client:wait_closed()
    end
  end)
end)
