-- SPDX-License-Identifier: MIT
-- Names where connections, servers, sockets and datagrams take a host: all of them resolve, try
-- what the name has, and name the host and the code when it has nothing.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Names end in a dot here, so that no search domain of this machine comes in.
local NAME = "host.test."

-- A DNS server that knows these hosts of NAME, and how it says that there is no other.
local function named(four, six)
  local server = dns_server.start():use()
  local function records(hosts)
    local list = {}
    for i, host in ipairs(hosts or {}) do list[i] = { host = host } end
    return list
  end
  return server:on(NAME, "A", records(four)):on(NAME, "AAAA", records(six))
end

local function echo(stream)
  for line in function() return stream:readline() end do stream:write(line) end
end

local function serve(host)
  return moonloop.start_server(echo, host or "127.0.0.1", 0)
end

local function peer_of(stream)
  return stream:get_extra_info("peername").host
end

describe("A name", function()
  it("is what connect and open_connection take", function()
    local _ <close> = named { "127.0.0.1" }
    local server <close> = serve()
    for _, how in ipairs { "connect", "open_connection" } do
      local stream <close> = moonloop[how](NAME, server:port())
      stream:write("hello\n")
      assert.equal("hello\n", stream:readline())
      assert.equal("127.0.0.1", peer_of(stream))
    end
  end)

  it("is what start_server takes, which listens at all that it has", function()
    local _ <close> = named({ "127.0.0.1", "127.0.0.2" }, { "::1" })
    local server <close> = serve(NAME)
    local hosts = {}
    for i, address in ipairs(server:sockets()) do hosts[i] = address.host end
    table.sort(hosts)
    assert.same({ "127.0.0.1", "127.0.0.2", "::1" }, hosts)
    local stream <close> = moonloop.connect(NAME, server:port(), { family = "inet" })
    stream:write("hello\n")
    assert.equal("hello\n", stream:readline())
  end)

  it("may stand in a list of hosts, beside numeric ones", function()
    local dns <close> = named { "127.0.0.2" }
    dns:on("other.test", "A", { { host = "127.0.0.4" } })
    local server <close> = moonloop.start_server(echo, { NAME, "127.0.0.3", "other.test." }, 0)
    local hosts = {}
    for i, address in ipairs(server:sockets()) do hosts[i] = address.host end
    assert.same({ "127.0.0.2", "127.0.0.3", "127.0.0.4" }, hosts)
  end)

  it("is what create_connection and create_server take", function()
    local _ <close> = named { "127.0.0.1" }
    local loop, done = moonloop.get_running_loop(), moonloop.Future()
    local Taker = moonloop.Protocol:extend {
      data_received = function(_, data) done:set_result(data) end,
    }
    local server <close> = loop:create_server(Taker, NAME, 0)
    local transport = loop:create_connection(moonloop.Protocol, NAME, server:port())
    assert.equal("127.0.0.1", transport:get_extra_info("peername").host)
    transport:write("hello")
    assert.equal("hello", done:await())
    transport:close()
  end)

  it("is what local_addr takes", function()
    local _ <close> = named { "127.0.0.7" }
    local server <close> = serve()
    local stream <close> = moonloop.connect("127.0.0.1", server:port(),
      { local_addr = { host = NAME, port = 0 } })
    assert.equal("127.0.0.7", stream:get_extra_info("sockname").host)
  end)

  it("is what datagrams take, at either end and to send to", function()
    local _ <close> = named { "127.0.0.1" }
    local a <close> = moonloop.open_datagram { local_addr = { host = NAME, port = 0 } }
    local port = a:getsockname().port
    local b <close> = moonloop.open_datagram { remote_addr = { host = NAME, port = port } }
    b:send("one")
    assert.equal("one", (a:recv()))
    local c <close> = moonloop.open_datagram { family = "inet" }
    c:send("two", { host = NAME, port = port })
    assert.equal("two", (a:recv()))
  end)

  it("is what create_datagram_endpoint takes", function()
    local _ <close> = named { "127.0.0.1" }
    local loop, done = moonloop.get_running_loop(), moonloop.Future()
    local Taker = moonloop.DatagramProtocol:extend {
      datagram_received = function(_, data) done:set_result(data) end,
    }
    local taker = loop:create_datagram_endpoint(Taker, { local_addr = { host = NAME, port = 0 } })
    local sender = loop:create_datagram_endpoint(moonloop.DatagramProtocol,
      { remote_addr = { host = NAME, port = taker:get_extra_info("sockname").port } })
    sender:sendto("hello")
    assert.equal("hello", done:await())
    sender:close()
    taker:close()
    wait_all_blocked()
  end)

  it("is what a socket's bind, connect and sendto take, in its own family", function()
    local dns <close> = named({ "127.0.0.1" }, { "::1" })
    local listener <close> = moonloop.socket.tcp()
    listener:bind { host = NAME, port = 0 }
    listener:listen()
    local address = listener:getsockname()
    assert.equal("127.0.0.1", address.host)
    local near <close> = moonloop.socket.tcp()
    near:connect { host = NAME, port = address.port }
    local far <close> = listener:accept()
    assert.same(near:getsockname(), far:getpeername())
    local taker <close> = moonloop.socket.udp "inet6"
    taker:bind { host = NAME, port = 0 }
    assert.equal("::1", taker:getsockname().host)
    local sender <close> = moonloop.socket.udp "inet6"
    sender:sendto("hello", { host = NAME, port = taker:getsockname().port })
    assert.equal("hello", (taker:recv(100)))
    assert.equal(2, dns:count(nil, "A"))
    assert.equal(2, dns:count(nil, "AAAA"))
  end)

  it("is looked up in the family that is asked for", function()
    local dns <close> = named({ "127.0.0.1" }, { "::1" })
    for _, host in ipairs { "127.0.0.1", "::1" } do
      local family = host == "::1" and "inet6" or "inet"
      local server <close> = moonloop.start_server(echo, NAME, 0, { family = family })
      assert.same({ { host = host, port = server:port() } }, server:sockets())
      local stream <close> = moonloop.connect(NAME, server:port(), { family = family })
      assert.equal(host, peer_of(stream))
    end
    assert.same({ "host.test A", "host.test A", "host.test AAAA", "host.test AAAA" }, dns:asked())
  end)
end)

