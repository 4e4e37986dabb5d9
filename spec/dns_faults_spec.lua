-- SPDX-License-Identifier: MIT
-- What becomes of a look-up when the DNS server is slow, silent or dead, refuses, cuts its answers
-- short or sends nonsense: the right records or the right error, of dns.resolve and getaddrinfo.
local moonloop = require "moonloop"
local background = require "spec.support.background"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local packet = require "spec.support.dns_packet"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local RECORDS = { { host = "192.0.2.1", ttl = 60 } }
local WRONG = { { host = "203.0.113.66" } }
local LONG = 30 -- seconds, of a look-up that ends for another reason
local SHORT = 0.05 -- seconds, of a look-up that gets no answer

local function ask(server, timeout, type)
  return moonloop.dns.resolve("a.test", type or "A",
    { servers = { server.address }, timeout = timeout or LONG })
end

-- The server answers as `replies` say; then it does right, which is taken.
local function goes_on(server)
  server:on("a.test", "A", RECORDS)
  assert.same(RECORDS, ask(server))
end

-- The code that dns.resolve fails with.
local function code_of(reply, timeout)
  local server <close> = dns_server.start()
  server:on("a.test", "A", reply)
  local err = net.raises("DNSError", ask, server, timeout)
  assert.equal("a.test", err.host)
  assert.matches("resolve a.test A: " .. err.code, err.message, 1, true)
  goes_on(server)
  return err.code
end

-- The code that getaddrinfo fails with, for both families at once; and the error.
local function info_code_of(reply)
  local server <close> = dns_server.start():use()
  server:on("a.test", "A", reply):on("a.test", "AAAA", reply)
  local err = net.raises("DNSError", moonloop.getaddrinfo, "a.test.", 80)
  assert.matches("^getaddrinfo a.test", err.message)
  server:on("a.test", "A", RECORDS):on("a.test", "AAAA", {})
  assert.equal("192.0.2.1", moonloop.getaddrinfo("a.test.", 80)[1].host)
  return err.code, err
end

-- A reply that comes after another one, which must not be taken.
local function after(early)
  return { before = { early }, RECORDS[1] }
end

-- A packet made by `change` of the right reply's query and bytes.
local function packet_of(change)
  return { bytes = function(query) return change(query, packet.reply(query, RECORDS)) end }
end

describe("A DNS server that is slow", function()
  it("is waited for", function()
    local server <close> = dns_server.start()
    local gate = moonloop.Future()
    server:on("a.test", "A", { gate = gate, RECORDS[1] })
    local task = tasks.start(ask, server)
    assert.is_false(task:done())
    assert.equal(1, server:count())
    gate:set_result()
    assert.same(RECORDS, task:await())
  end)

  it("holds up no other look-up", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { silent = true }, RECORDS)
    local slow = tasks.start(ask, server)
    server:on("b.test", "A", RECORDS)
    assert.same(RECORDS, moonloop.dns.resolve("b.test", "A", { servers = { server.address } }))
    assert.is_false(slow:done())
    assert.is_true(tasks.cancel(slow))
  end)

  it("may answer too late, which does no harm", function()
    local server <close> = dns_server.start()
    local gate = moonloop.Future()
    server:on("a.test", "A", { gate = gate, WRONG[1] })
    assert.equal("ETIMEOUT", net.raises("DNSError", ask, server, SHORT).code)
    server:on("a.test", "A", { silent = true })
    local task = tasks.start(ask, server)
    gate:set_result()
    wait_all_blocked()
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
    goes_on(server)
  end)
end)

-- One that answers a single query, after a fifth of a second, in a process of its own.
local SLOW = [[
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print("port", s.getsockname()[1], flush=True)
query, client = s.recvfrom(512)
time.sleep(0.2)
record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1"
s.sendto(query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12:] + record, client)
]]

