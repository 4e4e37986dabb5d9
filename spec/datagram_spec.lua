-- SPDX-License-Identifier: MIT
-- moonloop.open_datagram: sending and receiving four ways, truncation, what the system refuses and
-- what comes back from the network, closing, arguments.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local HERE = { host = "127.0.0.1", port = 0 }

local function open(local_addr)
  return moonloop.open_datagram { local_addr = local_addr or HERE }
end

-- One, another that is connected to it, and a to-be-closed value that closes both.
local function connected_pair()
  local a = open()
  local b = moonloop.open_datagram { local_addr = HERE, remote_addr = a:getsockname() }
  return a, b, sockets.closing(a, b)
end

-- A loopback address where nobody takes UDP.
local function deserted()
  local d <close> = open()
  return d:getsockname()
end

describe("open_datagram", function()
  for _, host in ipairs { "127.0.0.1", "::1" } do
    it("gives a Datagram that sends to any address and answers by " .. host, function()
      local a <close> = open { host = host, port = 0 }
      local b <close> = open { host = host, port = 0 }
      a:send("ping", b:getsockname())
      local data, from = b:recv()
      assert.equal("ping", data)
      assert.same(a:getsockname(), from)
      b:send("pong", from)
      assert.same({ "pong", b:getsockname() }, { a:recv() })
    end)
  end

  it("with remote_addr is connected: send needs no address, nobody else is heard", function()
    local server <close> = open()
    local other <close> = open()
    local client <close> = moonloop.open_datagram { remote_addr = server:getsockname() }
    assert.same(server:getsockname(), client:getpeername())
    client:send("ping")
    local data, from = server:recv()
    assert.equal("ping", data)
    other:send("unheard", from)
    server:send("pong", from)
    assert.same({ "pong", server:getsockname() }, { client:recv() })
  end)

  it("resolves localhost", function()
    local server <close> = open()
    local client <close> = moonloop.open_datagram {
      remote_addr = { host = "localhost", port = server:getsockname().port }, family = "inet",
    }
    client:send("by name")
    assert.equal("by name", (server:recv()))
  end)

  it("with neither address can send, from a port that the system gives", function()
    local server <close> = open()
    local client <close> = moonloop.open_datagram { family = "inet" }
    client:send("hello", server:getsockname())
    local data, from = server:recv()
    assert.equal("hello", data)
    assert.equal(client:getsockname().port, from.port)
  end)

  it("obeys family", function()
    local six <close> = moonloop.open_datagram { family = "inet6" }
    six:send("six", { host = "::1", port = 9 })
    assert.matches(":", six:getsockname().host, 1, true)
  end)

  it("raises AddressInUseError for an address that is taken", function()
    local first <close> = open()
    local err = net.raises("AddressInUseError", moonloop.open_datagram,
      { local_addr = first:getsockname() })
    assert.matches("127.0.0.1:" .. first:getsockname().port, err.message, 1, true)
  end)

  it("shares a port with reuse_port", function()
    local first <close> = moonloop.open_datagram { local_addr = HERE, reuse_port = true }
    local second <close> = moonloop.open_datagram {
      local_addr = first:getsockname(), reuse_port = true,
    }
    assert.same(first:getsockname(), second:getsockname())
    net.raises("AddressInUseError", moonloop.open_datagram, { local_addr = first:getsockname() })
  end)

  it("leaves no descriptor open when it fails", function()
    local first <close> = open()
    local before = sockets.count_descriptors()
    for _ = 1, 3 do
      assert.is_false(pcall(moonloop.open_datagram, { local_addr = first:getsockname() }))
    end
    assert.equal(before, sockets.count_descriptors())
  end)
end)

