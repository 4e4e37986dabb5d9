-- SPDX-License-Identifier: MIT
-- setsockopt and getsockopt by name: flags as booleans, numbers, texts and tables; what they do;
-- and what becomes of an unknown name, a value that does not fit, a refusal by the system.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"

local refuses = sockets.refuses
local socket = moonloop.socket

local MAKE = {
  tcp = function() return socket.tcp() end,
  tcp6 = function() return socket.tcp("inet6") end,
  udp = function() return socket.udp() end,
  udp6 = function() return socket.udp("inet6") end,
}

describe("A flag", function()
  local FLAGS = {
    tcp = { "SO_REUSEADDR", "SO_REUSEPORT", "SO_KEEPALIVE", "SO_OOBINLINE", "TCP_NODELAY",
      "TCP_CORK" },
    tcp6 = { "IPV6_V6ONLY", "TCP_NODELAY" },
    udp = { "SO_BROADCAST", "SO_REUSEADDR", "IP_MULTICAST_LOOP" },
    udp6 = { "IPV6_V6ONLY", "IPV6_MULTICAST_LOOP" },
  }

  for kind, names in pairs(FLAGS) do
    for _, name in ipairs(names) do
      it(name .. " of a " .. kind .. " socket is set and given as a boolean", function()
        local s <close> = MAKE[kind]()
        s:setsockopt(name, true)
        assert.is_true(s:getsockopt(name))
        s:setsockopt(name, false)
        assert.is_false(s:getsockopt(name))
      end)
    end
  end

  it("that only the system sets is given as a boolean too", function()
    local s <close> = socket.tcp()
    s:bind { host = "127.0.0.1", port = 0 }
    assert.is_false(s:getsockopt("SO_ACCEPTCONN"))
    s:listen()
    assert.is_true(s:getsockopt("SO_ACCEPTCONN"))
  end)
end)

describe("A number", function()
  local NUMBERS = {
    tcp = { TCP_KEEPIDLE = 77, TCP_KEEPINTVL = 7, TCP_KEEPCNT = 5, TCP_USER_TIMEOUT = 4000,
      IP_TTL = 33, IP_TOS = 16, SO_PRIORITY = 3 },
    tcp6 = { IPV6_UNICAST_HOPS = 33 },
    udp = { IP_MULTICAST_TTL = 9, IP_TTL = 1 },
    udp6 = { IPV6_MULTICAST_HOPS = 9 },
  }

  for kind, values in pairs(NUMBERS) do
    for name, value in pairs(values) do
      it(name .. " of a " .. kind .. " socket is set and given", function()
        local s <close> = MAKE[kind]()
        assert.not_equal(value, s:getsockopt(name))
        s:setsockopt(name, value)
        assert.equal(value, s:getsockopt(name))
      end)
    end
  end

  it("of bytes for a buffer is at least what was asked for", function()
    local s <close> = socket.tcp()
    for _, name in ipairs { "SO_RCVBUF", "SO_SNDBUF" } do
      s:setsockopt(name, 20000)
      local small = s:getsockopt(name)
      assert.is_true(small >= 20000)
      s:setsockopt(name, 40000)
      assert.is_true(s:getsockopt(name) > small)
    end
  end)

  it("SO_ERROR is 0 where there is none, and the error once where there is one", function()
    local near <close>, far = sockets.tcp_pair()
    assert.equal(0, near:getsockopt("SO_ERROR"))
    far:setsockopt("SO_LINGER", 0)
    far:close()
    moonloop.testing.wait_all_blocked()
    assert.is_true(near:getsockopt("SO_ERROR") > 0)
    assert.equal(0, near:getsockopt("SO_ERROR"))
  end)
end)

describe("SO_LINGER", function()
  it("is a number of seconds, or false", function()
    local s <close> = socket.tcp()
    assert.is_false(s:getsockopt("SO_LINGER"))
    s:setsockopt("SO_LINGER", 5)
    assert.equal(5, s:getsockopt("SO_LINGER"))
    s:setsockopt("SO_LINGER", 0)
    assert.equal(0, s:getsockopt("SO_LINGER"))
    s:setsockopt("SO_LINGER", false)
    assert.is_false(s:getsockopt("SO_LINGER"))
  end)

  it("refuses what is neither", function()
    local s <close> = socket.tcp()
    refuses(2, s, "setsockopt", "SO_LINGER", "5 s")
    refuses(2, s, "setsockopt", "SO_LINGER", -1)
    refuses(2, s, "setsockopt", "SO_LINGER", nil)
  end)
end)

