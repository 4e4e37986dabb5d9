-- SPDX-License-Identifier: MIT
-- Datagrams that go to many: broadcast and multicast on loopback. Datagrams between Unix paths, and
-- with other programs at the other end: socat and python3.
local command = require "spec.support.command"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local HERE = { host = "127.0.0.1", port = 0 }

describe("A broadcast", function()
  it("reaches everyone on the port", function()
    local first <close> = moonloop.socket.udp()
    local second <close> = moonloop.socket.udp()
    for _, s in ipairs { first, second } do s:setsockopt("SO_REUSEADDR", true) end
    first:bind { host = "0.0.0.0", port = 0 }
    second:bind(first:getsockname())
    local sender <close> = moonloop.open_datagram { local_addr = HERE, allow_broadcast = true }
    sender:send("to all", { host = "127.255.255.255", port = first:getsockname().port })
    for _, s in ipairs { first, second } do
      assert.same({ "to all", sender:getsockname() }, { s:recvfrom() })
    end
  end)

  it("is refused with PermissionError unless allow_broadcast is given", function()
    local sender <close> = moonloop.open_datagram { local_addr = HERE }
    local address = { host = "127.255.255.255", port = sender:getsockname().port }
    local err = net.raises("PermissionError", sender.send, sender, "x", address)
    assert.equal("EACCES", err.code)
    sender:setsockopt("SO_BROADCAST", true)
    sender:send("x", address)
  end)

  it("can be where a Datagram is connected to", function()
    local receiver <close> = moonloop.open_datagram {
      local_addr = { host = "0.0.0.0", port = 0 }, family = "inet",
    }
    local sender <close> = moonloop.open_datagram {
      local_addr = HERE, allow_broadcast = true,
      remote_addr = { host = "127.255.255.255", port = receiver:getsockname().port },
    }
    sender:send("to all")
    assert.equal("to all", (receiver:recv()))
  end)
end)

describe("A multicast group", function()
  local GROUP = "239.77.3.4"

  -- A Datagram on the group's own address, which so hears the group alone, one that sends, and a
  -- to-be-closed value that closes both.
  local function open_both()
    local receiver = moonloop.open_datagram { local_addr = { host = GROUP, port = 0 } }
    local sender = moonloop.open_datagram { local_addr = HERE }
    return receiver, sender, sockets.closing(receiver, sender)
  end

  for what, interface in pairs { name = "lo", index = 1, ["local address"] = "127.0.0.1" } do
    it("is heard from joining until leaving, on an interface given by " .. what, function()
      local receiver, sender, _ <close> = open_both()
      local address = receiver:getsockname()
      receiver:join(GROUP, interface)
      sender:send("to members", address)
      assert.same({ "to members", sender:getsockname() }, { receiver:recv() })
      receiver:leave(GROUP, interface)
      local task = tasks.start(receiver.recv, receiver)
      sender:send("to nobody", address)
      receiver:join(GROUP, interface)
      sender:send("to members again", address)
      assert.equal("to members again", (task:await()))
    end)
  end

  it("reaches every member", function()
    local first, sender, _ <close> = open_both()
    local address = first:getsockname()
    local members = { first }
    first:setsockopt("SO_REUSEADDR", true)
    for i = 2, 3 do
      members[i] = moonloop.socket.udp()
      members[i]:setsockopt("SO_REUSEADDR", true)
      members[i]:bind(address)
    end
    first:join(GROUP, "lo")
    for i = 2, 3 do
      members[i]:setsockopt("IP_ADD_MEMBERSHIP", { group = GROUP, interface = "lo" })
    end
    sender:send("to all", address)
    for i = 1, 3 do assert.equal("to all", (members[i]:recv())) end
    members[2]:close()
    members[3]:close()
  end)

  it("cannot be joined twice or left without having been joined", function()
    local receiver, sender, _ <close> = open_both()
    net.raises("OSError", receiver.leave, receiver, GROUP, "lo")
    receiver:join(GROUP, "lo")
    net.raises("AddressInUseError", receiver.join, receiver, GROUP, "lo")
    receiver:leave(GROUP, "lo")
    assert.is_true(sender:fileno() >= 0)
  end)

  it("of IPv6 is joined and left", function()
    local receiver <close> = moonloop.open_datagram { family = "inet6" }
    receiver:join("ff15::77:3", "lo")
    net.raises("AddressInUseError", receiver.join, receiver, "ff15::77:3", "lo")
    receiver:leave("ff15::77:3", 1)
    net.raises("OSError", receiver.leave, receiver, "ff15::77:3", "lo")
  end)

  it("of IPv6 is heard, where loopback has a route for it", function()
    local receiver <close> = moonloop.open_datagram { local_addr = { host = "::", port = 0 } }
    local sender <close> = moonloop.open_datagram { local_addr = { host = "::1", port = 0 } }
    receiver:join("ff01::77:3", "lo")
    local port = receiver:getsockname().port
    local ok, err = pcall(sender.send, sender, "six", { host = "ff01::77:3%lo", port = port })
    if not ok then
      assert.equal("ENETUNREACH", err.code)
      return
    end
    assert.equal("six", (receiver:recv()))
  end)

  it("is refused when it is none", function()
    local receiver, sender, _ <close> = open_both()
    for _, name in ipairs { "join", "leave" } do
      sockets.refuses(1, receiver, name)
      sockets.refuses(1, receiver, name, 5)
      sockets.refuses(1, receiver, name, "no address")
      sockets.refuses(2, receiver, name, GROUP, {})
      sockets.refuses(2, receiver, name, GROUP, "nope0")
      assert.is_false(pcall(receiver[name], receiver, "127.0.0.1", "lo"))
    end
    assert.is_true(sender:fileno() >= 0)
  end)
end)