describe("Datagram:recv", function()
  it("returns at once what has come, in order, empty datagrams too", function()
    local a, b, _ <close> = connected_pair()
    for _, text in ipairs { "one", "", "three" } do b:send(text) end
    for _, text in ipairs { "one", "", "three" } do
      assert.same({ text, b:getsockname() }, { a:recv() })
    end
  end)

  it("waits for one that comes later", function()
    local a, b, _ <close> = connected_pair()
    local task = tasks.start(a.recv, a)
    assert.is_false(task:done())
    b:send("later")
    assert.same({ "later", b:getsockname() }, { task:await() })
  end)

  it("loses none when it is cancelled while it waits", function()
    local a, b, _ <close> = connected_pair()
    assert.is_true(tasks.cancel(tasks.start(a.recv, a)))
    b:send("kept")
    assert.equal("kept", (a:recv()))
  end)

  it("loses none to a time that runs out when it comes", function()
    local a, b, _ <close> = connected_pair()
    local task = tasks.start(a.recv, a)
    b:send("kept")
    task:cancel()
    local ok, data = tasks.outcome(task)
    if not ok then data = a:recv() end
    assert.equal("kept", data)
  end)

  it("raises InvalidStateError when it is closed while it waits", function()
    local a, b <close> = connected_pair()
    local task = tasks.start(a.recv, a)
    a:close()
    net.raises("InvalidStateError", task.await, task)
    assert.is_true(b:fileno() >= 0)
  end)

  it("is for one task at a time, which the other's error names", function()
    local a, b, _ <close> = connected_pair()
    local task = tasks.start({ name = "the first" }, a.recv, a)
    local err = net.raises("InvalidStateError", a.recv, a)
    assert.matches("the first", err.message, 1, true)
    b:send("x")
    assert.equal("x", (task:await()))
  end)

  it("says how long a datagram was that was cut, and nothing of one that was not", function()
    local a, b, _ <close> = connected_pair()
    b:send("0123456789")
    b:send("1234")
    local data, from, size = a:recv(4)
    assert.equal("0123", data)
    assert.same(b:getsockname(), from)
    assert.equal(10, size)
    assert.same({ "1234", b:getsockname() }, { a:recv(4) })
  end)

  it("takes the longest datagram whole when no size is given", function()
    local a, b, _ <close> = connected_pair()
    local longest = net.text(65507)
    b:send(longest)
    local data, _, size = a:recv()
    assert.is_true(data == longest)
    assert.is_nil(size)
  end)

  it("answers one message after another", function()
    local a, b, _ <close> = connected_pair()
    local echo = moonloop.create_task(function()
      for _ = 1, 100 do
        local data, from = a:recv()
        a:send(data, from)
      end
    end)
    for i = 1, 100 do
      b:send("number " .. i)
      assert.equal("number " .. i, (b:recv()))
    end
    echo:await()
  end)
end)

describe("Datagram:send", function()
  it("raises an OSError for a message that is too long, and goes on", function()
    local a, b, _ <close> = connected_pair()
    local err = net.raises("OSError", b.send, b, ("x"):rep(65508))
    assert.equal("EMSGSIZE", err.code)
    b:send("short")
    assert.equal("short", (a:recv()))
  end)

  it("raises InvalidStateError without an address where there is no remote_addr", function()
    local a <close> = open()
    local err = net.raises("InvalidStateError", a.send, a, "x")
    assert.matches("address", err.message, 1, true)
  end)

  it("waits while a Unix receiver has no room, four ways", function()
    local folder <close> = sockets.folder()
    local b <close> = moonloop.open_datagram { local_addr = { path = folder:file("b") } }
    local a <close> = moonloop.open_datagram { remote_addr = { path = folder:file("b") } }
    local count = 0
    local filler = tasks.start(function()
      while true do
        a:send("filling")
        count = count + 1
      end
    end)
    assert.is_true(tasks.cancel(filler)) -- the one that waited is not sent
    local later = tasks.start(a.send, a, "later")
    assert.is_false(later:done())
    for _ = 1, count do assert.equal("filling", (b:recv())) end
    later:await()
    assert.equal("later", (b:recv()))
    filler = tasks.start(function() while true do a:send("again") end end)
    a:close()
    net.raises("InvalidStateError", filler.await, filler)
  end)
end)

