-- SPDX-License-Identifier: MIT
-- Names with bytes that are written by number, names in answers that are all pointers, localhost
-- on a machine without IPv6, and the two names of a datagram socket.
local command = require "spec.support.command"
local dns_server = require "spec.support.dns_server"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local packet = require "spec.support.dns_packet"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()

-- ---- written by number -------------------------------------------------------

-- The labels of a query's name.
local function labels_of(query)
  local labels, at = {}, 13
  while query.bytes:byte(at) > 0 do
    labels[#labels + 1], at = string.unpack("s1", query.bytes, at)
  end
  return labels
end

-- Name -> the labels that it has.
local NAMES = {
  ["foo\\032bar.test"] = { "foo bar", "test" },
  ["a\\046b.test"] = { "a.b", "test" },
  ["a\\.b.test"] = { "a.b", "test" },
  ["a\\092b.test"] = { "a\\b", "test" },
  ["a\\\\b.test"] = { "a\\b", "test" },
  ["\\255\\001.test"] = { "\255\1", "test" },
  ["a\\0321.test"] = { "a 1", "test" },
}

describe("A name with bytes by number or behind a backslash", function()
  for name, labels in pairs(NAMES) do
    it("is asked for with these bytes: " .. name, function()
      local server <close> = dns_server.start():use()
      tasks.outcome(moonloop.create_task(moonloop.dns.resolve, name, "A"))
      tasks.outcome(moonloop.create_task(moonloop.getaddrinfo, name .. ".", 80))
      assert.equal(3, #server.queries)
      for _, query in ipairs(server.queries) do assert.same(labels, labels_of(query)) end
    end)
  end

  for _, name in ipairs { "a\\", "a\\25b.test", "a\\000b.test", "a\\256b.test", "a.test\\" } do
    it("is none, and nobody is asked, for " .. name, function()
      local server <close> = dns_server.start():use()
      net.raises("DNSError", moonloop.dns.resolve, name, "A")
      net.raises("DNSError", moonloop.getaddrinfo, name, 80)
      assert.equal(0, server:count())
    end)
  end

  it("can be asked for as an answer gave it", function()
    local server <close> = dns_server.start():use()
    server:on("1.2.0.192.in-addr.arpa", "PTR", { { host = "my printer.test" } })
      :on("my printer.test", "A", { { host = "127.0.0.9" } })
    local name = moonloop.dns.resolve("192.0.2.1", "PTR")[1].host
    assert.equal("my\\032printer.test", name)
    assert.equal("127.0.0.9", moonloop.dns.resolve(name, "A")[1].host)
  end)
end)

-- ---- pointers ----------------------------------------------------------------

local POINTER, HEADER = 0xC000, 12

-- An answer to the query for its name, whose owner stands behind `count` pointers, one after the
-- other, in the data of a record of some other type.
local function behind_pointers(count)
  return function(query)
    local question = query.bytes:sub(HEADER + 1, query.bytes:find("\0\0\1\0\1", 13, true) + 4)
    local head = "\0" .. string.pack(">I2I2I4I2", 10, 1, 0, 2 * count)
    local first = HEADER + #question + #head
    local pointers = { string.pack(">I2", POINTER | HEADER) }
    for i = 2, count do pointers[i] = string.pack(">I2", POINTER | first + 2 * (i - 2)) end
    local owner = string.pack(">I2", POINTER | first + 2 * (count - 1))
    return string.pack(">I2I2I2I2I2I2", query.id, 0x8180, 1, 2, 0, 0) .. question .. head
      .. table.concat(pointers) .. owner .. string.pack(">I2I2I4s2", packet.TYPES.A, 1, 7,
        "\127\0\0\9")
  end
end

describe("A name in an answer", function()
  it("may be behind several pointers", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { bytes = behind_pointers(20) })
    assert.equal("127.0.0.9", moonloop.dns.resolve("a.test", "A")[1].host)
  end)

  it("makes the answer BADRESP behind more than a name has parts", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { bytes = behind_pointers(1000) })
    local err = net.raises("DNSError", moonloop.dns.resolve, "a.test", "A")
    assert.equal("BADRESP", err.code)
  end)
end)

-- ---- localhost ---------------------------------------------------------------

-- In a child with a network of its own, which has no IPv6.
local WITHOUT_IPV6 = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && ip link set lo up"

local function run_without_ipv6(code)
  local status = command.run { "unshare", "-rn", "sh", "-c", WITHOUT_IPV6 }
  if status ~= 0 then pending("no network of one's own can be had here") end
  return command.run { "unshare", "-rn", "sh", "-c", WITHOUT_IPV6 .. ' && exec "$0" "$@"',
    script.binary, "-e", code }
end

describe("localhost without IPv6", function()
  it("is 127.0.0.1 first, so that what takes one address works", function()
    local status, out, err = run_without_ipv6 [[
      local moonloop = require "moonloop"
      local hosts = {}
      for _, name in ipairs { "localhost", "www.localhost." } do
        hosts[#hosts + 1] = moonloop.getaddrinfo(name, 80, { type = "stream" })[1].host
      end
      hosts[#hosts + 1] = moonloop.getaddrinfo(nil, 80, { type = "stream" })[1].host
      print(table.concat(hosts, " "))
      local one <close> = moonloop.open_datagram { local_addr = { host = "localhost", port = 0 } }
      local other <close> = moonloop.open_datagram {
        remote_addr = { host = "localhost", port = one:getsockname().port },
      }
      other:send("hello")
      print((one:recv()))
    ]]
    assert.equal("127.0.0.1 127.0.0.1 127.0.0.1\nhello\n", out, err)
    assert.equal(0, status)
  end)
end)

-- ---- datagrams ---------------------------------------------------------------

-- A server that knows names by their families.
local function families()
  local server = dns_server.start():use()
  return server:on("four.test", "A", { { host = "127.0.0.1" } })
    :on("six.test", "AAAA", { { host = "::1" } })
    :on("both.test", "A", { { host = "127.0.0.1" } }):on("both.test", "AAAA", { { host = "::1" } })
end

describe("The two names of a datagram socket", function()
  for _, case in ipairs {
    { "localhost", "four.test", "127.0.0.1" }, { "both.test", "four.test", "127.0.0.1" },
    { "four.test", "both.test", "127.0.0.1" }, { "both.test", "six.test", "::1" },
  } do
    local here, there, host = table.unpack(case)
    it(("meet in a family that both have: %s and %s"):format(here, there), function()
      local server <close> = families()
      local addresses = {
        local_addr = { host = here, port = 0 }, remote_addr = { host = there, port = 9 },
      }
      local stream <close> = moonloop.open_datagram(addresses)
      assert.equal(host, stream:getsockname().host)
      local transport = loop:create_datagram_endpoint(moonloop.DatagramProtocol, addresses)
      assert.equal(host, transport:get_extra_info("sockname").host)
      transport:abort()
      assert.is_true(server:count() > 0)
    end)
  end
end)

describe("DatagramTransport:sendto", function()
  it("takes no name that would have to be asked for", function()
    local server <close> = families()
    local transport = loop:create_datagram_endpoint(moonloop.DatagramProtocol,
      { local_addr = { host = "127.0.0.1", port = 0 } })
    net.refuses("numeric host", function()
      transport:sendto("x", { host = "four.test", port = 9 })
    end)
    transport:sendto("x", { host = "127.0.0.1", port = 9 })
    transport:abort()
    assert.equal(0, server:count("four.test"))
  end)
end)