describe("connect by a name with several addresses", function()
  -- A port of ::1 that lets connects wait, the same of 127.0.0.1 that takes them. Awaits.
  local function half_open()
    for _ = 1, 50 do
      local server = serve()
      local ok, hole = pcall(sockets.hole, "::1", server:port())
      if ok then return server, hole end
      server:close()
      server:wait_closed()
    end
    error("no port is free in both families")
  end

  it("takes the second one when the first does not answer", function()
    local _ <close> = named({ "127.0.0.1" }, { "::1" })
    local server, hole = half_open()
    local _ <close> = server
    local _ <close> = hole
    local stream <close> = moonloop.connect(NAME, hole.port, { happy_eyeballs_delay = 0.01 })
    assert.equal("127.0.0.1", peer_of(stream))
  end)

  it("tries IPv6 first, then IPv4, and nothing else until the delay has passed", function()
    local _ <close> = named({ "127.0.0.1" }, { "::1" })
    local server, hole = half_open()
    local _ <close> = server
    local _ <close> = hole
    local task = tasks.start(moonloop.connect, NAME, hole.port,
      { happy_eyeballs_delay = math.huge })
    assert.is_false(task:done())
    assert.same({ "0.0.0.1" }, sockets.connecting(hole.port))
    tasks.cancel(task)
  end)

  it("goes on at once when one refuses", function()
    local _ <close> = named({ "127.0.0.1" }, { "::1" })
    local server <close> = serve()
    local stream <close> = moonloop.connect(NAME, server:port(),
      { happy_eyeballs_delay = math.huge })
    assert.equal("127.0.0.1", peer_of(stream))
  end)

  it("tells of every address when all refuse", function()
    local _ <close> = named({ "127.0.0.1", "127.0.0.2" }, { "::1" })
    local err = net.raises("ConnectionRefusedError", moonloop.connect, NAME, net.free_port())
    assert.equal(3, #err.errors)
  end)
end)

-- Everything that takes a name, with a name that isn't there.
local function sender(name, family)
  return function()
    local udp <close> = moonloop.open_datagram { family = family or "inet" }
    udp:send("hello", { host = name, port = 9 })
  end
end

local function on_socket(method, name)
  return function()
    local socket <close> = moonloop.socket.tcp()
    socket[method](socket, { host = name, port = 9 })
  end
end

local function takers(name)
  local loop = moonloop.get_running_loop()
  local address = { host = name, port = 9 }
  return {
    connect = function() moonloop.connect(name, 9) end,
    open_connection = function() moonloop.open_connection(name, 9) end,
    start_server = function() moonloop.start_server(echo, name, 0) end,
    ["open_datagram to it"] = function() moonloop.open_datagram { remote_addr = address } end,
    ["open_datagram from it"] = function() moonloop.open_datagram { local_addr = address } end,
    ["sending to it"] = sender(name),
    create_connection = function() loop:create_connection(moonloop.Protocol, name, 9) end,
    create_server = function() loop:create_server(moonloop.Protocol, name, 9) end,
    create_datagram_endpoint = function()
      loop:create_datagram_endpoint(moonloop.DatagramProtocol, { remote_addr = address })
    end,
    ["a socket's connect"] = on_socket("connect", name),
    ["a socket's bind"] = on_socket("bind", name),
  }
end

local KINDS = {}
for what in pairs(takers "a") do KINDS[#KINDS + 1] = what end
table.sort(KINDS)

describe("A name that does not resolve", function()
  for _, what in ipairs(KINDS) do
    it("is a DNSError with its host and code in " .. what .. ", and leaves nothing open", function()
      local dns <close> = dns_server.start():use()
      dns:on("broken.test", "A", { rcode = "SERVFAIL" })
        :on("broken.test", "AAAA", { rcode = "SERVFAIL" })
      tasks.collect() -- what others have left
      local before = sockets.count_descriptors()
      for name, code in pairs { ["nosuch.test."] = "EAI_NONAME", ["broken.test."] = "EAI_AGAIN" } do
        local err = net.raises("DNSError", takers(name)[what])
        assert.equal(code, err.code)
        assert.equal(name, err.host)
        assert.matches(name, err.message, 1, true)
      end
      assert.equal(before, sockets.count_descriptors())
      assert.is_true(dns:count() > 1)
    end)

    it("that is cancelled in " .. what .. " leaves nothing open", function()
      local dns <close> = dns_server.start():use()
      dns:on(NAME, "A", { silent = true }):on(NAME, "AAAA", { silent = true })
      tasks.collect() -- what others have left
      local before = sockets.count_descriptors()
      local task = tasks.start(takers(NAME)[what])
      assert.is_false(task:done())
      assert.is_true(dns:count() > 0)
      assert.is_true(tasks.cancel(task))
      wait_all_blocked()
      assert.equal(before, sockets.count_descriptors())
    end)
  end

  it("ends connect when its time limit has passed", function()
    local dns <close> = dns_server.start():use()
    dns:on(NAME, "A", { silent = true }):on(NAME, "AAAA", { silent = true })
    tasks.collect() -- what others have left
    local before = sockets.count_descriptors()
    net.raises("TimeoutError", moonloop.connect, NAME, 9, { timeout = 0.05 })
    wait_all_blocked()
    assert.equal(before, sockets.count_descriptors())
  end)
end)

describe("A numeric host", function()
  it("is never looked up", function()
    local dns <close> = named { "127.0.0.1" }
    for _, host in ipairs { "127.0.0.1", "::1" } do
      local server <close> = serve(host)
      local stream <close> = moonloop.connect(host, server:port())
      assert.equal(host, peer_of(stream))
    end
    assert.equal(0, dns:count())
  end)
end)
