-- SPDX-License-Identifier: MIT
-- The first and the last that a protocol hears of its connection: what Lua had read ahead of a
-- file, a connection that was given up before anybody was told, and which addresses are known
-- when it is over.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

describe("A protocol of a Lua file", function()
  it("begins with what Lua had read ahead", function()
    local file = io.popen("printf 'first\\nthe rest\\n'")
    assert.equal("first", file:read("l"))
    local protocol = protocols.recorder()
    loop:connect_read_pipe(function() return protocol end, file)
    assert.equal("the rest\n", protocol:finished())
    protocol:lost()
    assert.equal("made data eof lost", protocol:order())
    protocol:check()
  end)

  it("is given that at once, though nothing else comes", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    writing:write("first\nahead")
    writing:flush()
    assert.equal("first", reading:read("l"))
    local came, late = moonloop.Future(), false
    local timer = loop:call_later(5, function()
      late = true
      if not came:done() then came:set_result("nothing") end
    end)
    local transport = loop:connect_read_pipe(function()
      return { data_received = function(_, data) came:set_result(data) end }
    end, reading)
    assert.equal("ahead", came:await())
    assert.is_false(late)
    timer:cancel()
    transport:close()
    writing:close()
    wait_all_blocked()
  end)

  it("is given that before what comes later, each once", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    writing:write("first\nahead ")
    writing:flush()
    assert.equal("first", reading:read("l"))
    local protocol = protocols.recorder()
    loop:connect_read_pipe(function() return protocol end, reading)
    writing:write("and later")
    writing:close()
    assert.equal("ahead and later", protocol:finished())
    protocol:lost()
    protocol:check()
  end)

  it("is given that when it resumes reading, where connection_made paused it", function()
    local file = io.popen("printf 'first\\nthe rest\\n'")
    assert.equal("first", file:read("l"))
    local protocol = protocols.recorder {
      connection_made = function(_, transport) transport:pause_reading() end,
    }
    loop:connect_read_pipe(function() return protocol end, file)
    wait_all_blocked()
    assert.equal("made", protocol:order())
    protocol.transport:resume_reading()
    assert.equal("the rest\n", protocol:finished())
    protocol:lost()
    protocol:check()
  end)

  it("is given nothing of it after close", function()
    local file = io.popen("printf 'first\\nthe rest\\n'")
    assert.equal("first", file:read("l"))
    local protocol = protocols.recorder {
      connection_made = function(_, transport) transport:close() end,
    }
    loop:connect_read_pipe(function() return protocol end, file)
    protocol:lost()
    assert.equal("made lost", protocol:order())
  end)
end)

describe("A call that is cancelled between connecting and connection_made", function()
  -- Each calls with a factory; it is given a port or path where somebody listens.
  local CALLS = {
    create_connection = function(factory, place)
      loop:create_connection(factory, "127.0.0.1", place.port)
    end,
    create_unix_connection = function(factory, place)
      loop:create_unix_connection(factory, place.path)
    end,
    connect_accepted_socket = function(factory)
      local one, other <close> = moonloop.socket.socketpair()
      loop:connect_accepted_socket(factory, one)
      return other
    end,
    connect_read_pipe = function(factory)
      loop:connect_read_pipe(factory, io.popen("true"))
    end,
    connect_write_pipe = function(factory)
      loop:connect_write_pipe(factory, io.popen("cat >/dev/null", "w"))
    end,
    create_datagram_endpoint = function(factory)
      loop:create_datagram_endpoint(factory, { local_addr = { host = "127.0.0.1" } })
    end,
  }

  for what, call in pairs(CALLS) do
    it("tells the protocol nothing: " .. what, function()
      local reports <close> = tasks.reports()
      local path = protocols.abstract_name()
      local tcp <close> = moonloop.start_server(function(stream) stream:read() end,
        "127.0.0.1", 0)
      local unix <close> = moonloop.start_unix_server(function(stream) stream:read() end, path)
      local protocol = protocols.recorder {
        connection_made = function(_, transport) transport:write("HELO") end,
      }
      local task = moonloop.create_task(call, function()
        moonloop.current_task():cancel()
        return protocol
      end, { port = tcp:port(), path = path })
      assert.is_false((tasks.outcome(task)))
      assert.is_true(task:cancelled())
      wait_all_blocked()
      assert.equal("", protocol:order())
      assert.same({}, reports)
      assert.is_true(unix:is_serving())
    end)
  end
end)

