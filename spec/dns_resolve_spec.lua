-- SPDX-License-Identifier: MIT
-- moonloop.dns.resolve: the records of every type with all their fields, aliases, names as they are
-- given and told, what the errors say, arguments. What servers do wrong is in dns_faults_spec.lua.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local function ask(server, name, type, opts)
  opts = opts or {}
  opts.servers = { server.address }
  return moonloop.dns.resolve(name, type, opts)
end

-- What the server that has this reply is asked for `type` of a.test gives.
local function told(type, reply, name)
  local server <close> = dns_server.start()
  server:on(name or "a.test", type, reply)
  return ask(server, name or "a.test", type)
end

local function fails(code, server, name, type)
  local err = net.raises("DNSError", ask, server, name, type)
  assert.equal(code, err.code)
  assert.equal(name, err.host)
  return err
end

-- Each with what the server is told to answer, where that isn't what comes out.
local TYPES = {
  A = { { ttl = 60, host = "192.0.2.1" } },
  AAAA = { { ttl = 3600, host = "2001:db8::1:0:0:2" } },
  MX = { { ttl = 0, preference = 10, host = "mail.a.test" } },
  TXT = { { ttl = 86400, text = "v=spf1 -all" } },
  SRV = { { ttl = 7, priority = 1, weight = 65535, port = 5060, host = "sip.a.test" } },
  NS = { { ttl = 172800, host = "ns1.a.test" } },
  PTR = { { ttl = 1, host = "host.a.test" } },
  CNAME = { { ttl = 300, host = "real.a.test" } },
  SOA = { {
    ttl = 2147483647, mname = "ns.a.test", rname = "hostmaster.a.test", serial = 4294967295,
    refresh = 7200, retry = 3600, expire = 1209600, minimum = 3601,
  } },
  CAA = { { ttl = 60, flags = 128, tag = "issue", value = "ca.test; account=1" } },
}

