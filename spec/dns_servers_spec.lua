-- SPDX-License-Identifier: MIT
-- Which servers look-ups ask: the option `servers` of dns.resolve and dns.set_servers, in every
-- form, which one of several, and what is refused. /etc/resolv.conf is in dns_files_spec.lua.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local resolve, set_servers = moonloop.dns.resolve, moonloop.dns.set_servers

local RECORDS = { { host = "192.0.2.1", ttl = 60 } }

local function restored()
  return moonloop.defer(function() set_servers(nil) end)
end

local function serve(opts)
  return dns_server.start(opts):on("a.test", "A", RECORDS)
end

-- What asks the servers that are set, each in a word.
local CALLS = {
  getaddrinfo = function()
    return moonloop.getaddrinfo("a.test.", 80, { family = "inet" })[1].host
  end,
  ["dns.resolve"] = function() return resolve("a.test")[1].host end,
}

describe("A server", function()
  it("is written host:port or as a table", function()
    local server <close> = serve()
    assert.same(RECORDS, resolve("a.test", "A", { servers = { "127.0.0.1:" .. server.port } }))
    assert.same(RECORDS, resolve("a.test", "A",
      { servers = { { host = "127.0.0.1", port = server.port } } }))
    assert.equal(2, server:count())
  end)

  it("by IPv6 is written [host]:port or as a table", function()
    local server <close> = serve { host = "::1" }
    assert.same(RECORDS, resolve("a.test", "A", { servers = { "[::1]:" .. server.port } }))
    assert.same(RECORDS, resolve("a.test", "A",
      { servers = { { host = "::1", port = server.port } } }))
    assert.equal(2, server:count())
  end)

  it("over IPv6 is asked over TCP, too", function()
    local server <close> = dns_server.start { host = "::1" }
    server:on("a.test", "A", { truncated = true, RECORDS[1] })
    assert.same(RECORDS, resolve("a.test", "A", { servers = { server.address } }))
    assert.equal("tcp", server.queries[2].transport)
  end)

  it("has port 53 where none is written", function()
    local ok, server = pcall(serve, { host = "127.0.53.3", port = 53 })
    if not ok then
      assert.is_true(moonloop.is_error(server, "OSError"), tostring(server))
      return pending("port 53 is not to be had")
    end
    local _ <close> = server
    for _, written in ipairs { "127.0.53.3", { host = "127.0.53.3" } } do
      assert.same(RECORDS, resolve("a.test", "A", { servers = { written } }))
    end
    assert.equal(2, server:count())
  end)
end)

describe("dns.set_servers", function()
  for what, call in pairs(CALLS) do
    it("says whom " .. what .. " asks from then on", function()
      local one <close> = serve()
      local other <close> = serve()
      local _ <close> = restored()
      set_servers { one.address }
      assert.equal("192.0.2.1", call())
      assert.same({ 1, 0 }, { one:count(), other:count() })
      set_servers { { host = other.host, port = other.port } }
      assert.equal("192.0.2.1", call())
      assert.same({ 1, 1 }, { one:count(), other:count() })
    end)

    it("does not touch a " .. what .. " that is under way", function()
      local gate = moonloop.Future()
      local one <close> = dns_server.start()
      local other <close> = serve()
      local _ <close> = restored()
      one:on("a.test", "A", { gate = gate, { host = "192.0.2.9" } })
      set_servers { one.address }
      local task = tasks.start(call)
      set_servers { other.address }
      assert.equal("192.0.2.1", call())
      assert.is_false(task:done())
      gate:set_result()
      assert.equal("192.0.2.9", task:await())
    end)
  end

  it("is overruled by the option of one call", function()
    local one <close> = serve()
    local other <close> = serve()
    local _ <close> = restored()
    set_servers { one.address }
    resolve("a.test", "A", { servers = { other.address } })
    assert.same({ 0, 1 }, { one:count(), other:count() })
  end)

  it("keeps its own copy of the list", function()
    local one <close> = serve()
    local other <close> = serve()
    local _ <close> = restored()
    local list = { one.address }
    set_servers(list)
    list[1] = other.address
    resolve("a.test")
    assert.same({ 1, 0 }, { one:count(), other:count() })
  end)
end)