describe("connection_lost", function()
  local function addresses_of(transport)
    return transport:get_extra_info("sockname"), transport:get_extra_info("peername")
  end

  for _, ending in ipairs { "close", "abort" } do
    it("finds the addresses of a TCP connection: " .. ending, function()
      local found
      local pair <close> = protocols.pair {
        client = {
          connection_lost = function(self) found = { addresses_of(self.transport) } end,
        },
      }
      local expected = { addresses_of(pair.client.transport) }
      assert.equal(pair.server:port(), expected[2].port)
      assert.equal("127.0.0.1", expected[1].host)
      pair.client.transport[ending](pair.client.transport)
      pair.client:lost()
      assert.same(expected, found)
    end)
  end

  it("finds them when the peer has reset the connection", function()
    local found
    local pair <close> = protocols.pair {
      peer = { connection_lost = function(self) found = { addresses_of(self.transport) } end },
    }
    local expected = { addresses_of(pair.peer.transport) }
    protocols.reset(pair.client.transport)
    pair.peer:lost()
    assert.same(expected, found)
    assert.equal(2, #found)
  end)

  it("finds the address of a Unix server's connection", function()
    local found
    local pair <close> = protocols.pair {
      kind = "unix",
      peer = { connection_lost = function(self) found = { addresses_of(self.transport) } end },
    }
    local expected = { addresses_of(pair.peer.transport) }
    assert.equal("string", type(expected[1].path))
    pair.peer.transport:close()
    pair.peer:lost()
    assert.same(expected, found)
  end)

  it("finds the addresses of a datagram transport", function()
    local remote <close> = moonloop.socket.udp()
    remote:bind { host = "127.0.0.1", port = 0 }
    for _, ending in ipairs { "close", "abort" } do
      local found
      local protocol = protocols.recorder {
        connection_lost = function(self) found = { addresses_of(self.transport) } end,
      }
      local transport = loop:create_datagram_endpoint(function() return protocol end,
        { remote_addr = remote:getsockname() })
      local expected = { addresses_of(transport) }
      assert.same(remote:getsockname(), expected[2])
      transport[ending](transport)
      protocol:lost()
      assert.same(expected, found)
    end
  end)
end)

describe("A datagram transport's low-water mark", function()
  -- An endpoint that has paused its protocol, since its peer does not receive. Awaits.
  local function paused(extra)
    local peer = moonloop.socket.unix("dgram")
    peer:bind { path = protocols.abstract_name() }
    local protocol = protocols.recorder(extra)
    local transport = loop:create_datagram_endpoint(function() return protocol end,
      { remote_addr = peer:getsockname() })
    transport:set_write_buffer_limits(1000, 900)
    while not protocol.paused do transport:sendto(("x"):rep(10)) end
    return peer, protocol, transport
  end

  it("is where resume_writing is called, with a part still queued", function()
    local size
    local peer <close>, protocol, transport = paused {
      resume_writing = function(self) size = self.transport:get_write_buffer_size() end,
    }
    while not size do
      peer:recv()
      wait_all_blocked()
    end
    assert.is_true(size > 0 and size <= 900)
    transport:abort()
    protocol:lost()
    assert.equal("made pause resume lost", protocol:order())
  end)

  it("is where resume_writing is called also while the transport closes", function()
    local peer <close>, protocol, transport = paused()
    transport:close()
    while not protocol.is_lost do
      moonloop.wait_for(function() peer:recv() end, 20)
      wait_all_blocked()
    end
    assert.equal("made pause resume lost", protocol:order())
    assert.is_nil(protocol.err)
  end)

  it("is a whole number of bytes", function()
    local peer <close>, protocol, transport = paused()
    for _, mark in ipairs { 1.5, 0 / 0, "10", -1 } do
      net.refuses("bad argument", transport.set_write_buffer_limits, transport, mark)
      net.refuses("bad argument", transport.set_write_buffer_limits, transport, 2000, mark)
    end
    assert.same({ 900, 1000 }, { transport:get_write_buffer_limits() })
    transport:abort()
    protocol:lost()
    assert.is_true(peer:fileno() >= 0)
  end)
end)
