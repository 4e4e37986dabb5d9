-- SPDX-License-Identifier: MIT
-- The flags of moonloop.getaddrinfo, and which arguments it refuses.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"

local getaddrinfo = moonloop.getaddrinfo

-- A server with two names: four.test has an IPv4 address, both.test one of either family; six.test
-- has an IPv6 one, and alias.test is another name of four.test.
local function serve()
  local server = dns_server.start():use()
  local four, six = { { host = "127.0.0.4" } }, { { host = "::1" } }
  server:on("four.test", "A", four):on("both.test", "A", four):on("both.test", "AAAA", six)
  server:on("six.test", "AAAA", six)
  return server:on("alias.test", "A", {
    { type = "CNAME", host = "middle.test" },
    { type = "CNAME", name = "middle.test", host = "four.test" },
    { name = "four.test", host = "127.0.0.4" }, { name = "four.test", host = "127.0.0.5" },
  }):on("alias.test", "AAAA", { { type = "CNAME", host = "four.test" } })
end

-- What a look-up of streams gives, a "family host" for each.
local function found(name, family, ...)
  local list = getaddrinfo(name, 80, { family = family, type = "stream", flags = { ... } })
  local words = {}
  for i, one in ipairs(list) do words[i] = one.family .. " " .. one.host end
  return words
end

local function fails(code, ...)
  assert.equal(code, net.raises("DNSError", getaddrinfo, ...).code)
end

