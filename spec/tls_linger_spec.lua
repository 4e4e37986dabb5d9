-- SPDX-License-Identifier: MIT
-- A TLS 1.3 client that writes, reads nothing and closes: the tickets that its server sends later
-- find the descriptor still there, so that they do not reset the connection and lose what the
-- system has not sent yet. Nobody else waits for the peer.
local certs = require "spec.support.certificates"
local command = require "spec.support.command"
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- More than the system takes in for who does not read, and less than it keeps for who writes.
local TEXT = net.text(300000)
local NAME = { server_hostname = "localhost", tls_shutdown_timeout = 20 }
local TICKETS = 2 -- of a server of OpenSSL's
local PATIENCE = 20 -- seconds after which what hangs fails

-- A client that has done its handshake, over TCP, with a peer that has not got the last part of
-- it. Awaits.
-- @return a link.wire that holds, the task of the peer's handshake, the net.pair below
local function half_done()
  local pair = net.pair()
  local wire = link.wire(pair.client, pair.peer)
  local client, server = link.contexts("TLSv1.3")
  local ours = moonloop.create_task(wire.client.start_tls, wire.client, client, NAME)
  local theirs = moonloop.create_task(wire.peer.start_tls, wire.peer, server)
  wire.far:write(link.record(wire.near))
  while not ours:done() do
    wire.near:write(link.record(wire.far))
    wait_all_blocked()
  end
  ours:await()
  return wire, theirs, pair
end

-- Has the peer get that last part, and the client the tickets; then all that comes. Awaits.
local function go_on(wire, theirs)
  while not theirs:done() do
    wire.far:write(link.record(wire.near))
    wait_all_blocked()
  end
  theirs:await()
  for _ = 1, TICKETS do wire.near:write(link.record(wire.far)) end
  wait_all_blocked()
  wire:flow()
end

-- The same whose client has written and is being closed, with a task that waits for that. Awaits.
local function closing()
  local wire, theirs, pair = half_done()
  wire.client:write(TEXT)
  wire.client:close()
  local waiter = tasks.start(wire.client.wait_closed, wire.client)
  assert.is_false(waiter:done())
  return wire, theirs, pair, waiter
end

describe("A client of TLS 1.3 that closes before its server is done with the handshake", function()
  it("brings out everything", function()
    local wire <close>, theirs, pair = half_done()
    local _ <close> = pair
    wire.client:write(TEXT)
    wire.client:close()
    local waiter = tasks.start(wire.client.wait_closed, wire.client)
    go_on(wire, theirs)
    assert.is_true(wire.peer:read() == TEXT)
    waiter:await()
    assert.equal(-1, wire.client:fileno())
  end)

  it("brings out everything from a block, too", function()
    local wire <close>, theirs, pair = half_done()
    local _ <close> = pair
    local block = tasks.start(function()
      local stream <close> = wire.client
      stream:write(TEXT)
    end)
    go_on(wire, theirs)
    assert.is_true(wire.peer:read() == TEXT)
    block:await()
  end)

  it("keeps its descriptor while its peer does not read, and no longer than its limit", function()
    local wire <close>, theirs, pair, waiter = closing()
    local _ <close> = pair
    assert.is_true(wire.client:fileno() >= 0)
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0.005 }
    local before = moonloop.time()
    waiter:await() -- and that is no error
    assert.is_true(moonloop.time() - before > NAME.tls_shutdown_timeout - 1)
    assert.equal(-1, wire.client:fileno())
    tasks.cancel(theirs)
  end)

  it("is closed at once by abort, though it waits", function()
    local wire <close>, theirs, pair, waiter = closing()
    local _ <close> = pair
    wire.client:abort()
    assert.equal(-1, wire.client:fileno())
    waiter:await()
    tasks.cancel(theirs)
  end)

  it("is closed when the peer goes", function()
    local wire <close>, theirs, pair, waiter = closing()
    local _ <close> = pair
    wire.near:abort()
    local _ <close> = moonloop.timeout(PATIENCE)
    pcall(waiter.await, waiter)
    assert.equal(-1, wire.client:fileno())
    tasks.cancel(theirs)
  end)
end)

-- Writes and closes one end of a pair whose other end does not read yet. Awaits.
local function closes_at_once(pair, from, to)
  from:get_extra_info("socket"):setsockopt("SO_SNDBUF", #TEXT)
  from:write(TEXT)
  from:close()
  local waiter = tasks.start(from.wait_closed, from)
  assert.is_true(waiter:done())
  assert.equal(-1, from:fileno())
  waiter:await()
  assert.is_true(to:read() == TEXT)
  pair:close()
end

describe("Closing does not wait for the peer's system", function()
  it("in a client that has read something", function()
    local pair = link.pair("TLSv1.3")
    pair.peer:write("x")
    assert.equal("x", pair.client:readexactly(1))
    closes_at_once(pair, pair.client, pair.peer)
  end)

  it("in a client of TLS 1.2, which gets no tickets later", function()
    local pair = link.pair("TLSv1.2")
    closes_at_once(pair, pair.client, pair.peer)
  end)

  for _, version in ipairs(link.VERSIONS) do
    it("in a server of " .. version, function()
      local pair = link.pair(version)
      closes_at_once(pair, pair.peer, pair.client)
    end)
  end
end)

describe("A run that ends with a stream whose peer does not read what it has been sent", function()
  it("ends without waiting, and says nothing", function()
    local ended = moonloop.Future()
    local read = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      stream:write("begin\n")
      ended:await()
      read:set_result(stream:read())
    end, tls.HOST, 0, { tls = tls.server() })
    local code = ([[
      local moonloop = require "moonloop"
      keep = moonloop.connect("127.0.0.1", %d, {
        tls = moonloop.tls.client_context { ca_file = %q }, server_hostname = "localhost",
      })
      keep:get_extra_info("socket"):setsockopt("SO_SNDBUF", 300000)
      keep:readline()
      keep:write(("x"):rep(300000))
    ]]):format(server:port(), certs.ca)
    local status, out = peers.run(command.line { script.binary, "-e", code })
    assert.same({ 0, "" }, { status, out })
    ended:set_result()
    assert.is_true(read:await() == ("x"):rep(300000)) -- and the end, else it would be an error
  end)
end)