describe("Unix datagrams", function()
  it("go from path to path and back", function()
    local folder <close> = sockets.folder()
    local server <close> = moonloop.open_datagram { local_addr = { path = folder:file("server") } }
    local client <close> = moonloop.open_datagram {
      local_addr = { path = folder:file("client") }, remote_addr = { path = folder:file("server") },
    }
    client:send("ping")
    local data, from = server:recv()
    assert.same({ "ping", { path = folder:file("client") } }, { data, from })
    server:send("pong", from)
    assert.same({ "pong", { path = folder:file("server") } }, { client:recv() })
  end)

  it("can have abstract names", function()
    local folder <close> = sockets.folder()
    local path = "\0moonloop" .. folder:file("datagram")
    local server <close> = moonloop.open_datagram { local_addr = { path = path } }
    local client <close> = moonloop.open_datagram { remote_addr = { path = path } }
    assert.same({ path = path }, client:getpeername())
    client:send("abstract")
    assert.equal("abstract", (server:recv()))
  end)

  it("say how long one was that was cut", function()
    local folder <close> = sockets.folder()
    local server <close> = moonloop.open_datagram { local_addr = { path = folder:file("s") } }
    local client <close> = moonloop.open_datagram { remote_addr = { path = folder:file("s") } }
    client:send("0123456789")
    local data, _, size = server:recv(4)
    assert.same({ "0123", 10 }, { data, size })
  end)

  it("raise ConnectionRefusedError once their receiver is gone", function()
    local folder <close> = sockets.folder()
    local path = folder:file("s")
    local server = moonloop.open_datagram { local_addr = { path = path } }
    local client <close> = moonloop.open_datagram { remote_addr = { path = path } }
    server:close()
    local ok, err = pcall(client.send, client, "x")
    assert.is_false(ok)
    assert.is_true(moonloop.is_error(err, "ConnectionRefusedError")
      or moonloop.is_error(err, "ConnectionResetError"), tostring(err))
  end)

  it("raise FileNotFoundError where nothing is", function()
    local folder <close> = sockets.folder()
    local path = folder:file("missing")
    local err = net.raises("FileNotFoundError", moonloop.open_datagram,
      { remote_addr = { path = path } })
    assert.matches(path, err.message, 1, true)
  end)
end)

describe("Datagrams with other programs", function()
  it("are answered by socat", function()
    local echo <close> = moonloop.open_datagram { local_addr = HERE }
    local job = peers.start(([[
      exec socat -t 0.1 UDP4:127.0.0.1:%d SYSTEM:'printf from-socat; head -c 7 >&2']])
      :format(echo:getsockname().port))
    local data, from = echo:recv()
    assert.equal("from-socat", data)
    echo:send("answer\n", from)
    local status, said = job:wait()
    assert.same({ 0, "answer\n" }, { status, said })
  end)

  it("go to a Unix path of socat's", function()
    local folder <close> = sockets.folder()
    local server <close> = moonloop.open_datagram { local_addr = { path = folder:file("s") } }
    local status = peers.run("printf 'by path' | socat -u - UNIX-SENDTO:"
      .. command.quote(folder:file("s")))
    assert.equal(0, status)
    assert.equal("by path", (server:recv()))
  end)

  it("are echoed by python3", function()
    local ready <close> = moonloop.open_datagram { local_addr = HERE }
    local job = peers.start("exec python3 -c " .. command.quote(([[
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
s.sendto(b"ready", ("127.0.0.1", %d))
while True:
    data, addr = s.recvfrom(70000)
    s.sendto(data[::-1], addr)
    if not data:
        break
]]):format(ready:getsockname().port)))
    local _, address = ready:recv()
    local client <close> = moonloop.open_datagram { remote_addr = address }
    for _, text in ipairs { "abc", net.text(60000), "" } do
      client:send(text)
      assert.is_true((client:recv()) == text:reverse())
    end
    assert.equal(0, (job:wait()))
  end)
end)