describe("A look-up", function()
  it("holds the virtual clock back", function()
    local python <close> = background.start({ "python3", "-c", SLOW }, "port (%d+)")
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
    local sleeper = moonloop.create_task(moonloop.sleep, 1000)
    local got = moonloop.dns.resolve("a.test", "A", { servers = { "127.0.0.1:" .. python.found } })
    assert.same(RECORDS, got)
    assert.is_false(sleeper:done())
    tasks.cancel(sleeper)
  end)
end)

describe("A query that is lost", function()
  it("is sent again, in time", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { silent = true }, RECORDS)
    assert.same(RECORDS, ask(server, 1.5))
    assert.is_true(server:count() > 1)
  end)

  it("is sent to the next server, in time", function()
    local one <close> = dns_server.start()
    local other <close> = dns_server.start()
    one:on("a.test", "A", { silent = true })
    other:on("a.test", "A", RECORDS)
    assert.same(RECORDS, moonloop.dns.resolve("a.test", "A",
      { servers = { one.address, other.address }, timeout = 1.5 }))
  end)
end)

describe("A DNS server that says nothing", function()
  it("is ETIMEOUT when `timeout` has passed", function()
    assert.equal("ETIMEOUT", code_of({ silent = true }, SHORT))
  end)

  it("is so over TCP", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { truncated = true }, { silent = true })
    assert.equal("ETIMEOUT", net.raises("DNSError", ask, server, 0.5).code)
    assert.equal("tcp", server.queries[2].transport)
    goes_on(server)
  end)

  it("gets `timeout` once for all servers", function()
    local one <close> = dns_server.start()
    local other <close> = dns_server.start()
    for _, server in ipairs { one, other } do server:on("a.test", "A", { silent = true }) end
    local err = net.raises("DNSError", moonloop.dns.resolve, "a.test", "A",
      { servers = { one.address, other.address }, timeout = SHORT })
    assert.equal("ETIMEOUT", err.code)
  end)
end)

describe("A DNS server that is not there", function()
  it("is ECONNREFUSED, and EAI_AGAIN with the cause", function()
    local server = dns_server.start()
    server:close()
    assert.equal("ECONNREFUSED", net.raises("DNSError", ask, server).code)
    moonloop.dns.set_servers { server.address }
    local _ <close> = moonloop.defer(function() moonloop.dns.set_servers(nil) end)
    local err = net.raises("DNSError", moonloop.getaddrinfo, "a.test", 80)
    assert.equal("EAI_AGAIN", err.code)
    assert.equal("a.test", err.host)
    assert.matches("^getaddrinfo a.test: Temporary failure in name resolution %(.+%)$",
      err.message)
  end)

  it("over TCP alone is ECONNREFUSED", function()
    local server <close> = dns_server.start { tcp = false }
    server:on("a.test", "A", { truncated = true })
    assert.equal("ECONNREFUSED", net.raises("DNSError", ask, server).code)
    goes_on(server)
  end)
end)

describe("A truncated answer", function()
  it("is asked for again over TCP, which gives all", function()
    local server <close> = dns_server.start()
    local records = { truncated = true }
    for i = 1, 40 do records[i] = { host = "192.0.2." .. i, ttl = i } end
    server:on("a.test", "A", records)
    local got = ask(server)
    records.truncated = nil
    assert.same(records, got)
    assert.equal("udp", server.queries[1].transport)
    assert.equal("tcp", server.queries[2].transport)
    assert.equal(2, #server.queries)
  end)

  it("of which a part is there is not taken for the whole", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", packet_of(function(_, bytes)
      return bytes:sub(1, 2) .. string.char(bytes:byte(3) | 2) .. bytes:sub(4)
    end), { RECORDS[1], { host = "192.0.2.2", ttl = 1 } })
    assert.equal(2, #ask(server))
    assert.equal(2, server:count())
  end)

  it("is read from TCP also when it comes byte by byte", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { truncated = true, tcp = "pieces", RECORDS[1] })
    assert.same(RECORDS, ask(server))
  end)

  it("is asked for over TCP for both families of getaddrinfo", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { truncated = true, RECORDS[1] })
    server:on("a.test", "AAAA", { truncated = true, { host = "2001:db8::1" } })
    local hosts = {}
    for _, one in ipairs(moonloop.getaddrinfo("a.test", 80)) do hosts[one.host] = true end
    assert.same({ ["192.0.2.1"] = true, ["2001:db8::1"] = true }, hosts)
    assert.equal(4, server:count())
  end)

  for _, how in ipairs { "close", "reset", "short" } do
    it("whose TCP connection ends early (" .. how .. ") is an error", function()
      local code = code_of { truncated = true, tcp = how, RECORDS[1] }
      assert.is_true(code == "ECONNREFUSED" or code == "BADRESP", code)
    end)
  end

  it("keeps its status over TCP", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { truncated = true }, { rcode = "NXDOMAIN" })
    assert.equal("NXDOMAIN", net.raises("DNSError", ask, server).code)
  end)