describe("A text", function()
  it("SO_BINDTODEVICE is set and given", function()
    local s <close> = socket.udp()
    assert.equal("", s:getsockopt("SO_BINDTODEVICE"))
    s:setsockopt("SO_BINDTODEVICE", "lo")
    assert.equal("lo", s:getsockopt("SO_BINDTODEVICE"))
  end)

  it("TCP_CONGESTION is set and given", function()
    local s <close> = socket.tcp()
    s:setsockopt("TCP_CONGESTION", "reno")
    assert.equal("reno", s:getsockopt("TCP_CONGESTION"))
  end)

  it("that the system does not know is refused by it", function()
    local s <close> = socket.tcp()
    local err = net.raises("OSError", s.setsockopt, s, "SO_BINDTODEVICE", "nope0")
    assert.equal("ENODEV", err.code)
    assert.matches("SO_BINDTODEVICE", err.message, 1, true)
    assert.equal("ENOENT",
      net.raises("FileNotFoundError", s.setsockopt, s, "TCP_CONGESTION", "nope").code)
  end)

  it("is not a number or a flag", function()
    local s <close> = socket.tcp()
    refuses(2, s, "setsockopt", "TCP_CONGESTION", true)
    refuses(2, s, "setsockopt", "SO_BINDTODEVICE", {})
    refuses(2, s, "setsockopt", "TCP_CONGESTION", nil)
  end)
end)

describe("SO_PEERCRED", function()
  it("is a table that says who is at the other end", function()
    local a, _, _ <close> = sockets.socketpair()
    local file <close> = assert(io.open("/proc/self/stat"))
    local cred = a:getsockopt("SO_PEERCRED")
    assert.equal(file:read("n"), cred.pid)
    assert.equal("integer", math.type(cred.uid))
    assert.equal("integer", math.type(cred.gid))
  end)

  it("cannot be set", function()
    local a, _, _ <close> = sockets.socketpair()
    assert.is_false(pcall(a.setsockopt, a, "SO_PEERCRED", { pid = 1 }))
  end)
end)

describe("IP_ADD_MEMBERSHIP", function()
  local GROUP = "239.77.1.2"

  for what, interface in pairs { name = "lo", index = 1, ["local address"] = "127.0.0.1" } do
    it("joins a group on an interface given by " .. what .. ", its opposite leaves", function()
      local s <close> = socket.udp()
      s:bind { host = GROUP, port = 0 }
      local from <close> = socket.udp()
      from:bind { host = "127.0.0.1", port = 0 }
      s:setsockopt("IP_ADD_MEMBERSHIP", { group = GROUP, interface = interface })
      from:sendto("to the group", s:getsockname())
      local data, addr = s:recvfrom()
      assert.equal("to the group", data)
      assert.same(from:getsockname(), addr)
      s:setsockopt("IP_DROP_MEMBERSHIP", { group = GROUP, interface = interface })
      local err = net.raises("OSError", s.setsockopt, s, "IP_DROP_MEMBERSHIP",
        { group = GROUP, interface = interface })
      assert.equal("EADDRNOTAVAIL", err.code)
    end)
  end

  it("refuses what is no group", function()
    local s <close> = socket.udp()
    refuses(2, s, "setsockopt", "IP_ADD_MEMBERSHIP", GROUP)
    refuses(2, s, "setsockopt", "IP_ADD_MEMBERSHIP", {})
    refuses(2, s, "setsockopt", "IP_ADD_MEMBERSHIP", { group = "not an address" })
    refuses(2, s, "setsockopt", "IP_ADD_MEMBERSHIP", { group = GROUP, interface = {} })
    local said = refuses(2, s, "setsockopt", "IP_ADD_MEMBERSHIP", { group = GROUP, interfce = 1 })
    assert.matches("'interface'", said, 1, true)
  end)

  it("is refused by the system for an address that is no group's", function()
    local s <close> = socket.udp()
    local err = net.raises("OSError", s.setsockopt, s, "IP_ADD_MEMBERSHIP",
      { group = "127.0.0.1", interface = "lo" })
    assert.equal("EINVAL", err.code)
  end)

  it("says so when there is no such interface", function()
    local s <close> = socket.udp()
    local ok, err = pcall(s.setsockopt, s, "IP_ADD_MEMBERSHIP",
      { group = GROUP, interface = "nope0" })
    assert.is_false(ok)
    assert.matches("nope0", tostring(err), 1, true)
  end)
end)