describe("dns.resolve of", function()
  for type, records in pairs(TYPES) do
    it(type .. " gives every field of the record", function()
      local got = told(type, records)
      assert.same(records, got)
      for name, value in pairs(got[1]) do
        if tonumber(value) then assert.equal("integer", math.type(value), name) end
      end
    end)

    it(type .. " gives several records in the order of the answer, each with its ttl", function()
      local several = {}
      for i, ttl in ipairs { 9, 300, 5 } do
        several[i] = setmetatable({ ttl = ttl }, { __index = records[1] })
      end
      if type == "CNAME" or type == "SOA" then several = { several[1] } end -- a name has one
      local got = told(type, several)
      assert.equal(#several, #got)
      for i = 1, #several do assert.equal(several[i].ttl, got[i].ttl) end
    end)
  end

  it("A keeps the order of the hosts", function()
    local hosts = {}
    for i, one in ipairs(told("A", {
      { host = "192.0.2.9" }, { host = "127.0.0.1" }, { host = "192.0.2.1" },
    })) do hosts[i] = one.host end
    assert.same({ "192.0.2.9", "127.0.0.1", "192.0.2.1" }, hosts)
  end)

  it("AAAA writes addresses as inet_ntop does", function()
    for given, written in pairs {
      ["0:0:0:0:0:0:0:1"] = "::1", ["2001:db8:0:0:1:0:0:0"] = "2001:db8:0:0:1::",
      ["::"] = "::", ["::ffff:102:304"] = "::ffff:1.2.3.4",
    } do
      assert.equal(written, told("AAAA", { { host = given } })[1].host)
    end
  end)

  it("TXT joins the strings of a record, whatever bytes they have", function()
    local long = ("x"):rep(255)
    for _, strings in ipairs {
      { "v=1; ", "p=", "abc" }, { "" }, { "", "a", "" }, { "a\0b", "\255\n" }, { long, long, "." },
    } do
      assert.equal(table.concat(strings), told("TXT", { { text = strings } })[1].text)
    end
  end)

  it("TXT keeps records apart", function()
    local got = told("TXT", { { text = { "a", "b" } }, { text = "c" }, { text = { "", "d" } } })
    assert.same({ "ab", "c", "d" }, { got[1].text, got[2].text, got[3].text })
    assert.equal(3, #got)
  end)

  it("CAA gives a value with any bytes, and an empty one", function()
    for _, value in ipairs { "", ";", "a\0b\255" } do
      assert.equal(value, told("CAA", { { flags = 0, tag = "iodef", value = value } })[1].value)
    end
  end)

  it("MX and SRV tell the root as a dot", function()
    assert.equal(".", told("MX", { { preference = 0, host = "." } })[1].host)
    assert.equal(".", told("SRV", { { priority = 0, weight = 0, port = 0, host = "." } })[1].host)
  end)

  it("a type left out asks for A", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { { host = "192.0.2.1", ttl = 5 } })
    assert.same({ { host = "192.0.2.1", ttl = 5 } }, ask(server, "a.test"))
    assert.same({ "a.test A" }, server:asked())
  end)

  it("PTR takes a numeric address, which it reverses", function()
    local server <close> = dns_server.start()
    local six = ("2.0.0.0." .. ("0."):rep(20) .. "8.b.d.0.1.0.0.2.ip6.arpa")
    server:on("4.3.2.192.in-addr.arpa", "PTR", { { host = "four.test" } })
    server:on(six, "PTR", { { host = "six.test" } })
    assert.equal("four.test", ask(server, "192.2.3.4", "PTR")[1].host)
    assert.equal("four.test", ask(server, "4.3.2.192.in-addr.arpa", "PTR")[1].host)
    assert.equal("six.test", ask(server, "2001:db8::2", "PTR")[1].host)
    assert.equal("six.test", ask(server, six, "PTR")[1].host)
  end)

  it("gives 500 records, which come over TCP", function()
    local records = {}
    for i = 1, 500 do records[i] = { ttl = i, host = ("10.0.%d.%d"):format(i // 256, i % 256) } end
    local server <close> = dns_server.start()
    records.truncated = true
    server:on("many.test", "A", records)
    local got = ask(server, "many.test", "A")
    records.truncated = nil
    assert.same(records, got)
  end)
end)

describe("Aliases", function()
  -- A chain of `count` aliases from a0.test on; the last one has an address.
  local function chain(count)
    local records = {}
    for i = 1, count do
      records[i] = { type = "CNAME", name = ("a%d.test"):format(i - 1),
        host = ("a%d.test"):format(i) }
    end
    records[count + 1] = { name = ("a%d.test"):format(count), host = "192.0.2.1", ttl = 9 }
    return records
  end

  it("are followed in the answer", function()
    for _, count in ipairs { 1, 2, 16 } do
      assert.same({ { host = "192.0.2.1", ttl = 9 } }, told("A", chain(count), "a0.test"))
    end
  end)

  it("are followed in whatever order they come", function()
    local records = chain(4)
    for i = 1, #records // 2 do
      records[i], records[#records - i + 1] = records[#records - i + 1], records[i]
    end
    assert.same({ { host = "192.0.2.1", ttl = 9 } }, told("A", records, "a0.test"))
  end)

  it("are followed for types other than addresses", function()
    assert.same({ { preference = 5, host = "mail.test", ttl = 60 } }, told("MX", {
      { type = "CNAME", host = "b.test" }, { name = "b.test", preference = 5, host = "mail.test" },
    }))
  end)

  it("are the records themselves when CNAME is asked for", function()
    assert.same({ { host = "b.test", ttl = 60 } }, told("CNAME", {
      { host = "b.test" }, { type = "A", name = "b.test", host = "192.0.2.1" },
    }))
  end)

  it("are compared without regard to case", function()
    local got = told("A", {
      { type = "CNAME", name = "A.Test", host = "B.TEST" }, { name = "b.test", host = "192.0.2.1" },
    })
    assert.equal("192.0.2.1", got[1].host)
  end)

  it("that more than 16 form are BADRESP", function()
    local server <close> = dns_server.start()
    server:on("a0.test", "A", chain(17))
    fails("BADRESP", server, "a0.test", "A")
  end)

  it("to a name without such a record are NODATA", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { { type = "CNAME", host = "b.test" } })
    fails("NODATA", server, "a.test", "A")
  end)

  it("do not make records of other names ours", function()
    assert.same({ { host = "192.0.2.1", ttl = 60 } }, told("A", {
      { name = "evil.test", host = "203.0.113.1" }, { host = "192.0.2.1" },
      { name = "b.a.test", host = "203.0.113.2" },
    }))
    local server <close> = dns_server.start()
    server:on("a.test", "A", { { name = "evil.test", host = "203.0.113.1" } })
    fails("NODATA", server, "a.test", "A")
  end)
end)

describe("A name that dns.resolve is given", function()
  it("is asked for as it is: no search domain, no hosts file, no localhost", function()
    local server <close> = dns_server.start()
    server:on("localhost", "A", { { host = "192.0.2.7" } })
    assert.equal("192.0.2.7", ask(server, "localhost", "A")[1].host)
    fails("NXDOMAIN", server, "host", "A")
    assert.same({ "localhost A", "host A" }, server:asked())
  end)

  it("may end in a dot, may have capitals, underscores and hyphens", function()
    local server <close> = dns_server.start()
    server:on("_sip._tcp.a-b.test", "SRV",
      { { priority = 1, weight = 2, port = 3, host = "x.test" } })
    for _, name in ipairs { "_sip._tcp.a-b.test", "_sip._tcp.a-b.test.", "_SIP._tcp.A-B.Test" } do
      assert.equal("x.test", ask(server, name, "SRV")[1].host, name)
    end
  end)

  it("may be the root", function()
    local server <close> = dns_server.start()
    server:on(".", "NS", { { host = "a.root.test" } })
    assert.equal("a.root.test", ask(server, ".", "NS")[1].host)
  end)

  it("may have labels of 63 bytes and 253 in all", function()
    local label = ("a"):rep(63)
    local name = ("%s.%s.%s.%s"):format(label, label, label, label:sub(1, 61))
    assert.equal(253, #name)
    assert.equal("192.0.2.1", told("A", { { host = "192.0.2.1" } }, name)[1].host)
  end)

  for what, name in pairs {
    ["a label of 64 bytes"] = ("a"):rep(64) .. ".test", ["more than 255 bytes"] = ("a."):rep(128),
    ["an empty label"] = "a..test", ["a dot in front"] = ".a.test", ["a zero byte"] = "a.test\0.b",
    ["nothing"] = "",
  } do
    it("that cannot be one (" .. what .. ") is an error, and nobody is asked", function()
      local server <close> = dns_server.start()
      server:on("a.test", "A", { { host = "192.0.2.1" } })
      local ok, err = pcall(ask, server, name, "A")
      assert.is_false(ok)
      assert.is_true(type(err) == "string" or moonloop.is_error(err, "DNSError"))
      assert.equal(0, server:count())
    end)
  end
end)

describe("An error of dns.resolve", function()
  it("is a DNSError that names the host, the type and the status", function()
    local server <close> = dns_server.start()
    server:on("here.test", "A", { { host = "192.0.2.1" } })
    local err = fails("NXDOMAIN", server, "nosuch.example", "MX")
    assert.equal("resolve nosuch.example MX: NXDOMAIN (no such name)", err.message)
    assert.equal("DNSError: " .. err.message, tostring(err))
    err = fails("NODATA", server, "here.test", "MX")
    assert.matches("^resolve here.test MX: NODATA", err.message)
  end)
end)

describe("A task in dns.resolve", function()
  it("says so", function()
    local server <close> = dns_server.start()
    server:on("example.com", "MX", { silent = true })
    local task = tasks.start(ask, server, "example.com", "MX")
    assert.equal("resolve example.com MX", task:awaiting())
    tasks.cancel(task)
  end)
end)

describe("Arguments of dns.resolve that are refused:", function()
  local function refused(what, ...)
    return net.refuses(what, moonloop.dns.resolve, ...)
  end

  it("a name that is no string", function()
    refused("bad argument #1 to 'resolve'")
    refused("bad argument #1 to 'resolve'", {}, "A")
  end)

  it("an unknown type, with the nearest known one", function()
    assert.matches("SRV", refused("bad argument #2 to 'resolve'", "a.test", "SRVV"))
    refused("bad argument #2 to 'resolve'", "a.test", 1)
  end)

  it("an unknown option, with the nearest known one", function()
    assert.matches("'servers'",
      refused("bad argument #3 to 'resolve'", "a.test", "A", { server = { "127.0.0.1" } }))
    refused("bad argument #3 to 'resolve'", "a.test", "A", { family = "inet" })
    refused("bad argument #3 to 'resolve'", "a.test", "A", "127.0.0.1")
  end)

  it("a timeout that is no positive number", function()
    for _, timeout in ipairs { 0, -1, 0 / 0, "1" } do
      refused("timeout", "a.test", "A", { servers = { "127.0.0.1:9" }, timeout = timeout })
    end
  end)
end)
