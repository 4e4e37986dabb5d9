-- SPDX-License-Identifier: MIT
-- create_server: protocols for the connections that come, a Server like any other around
-- them, and every way in which it ends them.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local function finish(server)
  server:close()
  server:wait_closed()
end

describe("create_server", function()
  it("makes a protocol for each connection", function()
    local made = {}
    local server = loop:create_server(function()
      made[#made + 1] = protocols.recorder()
      return made[#made]
    end, "127.0.0.1", 0)
    local streams = {}
    for i = 1, 3 do
      streams[i] = moonloop.connect("127.0.0.1", server:port())
      streams[i]:write("client ", i)
    end
    wait_all_blocked()
    local texts = {}
    for i = 1, 3 do texts[i] = made[i]:received(8) end
    table.sort(texts)
    assert.same({ "client 1", "client 2", "client 3" }, texts)
    for i = 1, 3 do streams[i]:close() end
    for i = 1, 3 do made[i]:lost() end
    finish(server)
    for i = 1, 3 do made[i]:check() end
  end)

  it("reports a factory that raises, closes the connection and serves on", function()
    local reports <close> = tasks.reports()
    local count = 0
    local protocol = protocols.recorder()
    local server <close> = loop:create_server(function()
      count = count + 1
      if count == 1 then error("not yet") end
      if count == 2 then return "no table" end
      return protocol
    end, "127.0.0.1", 0)
    for i = 1, 2 do
      local stream <close> = moonloop.connect("127.0.0.1", server:port())
      assert.is_nil(stream:read(1))
      wait_all_blocked()
      assert.equal(i, #reports)
      assert.is_string(reports[i].message)
    end
    assert.matches("not yet", tostring(reports[1].error), 1, true)
    assert.is_true(moonloop.is_error(reports[2].error, "Error"))
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:write("third")
    assert.equal("third", protocol:received(5))
    stream:abort()
    protocol:lost()
    assert.equal(2, #reports)
  end)

  it("gives a Server like any other", function()
    local server = loop:create_server(protocols.recorder, { "127.0.0.1", "127.0.0.2" }, 0,
      { start_serving = false, backlog = 10 })
    assert.equal("moonloop.Server", getmetatable(server).__name)
    assert.is_false(server:is_serving())
    server:start_serving()
    assert.is_true(server:is_serving())
    assert.equal(2, #server:sockets())
    assert.equal("127.0.0.1", server:sockets()[1].host)
    local port = server:port()
    finish(server)
    assert.is_false(server:is_serving())
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", port)
  end)

  it("raises AddressInUseError for a port that is in use", function()
    local server <close> = loop:create_server(protocols.recorder, "127.0.0.1", 0)
    net.raises("AddressInUseError", loop.create_server, loop, protocols.recorder, "127.0.0.1",
      server:port())
  end)

  it("serves a socket that listens already", function()
    local socket = moonloop.socket.tcp()
    socket:bind { host = "127.0.0.1", port = 0 }
    socket:listen()
    local port = socket:getsockname().port
    local protocol = protocols.recorder()
    local server <close> = loop:create_server(function() return protocol end, nil, nil,
      { sock = socket })
    assert.equal(port, server:port())
    local stream <close> = moonloop.connect("127.0.0.1", port)
    stream:write("hello")
    assert.equal("hello", protocol:received(5))
    stream:close()
    protocol:lost()
  end)

  it("lets no more than max_connections be open", function()
    local made = {}
    local server = loop:create_server(function()
      made[#made + 1] = protocols.recorder()
      return made[#made]
    end, "127.0.0.1", 0, { max_connections = 1 })
    local first = moonloop.connect("127.0.0.1", server:port())
    local second = moonloop.connect("127.0.0.1", server:port())
    second:write("waits")
    wait_all_blocked()
    assert.equal(1, #made)
    first:close()
    made[1]:lost()
    wait_all_blocked()
    assert.equal("waits", made[2]:received(5))
    second:close()
    made[2]:lost()
    finish(server)
  end)

  it("ends wait_closed once every connection is lost", function()
    local pair <close> = protocols.pair()
    pair.server:close()
    local waiting = tasks.start(pair.server.wait_closed, pair.server)
    assert.is_false(waiting:done())
    pair.client.transport:close()
    waiting:await()
    assert.is_true(pair.peer.is_lost)
  end)

  it("closes the transports on close_clients, aborts them on abort_clients", function()
    for _, ending in ipairs { "close_clients", "abort_clients" } do
      local pair <close> = protocols.pair()
      pair.client.transport:pause_reading()
      protocols.fill(pair.peer)
      pair.server[ending](pair.server)
      wait_all_blocked()
      assert.is_true(pair.peer.transport:is_closing())
      assert.equal(ending == "abort_clients", pair.peer.is_lost or false)
      if ending == "abort_clients" then assert.is_nil(pair.peer.err) end
    end
  end)

  it("calls connection_made first, though the connections are aborted before", function()
    local protocol, server = protocols.recorder(), nil
    server = loop:create_server(function()
      loop:call_soon(server.abort_clients, server)
      return protocol
    end, "127.0.0.1", 0)
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    pcall(stream.read, stream) -- the end of file, or a reset
    wait_all_blocked()
    assert.is_true(protocol:order() == "" or protocol:order() == "made lost")
    protocol:check()
    finish(server)
  end)

  it("tells by shutdown's answer what became of the connections", function()
    local pair <close> = protocols.pair()
    local ended, cancelled, aborted = pair.server:shutdown { grace = 0.05 }
    assert.equal(1, ended + cancelled + aborted)
    assert.equal(0, ended)
    assert.is_nil(pair.peer:lost())
  end)

  it("ends its connections when a to-be-closed variable holds it", function()
    local protocol = protocols.recorder()
    local stream
    do
      local server <close> = loop:create_server(function() return protocol end, "127.0.0.1", 0)
      stream = moonloop.connect("127.0.0.1", server:port())
      protocol:wait(function() return protocol.transport end)
    end
    assert.equal("made lost", protocol:order())
    assert.is_nil(protocol.err)
    stream:abort()
    protocol:check()
  end)
end)