describe("IPV6_JOIN_GROUP", function()
  it("joins a group once, and IPV6_LEAVE_GROUP leaves it", function()
    for _, interface in ipairs { "lo", 1 } do
      local s <close> = socket.udp("inet6")
      local membership = { group = "ff15::77:1", interface = interface }
      s:setsockopt("IPV6_JOIN_GROUP", membership)
      assert.equal("EADDRINUSE",
        net.raises("AddressInUseError", s.setsockopt, s, "IPV6_JOIN_GROUP", membership).code)
      s:setsockopt("IPV6_LEAVE_GROUP", membership)
      assert.equal("EADDRNOTAVAIL",
        net.raises("OSError", s.setsockopt, s, "IPV6_LEAVE_GROUP", membership).code)
    end
  end)
end)

describe("An option", function()
  it("that does not exist is refused, naming the nearest one that does", function()
    local s <close> = socket.tcp()
    local NEAREST = {
      SO_REUSEADR = "SO_REUSEADDR", TCP_NODELY = "TCP_NODELAY", IPV6_V6ONL = "IPV6_V6ONLY",
      SO_KEEP_ALIVE = "SO_KEEPALIVE", REUSEADDR = "SO_REUSEADDR",
    }
    for wrong, right in pairs(NEAREST) do
      for _, call in ipairs { "setsockopt", "getsockopt" } do
        local said = refuses(1, s, call, wrong, true)
        assert.matches("'" .. wrong .. "'", said, 1, true)
        assert.matches("'" .. right .. "'", said, 1, true)
      end
    end
  end)

  it("for blocking calls is not offered", function()
    local s <close> = socket.tcp()
    refuses(1, s, "setsockopt", "SO_RCVTIMEO", 5)
    refuses(1, s, "setsockopt", "SO_SNDTIMEO", 5)
  end)

  it("is named by a string", function()
    local s <close> = socket.tcp()
    refuses(1, s, "setsockopt", 2, true)
    refuses(1, s, "getsockopt", nil)
    refuses(1, s, "getsockopt", {})
  end)

  it("refuses a value of another type", function()
    local s <close> = socket.tcp()
    refuses(2, s, "setsockopt", "SO_REUSEADDR", "yes")
    refuses(2, s, "setsockopt", "SO_REUSEADDR", nil)
    refuses(2, s, "setsockopt", "SO_RCVBUF", true)
    refuses(2, s, "setsockopt", "SO_RCVBUF", "20000 bytes")
    refuses(2, s, "setsockopt", "SO_RCVBUF", 0.5)
    refuses(2, s, "setsockopt", "SO_RCVBUF", 1 << 40)
  end)

  it("is refused by the system with the option's name", function()
    local s <close> = socket.tcp()
    local unix <close> = socket.unix()
    local err = net.raises("OSError", s.setsockopt, s, "IP_TTL", 1000)
    assert.equal("EINVAL", err.code)
    assert.matches("IP_TTL", err.message, 1, true)
    err = net.raises("OSError", unix.setsockopt, unix, "TCP_NODELAY", true)
    assert.matches("TCP_NODELAY", err.message, 1, true)
    assert.equal("string", type(err.code))
    err = net.raises("OSError", unix.getsockopt, unix, "TCP_NODELAY")
    assert.matches("TCP_NODELAY", err.message, 1, true)
  end)
end)

describe("What an option does", function()
  it("SO_REUSEPORT lets two sockets listen on one port", function()
    local first <close> = socket.tcp()
    local second <close> = socket.tcp()
    first:setsockopt("SO_REUSEPORT", true)
    first:bind { host = "127.0.0.1", port = 0 }
    first:listen()
    net.raises("AddressInUseError", second.bind, second, first:getsockname())
    second:setsockopt("SO_REUSEPORT", true)
    second:bind(first:getsockname())
    second:listen()
    assert.same(first:getsockname(), second:getsockname())
  end)

  -- Another program may have the port for IPv4: then there is a next one to try.
  local function listen_on_both()
    local six <close> = socket.tcp("inet6")
    local four <close> = socket.tcp("inet")
    six:setsockopt("IPV6_V6ONLY", true)
    six:bind { port = 0 }
    six:listen()
    four:bind { port = six:getsockname().port }
    four:listen()
    return four:getsockname().host
  end

  it("IPV6_V6ONLY leaves the port free for IPv4", function()
    local ok, host
    for _ = 1, 10 do
      ok, host = moonloop.pcall(listen_on_both)
      if ok then break end
    end
    assert.equal("0.0.0.0", host)
  end)

  it("TCP_NODELAY is set on every Stream, whose socket shows it", function()
    local pair <close> = net.pair()
    for _, stream in ipairs { pair.client, pair.peer } do
      local shown = stream:get_extra_info("socket")
      assert.is_true(shown:getsockopt("TCP_NODELAY"))
      shown:setsockopt("TCP_NODELAY", false)
      assert.is_false(shown:getsockopt("TCP_NODELAY"))
    end
  end)
end)
