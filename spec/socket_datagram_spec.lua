-- SPDX-License-Identifier: MIT
-- Sockets of datagrams, by UDP and by Unix path: whole messages with their senders, empty ones,
-- ones that were cut, ones that are too long, and errors that come back from the network.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local socket = moonloop.socket

-- A UDP socket bound on loopback.
local function bound(host)
  host = host or "127.0.0.1"
  local s = socket.udp(host:find(":", 1, true) and "inet6" or "inet")
  s:bind { host = host, port = 0 }
  return s
end

-- A loopback address where nobody takes UDP.
local function deserted()
  local s <close> = bound()
  return s:getsockname()
end

describe("A UDP socket", function()
  for _, host in ipairs { "127.0.0.1", "::1" } do
    it("sends to any address and knows who sent, by " .. host, function()
      local a <close> = bound(host)
      local b <close> = bound(host)
      assert.equal(4, a:sendto("ping", b:getsockname()))
      local data, from = b:recvfrom()
      assert.equal("ping", data)
      assert.same(a:getsockname(), from)
      b:sendto("pong", from)
      assert.equal("pong", a:recv())
    end)
  end

  it("keeps messages apart and takes each whole", function()
    local a <close> = bound()
    local b <close> = bound()
    for _, text in ipairs { "one", "", "three" } do a:sendto(text, b:getsockname()) end
    assert.equal("one", b:recv())
    assert.equal("", b:recv())
    assert.equal("three", (b:recvfrom()))
  end)

  it("has no end of file: an empty datagram has a sender like any", function()
    local a <close> = bound()
    local b <close> = bound()
    assert.equal(0, a:sendto("", b:getsockname()))
    local data, from, size = b:recvfrom()
    assert.equal("", data)
    assert.same(a:getsockname(), from)
    assert.is_nil(size)
  end)

  it("says how long a datagram was that was cut", function()
    local a <close> = bound()
    local b <close> = bound()
    a:sendto("0123456789", b:getsockname())
    a:sendto("next", b:getsockname())
    local data, from, size = b:recvfrom(4)
    assert.equal("0123", data)
    assert.same(a:getsockname(), from)
    assert.equal(10, size)
    assert.same({ "next", a:getsockname() }, { b:recvfrom(4) })
  end)

  it("takes the longest datagram there is, and no longer one", function()
    local a <close> = bound()
    local b <close> = bound()
    local longest = net.text(65507)
    assert.equal(65507, a:sendto(longest, b:getsockname()))
    assert.is_true(b:recv() == longest)
    local err = net.raises("OSError", a.sendto, a, longest .. "x", b:getsockname())
    assert.equal("EMSGSIZE", err.code)
    assert.matches("Message too long", err.message, 1, true)
    a:sendto("after that", b:getsockname())
    assert.equal("after that", b:recv())
  end)

  it("that is connected sends there and hears nobody else", function()
    local a <close> = bound()
    local b <close> = bound()
    local other <close> = bound()
    a:connect(b:getsockname())
    assert.same(b:getsockname(), a:getpeername())
    other:sendto("unheard", a:getsockname())
    a:send("ping")
    local data, from = b:recvfrom()
    assert.equal("ping", data)
    b:sendto("pong", from)
    assert.equal("pong", a:recv())
  end)

  it("that is not connected needs an address", function()
    local a <close> = bound()
    assert.equal("EDESTADDRREQ", net.raises("OSError", a.send, a, "x").code)
    assert.equal("ENOTCONN", net.raises("OSError", a.getpeername, a).code)
  end)

  it("raises ConnectionRefusedError where nobody takes what it sent", function()
    local a <close> = bound()
    a:connect(deserted())
    a:send("x")
    local err = net.raises("ConnectionRefusedError", a.recv, a)
    assert.equal("ECONNREFUSED", err.code)
    a:send("x")
    net.raises("ConnectionRefusedError", a.send, a, "y")
  end)

  it("raises it in a recv that waits", function()
    local a <close> = bound()
    a:connect(deserted())
    local task = tasks.start(a.recv, a)
    a:send("x")
    net.raises("ConnectionRefusedError", task.await, task)
  end)

  it("raises PermissionError for a broadcast that it may not send", function()
    local a <close> = bound()
    local address = { host = "127.255.255.255", port = a:getsockname().port }
    net.raises("PermissionError", a.sendto, a, "x", address)
    a:setsockopt("SO_BROADCAST", true)
    assert.equal(1, a:sendto("x", address))
  end)
end)

describe("A Unix socket of datagrams", function()
  it("sends to a path, and is answered where it has one", function()
    local folder <close> = sockets.folder()
    local a <close> = socket.unix("dgram")
    local b <close> = socket.unix("dgram")
    a:bind { path = folder:file("a") }
    b:bind { path = folder:file("b") }
    a:sendto("ping", { path = folder:file("b") })
    local data, from = b:recvfrom()
    assert.same({ "ping", { path = folder:file("a") } }, { data, from })
    b:sendto("pong", from)
    assert.equal("pong", a:recv())
  end)

  it("without a name has the empty path", function()
    local folder <close> = sockets.folder()
    local a <close> = socket.unix("dgram")
    local b <close> = socket.unix("dgram")
    b:bind { path = folder:file("b") }
    a:connect(b:getsockname())
    a:send("anonymous")
    local data, from = b:recvfrom()
    assert.equal("anonymous", data)
    assert.equal("", from and from.path or "")
  end)

  it("says how long a datagram was that was cut", function()
    local a, b, _ <close> = sockets.socketpair("dgram")
    a:send("0123456789")
    local data, _, size = b:recvfrom(3)
    assert.same({ "012", 10 }, { data, size })
  end)

  it("raises an OSError for a datagram that is too long", function()
    local a, b, _ <close> = sockets.socketpair("dgram")
    a:setsockopt("SO_SNDBUF", 8192)
    assert.equal("EMSGSIZE", net.raises("OSError", a.send, a, ("x"):rep(200000)).code)
    a:send("short")
    assert.equal("short", b:recv())
  end)

  it("raises ConnectionRefusedError where the receiver is gone", function()
    local folder <close> = sockets.folder()
    local path = folder:file("gone")
    local a <close>, b = socket.unix("dgram"), socket.unix("dgram")
    b:bind { path = path }
    b:close()
    local err = net.raises("ConnectionRefusedError", a.sendto, a, "x", { path = path })
    assert.matches(path, err.message, 1, true)
  end)
end)

describe("A datagram socket whose receiver does not read", function()
  -- The system calls an unconnected Unix socket writable also when its receiver has no room. Time
  -- jumps when nothing is busy; else the script would work for ever.
  it("waits without keeping the loop busy", function()
    local status, out, err = script.run([[
      local moonloop = require "moonloop"
      local a, b = moonloop.socket.unix("dgram"), moonloop.socket.unix("dgram")
      local address = { path = "\0moonloop-busy" .. tostring({}) .. os.time() }
      b:bind(address)
      local count = 0
      moonloop.create_task(function()
        while true do
          a:sendto("x", address)
          count = count + 1
        end
      end)
      do
        local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
        moonloop.sleep(1)
      end
      print(count)
      for _ = 1, count + 1 do io.write(b:recv()) end]], { timeout = 20 })
    assert.same({ 0, "" }, { status, err })
    local count, text = out:match("^(%d+)\n(x*)$")
    assert.equal(tonumber(count) + 1, #text)
  end)
end)