describe("AI_CANONNAME", function()
  it("gives the name that has the addresses, on the first entry only", function()
    local server <close> = serve()
    local list = getaddrinfo("alias.test.", 80, { flags = { "AI_CANONNAME" } })
    assert.equal("four.test", list[1].canonname)
    for i = 2, #list do assert.is_nil(list[i].canonname) end
    assert.equal(4, #list)
    assert.equal(2, server:count())
  end)

  it("gives the name itself where it is no alias, and a numeric host as it is", function()
    local server <close> = serve()
    local function canonname(name)
      return getaddrinfo(name, 80, { flags = { "AI_CANONNAME" } })[1].canonname
    end
    assert.equal("four.test", canonname("four.test."))
    assert.equal(2, server:count())
    assert.equal("127.0.0.1", canonname("127.0.0.1"))
    assert.equal("::1", canonname("::1"))
    assert.equal("localhost", canonname("localhost"))
    assert.equal(2, server:count())
  end)

  it("left out, leaves the name out", function()
    local _ <close> = serve()
    for _, one in ipairs(getaddrinfo("alias.test.", 80)) do assert.is_nil(one.canonname) end
    assert.is_nil(getaddrinfo("127.0.0.1", 80)[1].canonname)
  end)
end)

describe("AI_NUMERICHOST", function()
  it("asks nobody about a name: EAI_NONAME", function()
    local server <close> = serve()
    fails("EAI_NONAME", "four.test.", 80, { flags = { "AI_NUMERICHOST" } })
    fails("EAI_NONAME", "localhost", 80, { flags = { "AI_NUMERICHOST" } })
    assert.equal(0, server:count())
  end)

  it("lets numeric hosts pass", function()
    assert.same({ "inet 127.0.0.1" }, found("127.0.0.1", nil, "AI_NUMERICHOST"))
    assert.same({ "inet6 ::1" }, found("::1", nil, "AI_NUMERICHOST"))
  end)
end)

describe("AI_NUMERICSERV", function()
  it("takes numbers and digits, and no name: EAI_NONAME", function()
    local opts = { flags = { "AI_NUMERICSERV" } }
    assert.equal(80, getaddrinfo("127.0.0.1", 80, opts)[1].port)
    assert.equal(80, getaddrinfo("127.0.0.1", "80", opts)[1].port)
    fails("EAI_NONAME", "127.0.0.1", "http", opts)
  end)
end)

describe("AI_V4MAPPED", function()
  it("gives IPv4 addresses as IPv6 ones where there is no other", function()
    local _ <close> = serve()
    assert.same({ "inet6 ::ffff:127.0.0.4" }, found("four.test.", "inet6", "AI_V4MAPPED"))
    assert.same({ "inet6 ::1" }, found("both.test.", "inet6", "AI_V4MAPPED"))
    assert.same({ "inet6 ::1" }, found("six.test.", "inet6", "AI_V4MAPPED"))
  end)

  it("with AI_ALL gives both", function()
    local _ <close> = serve()
    local all = found("both.test.", "inet6", "AI_V4MAPPED", "AI_ALL")
    table.sort(all)
    assert.same({ "inet6 ::1", "inet6 ::ffff:127.0.0.4" }, all)
    assert.same({ "inet6 ::ffff:127.0.0.4" },
      found("four.test.", "inet6", "AI_V4MAPPED", "AI_ALL"))
  end)

  it("means nothing where IPv6 alone was not asked for, nor does AI_ALL alone", function()
    local _ <close> = serve()
    assert.same({ "inet 127.0.0.4" }, found("four.test.", nil, "AI_V4MAPPED", "AI_ALL"))
    assert.same({ "inet 127.0.0.4" }, found("both.test.", "inet", "AI_V4MAPPED", "AI_ALL"))
    assert.same({ "inet6 ::1" }, found("both.test.", "inet6", "AI_ALL"))
    fails("EAI_NONAME", "four.test.", 80, { family = "inet6", flags = { "AI_ALL" } })
  end)

  it("is EAI_NONAME for a name that has no address at all", function()
    local _ <close> = serve()
    fails("EAI_NONAME", "none.test.", 80, { family = "inet6", flags = { "AI_V4MAPPED" } })
  end)
end)

describe("AI_PASSIVE", function()
  it("means nothing where there is a host", function()
    local _ <close> = serve()
    assert.same({ "inet6 ::1", "inet 127.0.0.4" }, found("both.test.", nil, "AI_PASSIVE"))
  end)
end)

-- Whether this machine has an address of the family, loopback aside.
local function has(family)
  local path, mine = "/proc/net/route", "^%S+%s+%x%x%x%x%x%x%x%x%s"
  if family == "inet6" then path, mine = "/proc/net/if_inet6", "^%x+ %x+ %x+ [024]" end
  local file = io.open(path)
  if not file then return false end
  local _ <close> = file
  for line in file:lines() do
    if line:find(mine) then return true end
  end
  return false
end

describe("AI_ADDRCONFIG", function()
  it("leaves out what this machine has no address for", function()
    if not has("inet") then return pending("this machine has no IPv4 address") end
    local _ <close> = serve()
    local expected = { "inet 127.0.0.4" }
    if has("inet6") then table.insert(expected, 1, "inet6 ::1") end
    assert.same(expected, found("both.test.", nil, "AI_ADDRCONFIG"))
  end)
end)

describe("Arguments of getaddrinfo that are refused:", function()
  local function refused(position, ...)
    return net.refuses(("bad argument #%d to 'getaddrinfo'"):format(position), getaddrinfo, ...)
  end

  it("a host that is no string", function()
    refused(1, {}, 80)
    refused(1, true, 80)
  end)

  it("a port out of range, or no port", function()
    for _, port in ipairs { -1, 65536, 0.5, true, {} } do refused(2, "127.0.0.1", port) end
  end)

  it("a family, type or protocol that is none, or another's", function()
    refused(3, "127.0.0.1", 80, { family = "ipv4" })
    refused(3, "127.0.0.1", 80, { family = "unix" })
    refused(3, "127.0.0.1", 80, { type = "datagram" })
    refused(3, "127.0.0.1", 80, { proto = "sctp" })
    refused(3, "127.0.0.1", 80, { proto = 99 })
    refused(3, "127.0.0.1", 80, { type = "stream", proto = "udp" })
    refused(3, "127.0.0.1", 80, { type = "dgram", proto = 6 })
  end)

  it("an unknown flag, with the nearest known one", function()
    assert.matches("AI_PASSIVE", refused(3, "127.0.0.1", 80, { flags = { "AI_PASIVE" } }), 1, true)
    assert.matches("AI_V4MAPPED", refused(3, "127.0.0.1", 80, { flags = { "AI_V4MAP" } }), 1, true)
    refused(3, "127.0.0.1", 80, { flags = { "NI_NUMERICHOST" } })
    refused(3, "127.0.0.1", 80, { flags = { 4 } })
    refused(3, "127.0.0.1", 80, { flags = "AI_PASSIVE" })
  end)

  it("an unknown option, with the nearest known one", function()
    assert.matches("'family'", refused(3, "127.0.0.1", 80, { famly = "inet" }), 1, true)
    refused(3, "127.0.0.1", 80, "inet")
  end)
end)
