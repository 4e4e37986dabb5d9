-- SPDX-License-Identifier: MIT
-- create_datagram_endpoint: protocols that get datagrams, transports that send them, what comes
-- back from the network as an error, flow control and closing.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local HERE = { host = "127.0.0.1", port = 0 }

-- A recorder on an endpoint, which a to-be-closed variable aborts and checks. Awaits.
-- @return the recorder, its transport, its address, the value to close
local function endpoint(opts, extra)
  local protocol = protocols.recorder(extra)
  local transport = loop:create_datagram_endpoint(function() return protocol end,
    opts or { local_addr = HERE })
  local closing = setmetatable({}, { __close = function(_, err)
    transport:abort()
    protocol:lost()
    if err == nil then protocol:check() end
  end })
  return protocol, transport, transport:get_extra_info("sockname"), closing
end

-- Waits for that many datagrams and gives their data alone. Awaits.
local function texts(protocol, count)
  local list = {}
  for i, one in ipairs(protocol:received_datagrams(count)) do list[i] = one.data end
  return list
end

-- A loopback address where nobody takes UDP.
local function deserted()
  local socket <close> = moonloop.socket.udp()
  socket:bind(HERE)
  return socket:getsockname()
end

describe("create_datagram_endpoint", function()
  it("gives the transport and the protocol, whose connection_made has been called", function()
    local protocol = protocols.recorder()
    local transport, same = loop:create_datagram_endpoint(function() return protocol end,
      { local_addr = HERE })
    assert.equal(protocol, same)
    assert.equal(transport, protocol.transport)
    assert.equal(protocol, transport:get_protocol())
    assert.equal("made", protocol:order())
    transport:close()
    assert.is_nil(protocol:lost())
    protocol:check()
  end)

  for _, host in ipairs { "127.0.0.1", "::1" } do
    it("sends to any address and answers by " .. host, function()
      local at = { host = host, port = 0 }
      local a, a_transport, a_addr, a_closing = endpoint({ local_addr = at })
      local _ <close> = a_closing
      local b, _, b_addr, b_closing = endpoint({ local_addr = at }, {
        datagram_received = function(self, data, addr)
          self.transport:sendto(data:upper(), addr)
        end,
      })
      local _ <close> = b_closing
      a_transport:sendto("ping", b_addr)
      assert.same({ { data = "ping", addr = a_addr } }, b:received_datagrams(1))
      assert.same({ { data = "PING", addr = b_addr } }, a:received_datagrams(1))
    end)
  end

  it("with remote_addr needs no address, and hears nobody else", function()
    local server, server_transport, addr, closing = endpoint()
    local _ <close> = closing
    local client, transport, client_addr, client_closing = endpoint({ remote_addr = addr })
    local _ <close> = client_closing
    local _, stranger, _, stranger_closing = endpoint()
    local _ <close> = stranger_closing
    assert.same(addr, transport:get_extra_info("peername"))
    transport:sendto("one")
    transport:sendto("two", addr)
    assert.same({ "one", "two" }, texts(server, 2))
    stranger:sendto("unheard", client_addr)
    server_transport:sendto("answer", client_addr)
    assert.same({ "answer" }, texts(client, 1))
    wait_all_blocked()
    assert.equal(1, #client.datagrams)
  end)

  it("serves many remote addresses", function()
    local hub, hub_transport, addr, closing = endpoint()
    local _ <close> = closing
    local clients, closings = {}, {}
    for i = 1, 10 do
      local client, transport, _, client_closing = endpoint({ remote_addr = addr })
      clients[i], closings[i] = client, client_closing
      transport:sendto("client " .. i)
    end
    for _, one in ipairs(hub:received_datagrams(10)) do
      hub_transport:sendto("hello " .. one.data, one.addr)
    end
    for i = 1, 10 do
      assert.same({ "hello client " .. i }, texts(clients[i], 1))
      local _ <close> = closings[i]
    end
  end)

  it("keeps datagrams apart, in order, empty and large ones too", function()
    local receiver, _, addr, closing = endpoint()
    local _ <close> = closing
    local _, transport, _, sender_closing = endpoint()
    local _ <close> = sender_closing
    local largest = net.text(65507)
    for _, data in ipairs { "a", "", "b\0\255", largest, "" } do transport:sendto(data, addr) end
    assert.same({ "a", "", "b\0\255", largest, "" }, texts(receiver, 5))
  end)

  it("takes a socket, a family alone, and localhost", function()
    local socket = moonloop.socket.udp()
    socket:bind(HERE)
    local addr = socket:getsockname()
    local receiver, _, same, closing = endpoint({ sock = socket })
    local _ <close> = closing
    assert.same(addr, same)
    assert.equal(-1, socket:fileno())
    local _, unbound, _, unbound_closing = endpoint({ family = "inet" })
    local _ <close> = unbound_closing
    unbound:sendto("from anywhere", addr)
    local _, named, _, named_closing = endpoint({
      remote_addr = { host = "localhost", port = addr.port }, family = "inet",
    })
    local _ <close> = named_closing
    named:sendto("by name")
    assert.same({ "from anywhere", "by name" }, texts(receiver, 2))
  end)

  it("shares a port where reuse_port says so", function()
    local _, _, addr, closing = endpoint({ local_addr = HERE, reuse_port = true })
    local _ <close> = closing
    local _, _, same, second_closing = endpoint({ local_addr = addr, reuse_port = true })
    local _ <close> = second_closing
    assert.same(addr, same)
    net.raises("AddressInUseError", endpoint, { local_addr = addr })
  end)

  it("takes a protocol without any method, and one made by DatagramProtocol:extend", function()
    local reports <close> = tasks.reports()
    local bare = loop:create_datagram_endpoint(function() return {} end, { local_addr = HERE })
    local got = moonloop.Future()
    local Class = moonloop.DatagramProtocol:extend {
      datagram_received = function(_, data) got:set_result(data) end,
    }
    local transport, protocol = loop:create_datagram_endpoint(Class, { local_addr = HERE })
    assert.equal(Class.datagram_received, protocol.datagram_received)
    transport:sendto("nobody looks at this", bare:get_extra_info("sockname"))
    bare:sendto("hello", transport:get_extra_info("sockname"))
    assert.equal("hello", got:await())
    bare:close()
    transport:close()
    wait_all_blocked()
    assert.same({}, reports)
  end)

  it("raises what the factory raises, and closes the socket", function()
    local mark = moonloop.testing.mark()
    assert.equal("no", tasks.raised(loop.create_datagram_endpoint, loop, function()
      error("no", 0)
    end, { local_addr = HERE }))
    net.raises("Error", loop.create_datagram_endpoint, loop, function() return 1 end,
      { local_addr = HERE })
    assert.same({}, moonloop.testing.leaks(mark))
  end)

  it("refuses bad arguments", function()
    local function refused(what, ...)
      net.refuses(what, loop.create_datagram_endpoint, loop, ...)
    end
    local function factory() return {} end
    refused("#1 to 'create_datagram_endpoint'", nil, { local_addr = HERE })
    refused("#2 to 'create_datagram_endpoint'", factory, 1)
    refused("did you mean 'local_addr'", factory, { local_adr = HERE })
    refused("option 'local_addr'", factory, { local_addr = "127.0.0.1" })
    refused("port", factory, { local_addr = { host = "127.0.0.1", port = 70000 } })
    refused("option 'family'", factory, { local_addr = HERE, family = "ipx" })
    local _, transport, addr, closing = endpoint()
    local _ <close> = closing
    net.refuses("bad argument", transport.sendto, transport, {}, addr)
    net.refuses("bad argument", transport.sendto, transport, nil, addr)
    net.refuses("bad argument", transport.sendto, transport, "x", "127.0.0.1")
    net.refuses("bad argument", transport.sendto, transport, "x", { host = "127.0.0.1" })
    net.raises("InvalidStateError", transport.sendto, transport, "x") -- and no remote_addr
  end)
end)

describe("error_received", function()
  it("gets what the network says, and the transport stays open", function()
    local protocol, transport, _, closing = endpoint({ remote_addr = deserted() })
    local _ <close> = closing
    for i = 1, 2 do
      transport:sendto("anybody there?")
      protocol:wait(function() return #protocol.errors >= i end)
      assert.equal("ConnectionRefusedError", protocol.errors[i].kind)
      assert.is_false(transport:is_closing())
    end
    assert.equal("made error error", protocol:order())
  end)

  it("gets what the system refuses to send, from the loop", function()
    local protocol, transport, addr, closing = endpoint()
    local _ <close> = closing
    transport:sendto(("x"):rep(70000), addr)
    transport:sendto("x", { host = "127.255.255.255", port = addr.port }) -- not allowed to
    assert.equal("made", protocol:order())
    protocol:wait(function() return #protocol.errors == 2 end)
    assert.equal("EMSGSIZE", protocol.errors[1].code)
    assert.equal("PermissionError", protocol.errors[2].kind)
    transport:sendto("to myself", addr)
    assert.same({ "to myself" }, texts(protocol, 1))
  end)

  it("may be missing", function()
    local reports <close> = tasks.reports()
    local got = moonloop.Future()
    local transport = loop:create_datagram_endpoint(function()
      return { datagram_received = function(_, data) got:set_result(data) end }
    end, { local_addr = HERE })
    transport:sendto(("x"):rep(70000), transport:get_extra_info("sockname"))
    transport:sendto("all the same", transport:get_extra_info("sockname"))
    assert.equal("all the same", got:await())
    assert.same({}, reports)
    transport:close()
    wait_all_blocked()
  end)
end)

describe("A datagram protocol that raises", function()
  it("is reported and loses its transport", function()
    for _, name in ipairs { "connection_made", "datagram_received", "error_received" } do
      local reports <close> = tasks.reports()
      local protocol, transport, addr, closing = endpoint(nil,
        { [name] = function() error({ name }) end })
      local _ <close> = closing
      if name == "datagram_received" then transport:sendto("x", addr) end
      if name == "error_received" then transport:sendto(("x"):rep(70000), addr) end
      assert.same({ name }, protocol:lost())
      assert.equal(1, #reports)
      assert.equal(transport, reports[1].transport)
      assert.matches(name, reports[1].message, 1, true)
    end
  end)
end)

describe("A broadcast", function()
  it("reaches everyone on the port where allow_broadcast is given", function()
    local wide = { host = "0.0.0.0", port = 0 }
    local receiver, _, addr, closing = endpoint({ local_addr = wide })
    local _ <close> = closing
    local _, transport, _, sender_closing = endpoint({ local_addr = HERE, allow_broadcast = true })
    local _ <close> = sender_closing
    transport:sendto("to all", { host = "127.255.255.255", port = addr.port })
    assert.same({ "to all" }, texts(receiver, 1))
  end)
end)

describe("A multicast group", function()
  it("is joined and left by the transport", function()
    local group = "239.77.3.5"
    local protocol, transport, addr, closing = endpoint({
      local_addr = { host = "0.0.0.0", port = 0 },
    })
    local _ <close> = closing
    local sender <close> = moonloop.socket.udp()
    sender:bind(HERE)
    sender:setsockopt("IP_MULTICAST_IF", { interface = "127.0.0.1" })
    transport:join(group, "127.0.0.1")
    sender:sendto("to members", { host = group, port = addr.port })
    assert.same({ "to members" }, texts(protocol, 1))
    transport:leave(group, "127.0.0.1")
    sender:sendto("to members", { host = group, port = addr.port })
    sender:sendto("to you alone", { host = "127.0.0.1", port = addr.port })
    assert.same({ "to members", "to you alone" }, texts(protocol, 2))
  end)
end)

describe("A datagram transport's buffer", function()
  -- An endpoint whose peer, a Unix socket, does not receive. Awaits.
  local function clogged(extra)
    local name = protocols.abstract_name()
    local peer = moonloop.socket.unix("dgram")
    peer:bind { path = name }
    local protocol, transport, _, closing = endpoint({ remote_addr = { path = name } }, extra)
    return peer, protocol, transport, closing
  end

  local PIECE = ("0123456789abcdef"):rep(256)

  -- Sends numbered datagrams until the protocol is paused; gives their number.
  local function fill(protocol, transport)
    local count = 0
    while not protocol.paused do
      count = count + 1
      transport:sendto(("%06d"):format(count) .. PIECE)
      assert(count < 10000, "pause_writing is never called")
    end
    return count
  end

  it("pauses its protocol and resumes it, and loses nothing", function()
    local size
    local peer <close>, protocol, transport, closing = clogged {
      resume_writing = function(self) size = self.transport:get_write_buffer_size() end,
    }
    local _ <close> = closing
    transport:set_write_buffer_limits(200000, 100000) -- more than the system takes at once
    local count = fill(protocol, transport)
    assert.is_true(transport:get_write_buffer_size() > 200000)
    wait_all_blocked()
    assert.is_true(protocol.paused)
    for i = 1, count do
      assert.equal(i, tonumber(peer:recv():sub(1, 6)))
      wait_all_blocked()
    end
    assert.is_true(size <= 100000 and size > 0)
    wait_all_blocked()
    assert.equal("made pause resume", protocol:order())
    assert.equal(0, transport:get_write_buffer_size())
  end)

  it("lets nothing overtake what it holds", function()
    local peer <close>, protocol, transport, closing = clogged()
    local _ <close> = closing
    local count = fill(protocol, transport)
    wait_all_blocked()
    local first = peer:recv() -- so there is room, which the transport has not seen yet
    transport:sendto("the last one")
    assert.equal(1, tonumber(first:sub(1, 6)))
    for i = 2, count do assert.equal(i, tonumber(peer:recv():sub(1, 6))) end
    assert.equal("the last one", peer:recv())
  end)

  it("has water marks", function()
    local _ <close>, protocol, transport, closing = clogged()
    local _ <close> = closing
    assert.same({ 16384, 65536 }, { transport:get_write_buffer_limits() })
    transport:set_write_buffer_limits(0)
    fill(protocol, transport)
    assert.is_true(transport:get_write_buffer_size() >= #PIECE + 6)
    net.refuses("bad argument", transport.set_write_buffer_limits, transport, 1, 2)
  end)

  it("is dropped at the end of the run", function()
    local name, protocol = protocols.abstract_name(), protocols.recorder()
    local peer <close> = moonloop.socket.unix("dgram")
    peer:bind { path = name }
    moonloop.run(function()
      local transport = loop:create_datagram_endpoint(function() return protocol end,
        { remote_addr = { path = name } })
      fill(protocol, transport)
    end)
    assert.equal("made pause lost", protocol:order())
    assert.is_nil(protocol.err)
  end)

  it("is sent by close, and dropped by abort", function()
    for _, ending in ipairs { "close", "abort" } do
      local peer <close>, protocol, transport, closing = clogged()
      local _ <close> = closing
      local count, got = fill(protocol, transport), 0
      transport[ending](transport)
      assert.is_true(transport:is_closing())
      wait_all_blocked()
      assert.equal(ending == "abort", protocol.is_lost or false)
      local reader = tasks.start(function()
        while true do
          peer:recv()
          got = got + 1
        end
      end)
      assert.is_nil(protocol:lost())
      wait_all_blocked()
      assert.equal(ending == "close", got == count)
      tasks.cancel(reader)
    end
  end)
end)

describe("A datagram transport", function()
  it("raises InvalidStateError when it sends after close or abort", function()
    for _, ending in ipairs { "close", "abort" } do
      local protocol, transport, addr, closing = endpoint()
      local _ <close> = closing
      assert.is_false(transport:is_closing())
      transport[ending](transport)
      transport[ending](transport)
      assert.is_true(transport:is_closing())
      assert.equal("made", protocol:order())
      net.raises("InvalidStateError", transport.sendto, transport, "x", addr)
      assert.is_nil(protocol:lost())
      net.raises("InvalidStateError", transport.sendto, transport, "x", addr)
      assert.equal("made lost", protocol:order())
    end
  end)

  it("delivers nothing after close, also when a callback closes it", function()
    local protocol, transport, addr, closing = endpoint(nil, {
      datagram_received = function(self) self.transport:close() end,
    })
    local _ <close> = closing
    for i = 1, 3 do transport:sendto("number " .. i, addr) end
    assert.is_nil(protocol:lost())
    assert.equal("made datagram lost", protocol:order())
  end)

  it("gives a socket that has options and nothing that moves data", function()
    local _, transport, addr, closing = endpoint()
    local _ <close> = closing
    local socket = transport:get_extra_info("socket")
    assert.same(addr, socket:getsockname())
    socket:setsockopt("SO_BROADCAST", true)
    assert.is_true(socket:getsockopt("SO_BROADCAST"))
    for _, name in ipairs { "recvfrom", "sendto", "close", "detach" } do
      assert.is_nil(socket[name])
    end
    assert.equal(7, transport:get_extra_info("no such thing", 7))
    assert.is_nil(transport:get_extra_info("peername"))
  end)

  it("can be given another protocol", function()
    local protocol, transport, addr, closing = endpoint()
    local _ <close> = closing
    local got = moonloop.Future()
    transport:set_protocol { datagram_received = function(_, data) got:set_result(data) end }
    transport:sendto("for the second", addr)
    assert.equal("for the second", got:await())
    transport:set_protocol(protocol)
    assert.equal("made", protocol:order())
  end)

  it("is aborted at the end of its run", function()
    local protocol = protocols.recorder()
    moonloop.run(function()
      loop:create_datagram_endpoint(function() return protocol end, { local_addr = HERE })
    end)
    assert.equal("made lost", protocol:order())
    assert.is_nil(protocol.err)
  end)
end)