end)

local STATUS = {
  NXDOMAIN = "EAI_NONAME", NODATA = "EAI_NONAME", SERVFAIL = "EAI_AGAIN", REFUSED = "EAI_FAIL",
  FORMERR = "EAI_FAIL", NOTIMP = "EAI_FAIL",
}

local WORDS = {
  EAI_NONAME = "getaddrinfo a.test.: Name or service not known",
  EAI_AGAIN = "getaddrinfo a.test.: Temporary failure in name resolution",
  EAI_FAIL = "getaddrinfo a.test.: Non-recoverable failure in name resolution",
}

for status, code in pairs(STATUS) do
  describe("A DNS server that answers " .. status, function()
    local reply = status == "NODATA" and {} or { rcode = status }

    it("is that code of dns.resolve", function()
      assert.equal(status, code_of(reply))
    end)

    it("is " .. code .. " of getaddrinfo, with its words", function()
      local got, err = info_code_of(reply)
      assert.equal(code, got)
      assert.equal("a.test.", err.host)
      assert.equal(WORDS[code], err.message:sub(1, #WORDS[code]))
    end)
  end)
end

describe("Aliases in a circle", function()
  local function circle(...)
    local records, names = {}, { ... }
    for i, name in ipairs(names) do
      records[i] = { type = "CNAME", name = name, host = names[i + 1] or names[1] }
    end
    return records
  end

  for what, reply in pairs {
    ["of one"] = circle("a.test"), ["of two"] = circle("a.test", "b.test"),
    ["of ten"] = circle("a.test", "b", "c", "d", "e", "f", "g", "h", "i", "j"),
  } do
    it(what .. " are BADRESP, and EAI_FAIL", function()
      assert.equal("BADRESP", code_of(reply))
      assert.equal("EAI_FAIL", (info_code_of(reply)))
    end)
  end

  it("that a name leads into are BADRESP", function()
    local records = circle("b.test", "c.test")
    table.insert(records, 1, { type = "CNAME", host = "b.test" })
    assert.equal("BADRESP", code_of(records))
  end)
end)

-- What comes before the right answer, and leaves it to be waited for.
local NOT_OURS = {
  ["with a wrong id"] = packet_of(function(query)
    return packet.reply({ id = query.id ~ 1, name = query.name, type = query.type }, WRONG)
  end),
  ["to another name"] = { question = { name = "b.test", type = "A" }, WRONG[1] },
  ["to another type"] = { question = { name = "a.test", type = "AAAA" }, WRONG[1] },
  ["from another port"] = { source = "other", WRONG[1] },
  ["of no byte"] = { bytes = "" },
  ["of eleven bytes"] = packet_of(function(_, bytes) return bytes:sub(1, 11) end),
  ["of random bytes"] = { bytes = ("\19\201\77\0\255\128\3"):rep(20) },
}

for what, early in pairs(NOT_OURS) do
  describe("A packet " .. what, function()
    it("is no answer: the right one after it is taken", function()
      local server <close> = dns_server.start()
      server:on("a.test", "A", after(early))
      assert.same(RECORDS, ask(server))
      assert.equal(1, server:count())
    end)

    it("alone is ETIMEOUT", function()
      assert.equal("ETIMEOUT", code_of(early, SHORT))
    end)
  end)
end

-- The answer section of a reply with the right header and question, and these bytes in it.
local function answer_of(bytes, count)
  return { bytes = function(query)
    return packet.reply(query, { count = count or 1 }) .. bytes
  end }
end

local HEAD = "\xC0\x0C\0\1\0\1\0\0\0\60"

local GARBAGE = {
  ["records that are not there"] = { count = 3, RECORDS[1] },
  ["65,535 records that are not there"] = { count = 65535, RECORDS[1] },
  ["random bytes for records"] = answer_of(("\19\201\77\0\255\128\3"):rep(20), 4),
  ["a record that is cut off"] = answer_of(HEAD:sub(1, 7)),
  ["a record of more bytes than there are"] = { { data = "\192\0\2\1", size = 500 } },
  ["an address of three bytes"] = { { data = "\192\0\2" } },
  ["an address of five bytes"] = { { data = "\192\0\2\1\1" } },
  ["a name that points to itself"] = answer_of("\xC0\x18\0\1\0\1\0\0\0\60\0\4\1\2\3\4"),
  ["names that point to each other"] =
    answer_of("\xC0\x1A\xC0\x18\0\1\0\1\0\0\0\60\0\4\1\2\3\4"),
  ["a name that points out of the packet"] = answer_of("\xFF\xFF\0\1\0\1\0\0\0\60\0\4\1\2\3\4"),
  ["a label of an unknown kind"] = answer_of("\x81a\0\0\1\0\1\0\0\0\60\0\4\1\2\3\4"),
  ["a name without end"] = answer_of("\63" .. ("a"):rep(20)),
}

for what, reply in pairs(GARBAGE) do
  describe("An answer with " .. what, function()
    it("is BADRESP, and EAI_FAIL", function()
      assert.equal("BADRESP", code_of(reply))
      assert.equal("EAI_FAIL", (info_code_of(reply)))
    end)
  end)
end

describe("An answer with a broken record", function()
  for what, case in pairs {
    ["of a MX that has no host"] = { "MX", "\0\10" },
    ["of a MX whose host points to itself"] = { "MX", "\0\10\xC0\x26" },
    ["of a TXT whose string is longer than it"] = { "TXT", "\200abc" },
    ["of a SRV of five bytes"] = { "SRV", "\0\1\0\1\0" },
    ["of a SOA that ends after its names"] = { "SOA", "\0\0\0\0\0\1" },
    ["of a CAA whose tag is longer than it"] = { "CAA", "\0\60issue" },
    ["of a CAA of one byte"] = { "CAA", "\0" },
    ["of a NS of no byte"] = { "NS", "" },
    ["of an AAAA of four bytes"] = { "AAAA", "\1\2\3\4" },
  } do
    it(what .. " is BADRESP", function()
      local server <close> = dns_server.start()
      server:on("a.test", case[1], { { data = case[2] } })
      assert.equal("BADRESP", net.raises("DNSError", ask, server, nil, case[1]).code)
      goes_on(server)
    end)
  end
end)

describe("A server that sends the query back", function()
  it("has not answered", function()
    local code = code_of({ bytes = function(query) return query.bytes end }, SHORT)
    assert.is_true(code == "ETIMEOUT" or code == "BADRESP", code)
  end)
end)

describe("The ids of queries", function()
  it("can't be told in advance", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", RECORDS)
    for _ = 1, 12 do ask(server) end
    local steps = {}
    for i = 2, 12 do
      steps[#steps + 1] = (server.queries[i].id - server.queries[i - 1].id) % 65536
    end
    local alike = 0
    for i = 2, #steps do alike = alike + (steps[i] == steps[1] and 1 or 0) end
    assert.is_true(alike < 5, table.concat(steps, " "))
  end)
end)