describe("Of several servers", function()
  local function resolve_by(...)
    local list = { ... }
    for i, server in ipairs(list) do list[i] = server.address or server end
    return resolve("a.test", "A", { servers = list })
  end

  it("the first one is asked, and no other when it answers", function()
    local one <close> = serve()
    local other <close> = serve()
    for _ = 1, 3 do assert.same(RECORDS, resolve_by(one, other)) end
    assert.same({ 3, 0 }, { one:count(), other:count() })
  end)

  it("the next one is asked when one is dead", function()
    local other <close> = serve()
    assert.same(RECORDS, resolve_by(dns_server.dead(), dns_server.dead(), other))
    assert.equal(1, other:count())
  end)

  for _, status in ipairs { "SERVFAIL", "REFUSED", "NOTIMP" } do
    it("the next one is asked when one answers " .. status, function()
      local one <close> = dns_server.start()
      local other <close> = serve()
      one:on("a.test", "A", { rcode = status })
      assert.same(RECORDS, resolve_by(one, other))
      assert.equal(1, other:count())
    end)
  end

  it("the next one is not asked when one says that there is no such name, or record", function()
    local one <close> = dns_server.start()
    local other <close> = serve()
    assert.equal("NXDOMAIN", net.raises("DNSError", resolve_by, one, other).code)
    one:on("a.test", "A", {})
    assert.equal("NODATA", net.raises("DNSError", resolve_by, one, other).code)
    assert.equal(0, other:count())
  end)

  it("all dead are ECONNREFUSED", function()
    local err = net.raises("DNSError", resolve_by, dns_server.dead(), dns_server.dead())
    assert.equal("ECONNREFUSED", err.code)
  end)
end)

local BAD_ENTRIES = {
  "", "a.test", "localhost:53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:dns",
  "127.0.0.1:53 ", "127.0.0", "[::1", "[::1]:", "[::1]53", "[127.0.0.1]x", "127.0.0.1:53,::1",
  "127.0.0.1\0", "127.0.0.1:53\0",
}

local BAD_TABLES = {
  {}, { port = 53 }, { host = "a.test" }, { host = "127.0.0.1", port = 0 },
  { host = "127.0.0.1", port = 65536 }, { host = "127.0.0.1", port = "53" },
  { host = "127.0.0.1", post = 53 }, { host = 1 },
}

describe("Servers that are refused:", function()
  it("what is no list, or an empty one", function()
    for _, bad in ipairs { {}, "127.0.0.1", 53 } do
      net.refuses("bad argument #1 to 'set_servers'", set_servers, bad)
      net.refuses("servers", resolve, "a.test", "A", { servers = bad })
    end
  end)

  it("what is no server, which is named", function()
    for _, bad in ipairs(BAD_ENTRIES) do
      local words = bad:match("^[^\0]*")
      assert.matches(words, net.refuses("bad argument #1 to 'set_servers'", set_servers,
        { "127.0.0.1:53", bad }), 1, true)
      assert.matches(words, net.refuses("bad argument #3 to 'resolve'", resolve, "a.test", "A",
        { servers = { "127.0.0.1:53", bad } }), 1, true)
    end
  end)

  it("a table that is no address", function()
    for _, bad in ipairs(BAD_TABLES) do
      net.refuses("bad argument #1 to 'set_servers'", set_servers, { "127.0.0.1:53", bad })
      net.refuses("bad argument #3 to 'resolve'", resolve, "a.test", "A", { servers = { bad } })
    end
  end)

  it("leave those that were set", function()
    local server <close> = serve():use()
    pcall(set_servers, { "127.0.0.1:9", "garbage" })
    assert.same(RECORDS, resolve("a.test"))
    assert.equal(1, server:count())
  end)
end)