describe("An ICMP 'port unreachable'", function()
  it("is ConnectionRefusedError in a recv that waits", function()
    local a <close> = moonloop.open_datagram { remote_addr = deserted() }
    local task = tasks.start(a.recv, a)
    a:send("x")
    assert.equal("ECONNREFUSED", net.raises("ConnectionRefusedError", task.await, task).code)
  end)

  it("is ConnectionRefusedError in the next recv", function()
    local a <close> = moonloop.open_datagram { remote_addr = deserted() }
    a:send("x")
    net.raises("ConnectionRefusedError", a.recv, a)
  end)

  it("is ConnectionRefusedError in the next send", function()
    local a <close> = moonloop.open_datagram { remote_addr = deserted() }
    a:send("x")
    net.raises("ConnectionRefusedError", a.send, a, "y")
  end)

  it("is told once, after which there may be an answer", function()
    local address = deserted()
    local a <close> = moonloop.open_datagram { remote_addr = address }
    a:send("x")
    net.raises("ConnectionRefusedError", a.recv, a)
    local b <close> = open(address)
    a:send("y")
    local _, from = b:recv()
    b:send("answer", from)
    assert.equal("answer", (a:recv()))
  end)

  it("is nothing to one that is not connected", function()
    local a <close> = open()
    local b <close> = open()
    a:send("x", deserted())
    local task = tasks.start(a.recv, a)
    assert.is_false(task:done())
    b:send("heard", a:getsockname())
    assert.equal("heard", (task:await()))
  end)
end)

describe("A Datagram that is closed", function()
  it("raises InvalidStateError from every call but close and fileno", function()
    local a = open()
    a:close()
    a:close()
    assert.equal(-1, a:fileno())
    local CALLS = {
      recv = {}, send = { "x", HERE }, getsockname = {}, getpeername = {},
      join = { "239.7.7.7" }, leave = { "239.7.7.7" },
      setsockopt = { "SO_BROADCAST", true }, getsockopt = { "SO_BROADCAST" },
    }
    for name, args in pairs(CALLS) do
      local err = net.raises("InvalidStateError", a[name], a, table.unpack(args))
      assert.matches("closed", err.message, 1, true)
    end
  end)

  it("has left its port free, by <close> too", function()
    local address
    do
      local a <close> = open()
      address = a:getsockname()
    end
    local again <close> = open(address)
    assert.same(address, again:getsockname())
  end)

  it("says so in tostring", function()
    local a = open()
    assert.matches("127.0.0.1:" .. a:getsockname().port, tostring(a), 1, true)
    a:close()
    assert.matches("closed", tostring(a), 1, true)
  end)
end)

describe("The arguments of open_datagram", function()
  local function refused(what, opts)
    local said = net.refuses("bad argument #1 to 'open_datagram'", function()
      local _ = moonloop.open_datagram(opts)
    end)
    assert.matches(what, said, 1, true)
  end

  it("are named when they do not exist, with the nearest that does", function()
    refused("'local_addr'", { local_adr = HERE })
    refused("'allow_broadcast'", { allow_brodcast = true })
    refused("'host'", { local_addr = { hots = "127.0.0.1" } })
  end)

  it("have types", function()
    refused("local_addr", { local_addr = "127.0.0.1:80" })
    refused("remote_addr", { remote_addr = true })
    refused("reuse_port", { reuse_port = 1 })
    refused("allow_broadcast", { allow_broadcast = "yes" })
    refused("family", { family = "inet5" })
    refused("port", { local_addr = { host = "127.0.0.1", port = 65536 } })
    refused("table", "127.0.0.1")
  end)

  it("of its methods have types too", function()
    local a <close> = open()
    sockets.refuses(1, a, "send", nil, HERE)
    sockets.refuses(2, a, "send", "x", "127.0.0.1")
    sockets.refuses(1, a, "recv", "all")
    sockets.refuses(1, a, "recv", -1)
  end)
end)
