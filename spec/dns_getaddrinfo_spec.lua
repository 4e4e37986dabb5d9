-- SPDX-License-Identifier: MIT
-- moonloop.getaddrinfo: what it gives for names, numbers, localhost and nothing, by family, type,
-- in which order, and with which services; whom it asks; its errors; that python3's socket says the
-- same where no server is asked. Flags are in dns_flags_spec.lua, files and search domains in
-- dns_files_spec.lua.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local getaddrinfo = moonloop.getaddrinfo

-- Names end in a dot here, so that no search domain of this machine comes in.

-- The hosts of a list, each once, in order.
local function hosts_of(list)
  local hosts, seen = {}, {}
  for _, one in ipairs(list) do
    if not seen[one.host] then hosts[#hosts + 1] = one.host end
    seen[one.host] = true
  end
  return hosts
end

-- An entry in a word: "::1 80 inet6 stream 6".
local function word(one)
  return ("%s %d %s %s %d"):format(one.host, one.port, one.family, one.type, one.proto)
end

local function words(list)
  local all = {}
  for i, one in ipairs(list) do all[i] = word(one) end
  return all
end

local function server_with(name, four, six)
  local server = dns_server.start():use()
  local function records(hosts)
    local list = {}
    for i, host in ipairs(hosts or {}) do list[i] = { host = host } end
    return list
  end
  return server:on(name, "A", records(four)):on(name, "AAAA", records(six))
end

local function fails(code, ...)
  local err = net.raises("DNSError", getaddrinfo, ...)
  assert.equal(code, err.code)
  assert.equal((...), err.host)
  return err
end

describe("getaddrinfo of a name", function()
  it("gives each address as a stream and as datagrams", function()
    local server <close> = server_with("a.test", { "127.0.0.1" }, { "::1" })
    assert.same({
      { family = "inet6", type = "stream", proto = 6, host = "::1", port = 80 },
      { family = "inet6", type = "dgram", proto = 17, host = "::1", port = 80 },
      { family = "inet", type = "stream", proto = 6, host = "127.0.0.1", port = 80 },
      { family = "inet", type = "dgram", proto = 17, host = "127.0.0.1", port = 80 },
    }, getaddrinfo("a.test.", 80))
    assert.equal(2, server:count())
  end)

  it("gives those of the type or the protocol that was asked for", function()
    local server <close> = server_with("a.test", { "127.0.0.1" })
    for _, opts in ipairs { { type = "stream" }, { proto = 6 }, { proto = "tcp" },
      { type = "stream", proto = "tcp" } } do
      assert.same({ "127.0.0.1 80 inet stream 6" }, words(getaddrinfo("a.test.", 80, opts)))
    end
    for _, opts in ipairs { { type = "dgram" }, { proto = 17 }, { proto = "udp" },
      { type = "dgram", proto = 17 } } do
      assert.same({ "127.0.0.1 80 inet dgram 17" }, words(getaddrinfo("a.test.", 80, opts)))
    end
    assert.equal(16, server:count())
  end)

  it("asks for both families at once", function()
    local server <close> = dns_server.start():use()
    local gate = moonloop.Future()
    server:on("a.test", "A", { gate = gate, { host = "127.0.0.1" } })
    server:on("a.test", "AAAA", { gate = gate, { host = "::1" } })
    local task = tasks.start(getaddrinfo, "a.test.", 80)
    local asked = server:asked()
    table.sort(asked)
    assert.same({ "a.test A", "a.test AAAA" }, asked)
    gate:set_result()
    assert.same({ "::1", "127.0.0.1" }, hosts_of(task:await()))
  end)

  it("waits for the slower family", function()
    for _, slow in ipairs { "A", "AAAA" } do
      local server <close> = server_with("a.test", { "127.0.0.1" }, { "::1" })
      local gate = moonloop.Future()
      server:on("a.test", slow, { gate = gate, { host = slow == "A" and "127.0.0.1" or "::1" } })
      local task = tasks.start(getaddrinfo, "a.test.", 80)
      assert.is_false(task:done())
      gate:set_result()
      assert.same({ "::1", "127.0.0.1" }, hosts_of(task:await()))
    end
  end)

  it("asks for one family only where one is wanted", function()
    for family, case in pairs { inet = { "A", "127.0.0.1" }, inet6 = { "AAAA", "::1" } } do
      local server <close> = server_with("a.test", { "127.0.0.1" }, { "::1" })
      assert.same({ case[2] }, hosts_of(getaddrinfo("a.test.", 80, { family = family })))
      assert.same({ "a.test " .. case[1] }, server:asked())
    end
  end)

  it("gives one family where the other one has no address, or fails", function()
    for _, other in ipairs { {}, { rcode = "SERVFAIL" }, { rcode = "NOTIMP" } } do
      local server <close> = server_with("a.test", { "127.0.0.1" })
      server:on("a.test", "AAAA", other)
      assert.same({ "127.0.0.1" }, hosts_of(getaddrinfo("a.test.", 80)))
    end
  end)

  it("is EAI_NONAME when it has no address of the family that is wanted", function()
    local server <close> = server_with("six.test", nil, { "::1" })
    fails("EAI_NONAME", "six.test.", 80, { family = "inet" })
    assert.same({ "six.test A" }, server:asked())
  end)

  it("follows aliases, also into another answer's addresses", function()
    local server <close> = dns_server.start():use()
    local alias = { type = "CNAME", host = "b.test" }
    server:on("a.test", "A", { alias, { name = "b.test", host = "127.0.0.1" } })
    server:on("a.test", "AAAA", { alias, { name = "b.test", host = "::1" } })
    assert.same({ "::1", "127.0.0.1" }, hosts_of(getaddrinfo("a.test.", 80)))
  end)

  it("takes capitals, and is a method of the loop, too", function()
    local server <close> = server_with("a.test", { "127.0.0.1" })
    local loop = moonloop.get_running_loop()
    assert.same({ "127.0.0.1" }, hosts_of(loop:getaddrinfo("A.Test.", 80)))
    assert.equal(2, server:count())
  end)

  it("tells a task that waits what it waits for", function()
    local server <close> = dns_server.start():use()
    server:on("example.com", "A", { silent = true }):on("example.com", "AAAA", { silent = true })
    local task = tasks.start(getaddrinfo, "example.com", 80)
    assert.equal("getaddrinfo example.com", task:awaiting())
    tasks.cancel(task)
  end)
end)

describe("The order of addresses", function()
  it("has ::1 before 127.0.0.1, however they come", function()
    local server <close> = server_with("a.test", { "127.0.0.1" }, { "::1" })
    for _ = 1, 3 do assert.same({ "::1", "127.0.0.1" }, hosts_of(getaddrinfo("a.test.", 80))) end
    assert.equal(6, server:count())
  end)

  it("has near addresses before far ones, or ones that can't be reached", function()
    local server <close> = server_with("a.test", { "192.0.2.1", "127.0.0.1", "198.51.100.1" })
    assert.equal("127.0.0.1", getaddrinfo("a.test.", 80, { family = "inet" })[1].host)
    server:on("b.test", "AAAA", { { host = "2001:db8::1" }, { host = "::1" } })
    assert.equal("::1", getaddrinfo("b.test.", 80, { family = "inet6" })[1].host)
  end)

  it("is that of the answer where nothing speaks for one of them", function()
    for _, hosts in ipairs { { "127.0.0.3", "127.0.0.2" }, { "127.0.0.2", "127.0.0.3" } } do
      local server <close> = server_with("a.test", hosts)
      assert.same(hosts, hosts_of(getaddrinfo("a.test.", 80)))
      assert.equal(2, server:count())
    end
  end)
end)

describe("getaddrinfo of what asks nobody:", function()
  local function asks_nobody(fn)
    local server <close> = dns_server.start():use()
    fn()
    assert.equal(0, server:count())
  end

  it("numeric hosts", function()
    asks_nobody(function()
      assert.same({ "127.0.0.1 1 inet stream 6" },
        words(getaddrinfo("127.0.0.1", 1, { type = "stream" })))
      assert.same({ "2001:db8::1 1 inet6 dgram 17" },
        words(getaddrinfo("2001:DB8:0:0::1", 1, { type = "dgram" })))
    end)
  end)

  it("numeric hosts of the other family, EAI_FAMILY", function()
    asks_nobody(function()
      local err = fails("EAI_FAMILY", "127.0.0.1", 80, { family = "inet6" })
      assert.equal("getaddrinfo 127.0.0.1: no address of family inet6", err.message)
      fails("EAI_FAMILY", "::1", 80, { family = "inet" })
    end)
  end)

  it("localhost and what ends in it", function()
    asks_nobody(function()
      for _, name in ipairs { "localhost", "LocalHost", "localhost.", "a.b.localhost" } do
        assert.same({ "::1", "127.0.0.1" }, hosts_of(getaddrinfo(name, 80)), name)
      end
      assert.same({ "127.0.0.1" }, hosts_of(getaddrinfo("localhost", 80, { family = "inet" })))
      assert.same({ "::1" }, hosts_of(getaddrinfo("localhost", 80, { family = "inet6" })))
    end)
  end)

  it("no host: this machine, or any address of it with AI_PASSIVE", function()
    asks_nobody(function()
      local loopback, any = hosts_of(getaddrinfo(nil, 80)),
        hosts_of(getaddrinfo(nil, 80, { flags = { "AI_PASSIVE" } }))
      assert.same({ "::1", "127.0.0.1" }, loopback)
      assert.same({ "::", "0.0.0.0" }, any)
    end)
  end)

  for what, name in pairs {
    ["a label of 64 bytes"] = ("a"):rep(64) .. ".test", ["more than 255 bytes"] = ("a."):rep(128),
    ["an empty label"] = "a..test", ["a dot in front"] = ".a.test", ["nothing"] = "",
  } do
    it("names that cannot be, EAI_NONAME (" .. what .. ")", function()
      asks_nobody(function() fails("EAI_NONAME", name, 80) end)
    end)
  end

  it("names with a zero byte, which are not taken for their beginning", function()
    asks_nobody(function()
      for _, name in ipairs { "localhost\0.test", "127.0.0.1\0", "a.test\0b" } do
        local ok, err = pcall(getaddrinfo, name, 80)
        assert.is_false(ok, name)
        assert.is_true(type(err) == "string" or err.code == "EAI_NONAME", tostring(err))
      end
    end)
  end)
end)

describe("The service of getaddrinfo", function()
  local function port_of(service, opts)
    return getaddrinfo("127.0.0.1", service, opts)[1].port
  end

  it("is a number, its digits, or none, which is port 0", function()
    for service, port in pairs { [0] = 0, [65535] = 65535, ["8080"] = 8080, ["0"] = 0 } do
      assert.equal(port, port_of(service))
    end
    assert.equal(0, port_of(nil))
  end)

  it("may be a name, with which each type has its own port", function()
    if not io.open("/etc/services") then return pending("there is no /etc/services") end
    assert.equal(80, port_of("http", { type = "stream" }))
    assert.equal(53, port_of("domain", { type = "dgram" }))
    assert.equal(2, #getaddrinfo("127.0.0.1", "domain"))
  end)

  it("that nobody knows is EAI_SERVICE", function()
    local err = fails("EAI_SERVICE", "127.0.0.1", "nosuchservice")
    assert.matches("Servname not supported for ai_socktype", err.message, 1, true)
    local server <close> = server_with("a.test", { "127.0.0.1" })
    fails("EAI_SERVICE", "a.test.", "nosuchservice")
    assert.is_true(server:count() <= 2)
  end)
end)

describe("python3's socket", function()
  local SCRIPT = [[
import socket, sys
for line in sys.argv[1:]:
    host, service, family, type, flags = line.split()
    host, service = host if host != "-" else None, service if service != "-" else None
    try:
        found = socket.getaddrinfo(host, service, getattr(socket, "AF_" + family),
            getattr(socket, "SOCK_" + type), 0, int(flags))
    except socket.gaierror as error:
        names = {getattr(socket, n): n for n in dir(socket) if n.startswith("EAI_")}
        print(line, "=", names[error.errno])
        continue
    print(line, "=", ", ".join("%s %d %s %s %d" % (a[0], a[1], f.name[3:].lower(),
        t.name[5:].lower(), p) for f, t, p, c, a in found))
]]
  local FLAGS = { AI_PASSIVE = 1, AI_CANONNAME = 2, AI_NUMERICHOST = 4, AI_V4MAPPED = 8,
    AI_ALL = 16, AI_NUMERICSERV = 1024 }
  local CASES = {
    "127.0.0.1 80 INET STREAM", "127.0.0.1 80 UNSPEC DGRAM", "1.2.3.4 http UNSPEC STREAM",
    "1.2.3.4 domain UNSPEC DGRAM", "::1 65535 INET6 STREAM", "::1 0 UNSPEC STREAM",
    "2001:DB8::0:1 - UNSPEC STREAM", "::ffff:1.2.3.4 1 UNSPEC STREAM", ":: 1 UNSPEC DGRAM",
    "1:2:3:4:5:6:7:8 1 UNSPEC STREAM", "::ffff:1.2.3.4 1 INET6 STREAM",
    "- 80 INET STREAM", "- 80 INET6 STREAM", "- 80 INET STREAM AI_PASSIVE",
    "- 80 INET6 DGRAM AI_PASSIVE", "127.0.0.1 80 UNSPEC STREAM AI_PASSIVE",
    "127.0.0.1 80 UNSPEC STREAM AI_NUMERICHOST", "a.test 80 UNSPEC STREAM AI_NUMERICHOST",
    "localhost 80 INET STREAM AI_NUMERICHOST", "127.0.0.1 80 INET STREAM AI_NUMERICSERV",
    "127.0.0.1 http INET STREAM AI_NUMERICSERV", "127.0.0.1 nosuchservice UNSPEC STREAM",
    "1.2.3.4 80 INET6 STREAM AI_V4MAPPED", "1.2.3.4 80 INET6 STREAM AI_V4MAPPED+AI_ALL",
    "1.2.3.4 80 UNSPEC STREAM AI_V4MAPPED", "::1 80 INET6 STREAM AI_V4MAPPED",
    "localhost 80 INET STREAM", "localhost http INET DGRAM AI_NUMERICSERV",
  }

  local function number_of(flags)
    local sum = 0
    for flag in flags:gmatch("AI_%w+") do sum = sum + FLAGS[flag] end
    return sum
  end

  local function ours(case)
    local host, service, family, type, flags = case:match("(%S+) (%S+) (%S+) (%S+) ?(%S*)")
    local opts = { type = type:lower(), flags = {} }
    if family ~= "UNSPEC" then opts.family = family:lower() end
    for flag in flags:gmatch("AI_%w+") do table.insert(opts.flags, flag) end
    local ok, list = pcall(getaddrinfo, host ~= "-" and host or nil,
      service ~= "-" and service or nil, opts)
    local answer = ok and table.concat(words(list), ", ") or list.code
    return ("%s %s %s %s %d = %s"):format(host, service, family, type, number_of(flags), answer)
  end

  it("agrees about what asks nobody", function()
    if not io.open("/etc/services") then return pending("there is no /etc/services") end
    local argv, expected = { "python3", "-c", SCRIPT }, {}
    for i, case in ipairs(CASES) do
      expected[i] = ours(case)
      argv[i + 3] = expected[i]:match("^(.-) =")
    end
    local status, out, err = command.run(argv)
    assert.equal(0, status, err)
    assert.equal(out, table.concat(expected, "\n") .. "\n")
  end)
end)
