-- SPDX-License-Identifier: MIT
-- moonloop.getnameinfo: names and services of addresses, its flags, whom it asks, its errors and
-- arguments; that python3's socket says the same where no server is asked. What /etc/hosts has is
-- in dns_files_spec.lua.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local getnameinfo = moonloop.getnameinfo

local ADDRESS = { host = "192.0.2.1", port = 1 }
local REVERSE = "1.2.0.192.in-addr.arpa"
local SIX = { host = "2001:db8::2", port = 1 }
local REVERSE_SIX = "2.0.0.0." .. ("0."):rep(20) .. "8.b.d.0.1.0.0.2.ip6.arpa"

local function server_with(reply)
  return dns_server.start():use():on(REVERSE, "PTR", reply)
end

describe("getnameinfo", function()
  it("gives the name that the server knows, and the service", function()
    local server <close> = server_with { { host = "Name.test" } }
    server:on(REVERSE_SIX, "PTR", { { host = "six.test" } })
    assert.same({ "Name.test", "59999" }, { getnameinfo { host = "192.0.2.1", port = 59999 } })
    assert.equal("six.test", (getnameinfo(SIX)))
    assert.same({ REVERSE .. " PTR", REVERSE_SIX .. " PTR" }, server:asked())
  end)

  it("gives the first of several names, whatever address they have", function()
    local _ <close> = server_with { { host = "one.test" }, { host = "two.test" } }
    assert.equal("one.test", (getnameinfo(ADDRESS)))
  end)

  it("follows an alias, as reverse zones that are handed on have it", function()
    local _ <close> = server_with {
      { type = "CNAME", host = "1.0-25.2.0.192.in-addr.arpa" },
      { name = "1.0-25.2.0.192.in-addr.arpa", host = "name.test" },
    }
    assert.equal("name.test", (getnameinfo(ADDRESS)))
  end)

  it("gives the numeric host where there is no name", function()
    local server <close> = server_with { rcode = "NXDOMAIN" }
    assert.same({ "192.0.2.1", "1" }, { getnameinfo { host = "192.0.2.1", port = 1 },
      select(2, getnameinfo({ host = "192.0.2.1", port = 1 }, { "NI_NUMERICSERV" })) })
    server:on(REVERSE, "PTR", {})
    assert.equal("192.0.2.1", (getnameinfo(ADDRESS)))
    assert.equal(3, server:count())
  end)

  it("is a method of the loop, too", function()
    local _ <close> = server_with { { host = "name.test" } }
    assert.equal("name.test", (moonloop.get_running_loop():getnameinfo(ADDRESS)))
  end)

  it("tells a task that waits what it waits for", function()
    local _ <close> = server_with { silent = true }
    local task = tasks.start(getnameinfo, ADDRESS)
    assert.equal("getnameinfo 192.0.2.1", task:awaiting())
    tasks.cancel(task)
  end)

  it("waits for a slow server, and gets what it then says", function()
    local gate = moonloop.Future()
    local _ <close> = server_with { gate = gate, { host = "name.test" } }
    local task = tasks.start(getnameinfo, ADDRESS)
    assert.is_false(task:done())
    gate:set_result()
    assert.equal("name.test", (task:await()))
  end)
end)

describe("The flag", function()
  it("NI_NUMERICHOST has nobody asked", function()
    local server <close> = server_with { { host = "name.test" } }
    assert.equal("192.0.2.1", (getnameinfo(ADDRESS, { "NI_NUMERICHOST" })))
    assert.equal("2001:db8::2", (getnameinfo({ host = "2001:DB8:0::2", port = 1 },
      { "NI_NUMERICHOST" })))
    assert.equal(0, server:count())
  end)

  it("NI_NUMERICSERV gives the port as digits", function()
    local server <close> = server_with { { host = "name.test" } }
    assert.same({ "name.test", "80" },
      { getnameinfo({ host = "192.0.2.1", port = 80 }, { "NI_NUMERICSERV" }) })
    assert.equal(1, server:count())
  end)

  it("NI_NAMEREQD makes no name an error, EAI_NONAME", function()
    for _, reply in ipairs { {}, { rcode = "NXDOMAIN" } } do
      local _ <close> = server_with(reply)
      local err = net.raises("DNSError", getnameinfo, ADDRESS, { "NI_NAMEREQD" })
      assert.equal("EAI_NONAME", err.code)
      assert.equal("192.0.2.1", err.host)
      assert.matches("getnameinfo 192.0.2.1", err.message, 1, true)
    end
    local _ <close> = server_with { { host = "name.test" } }
    assert.equal("name.test", (getnameinfo(ADDRESS, { "NI_NAMEREQD" })))
  end)

  it("NI_NOFQDN leaves a name of another domain whole", function()
    local _ <close> = server_with { { host = "name.elsewhere.test" } }
    assert.equal("name.elsewhere.test", (getnameinfo(ADDRESS, { "NI_NOFQDN" })))
  end)
end)

describe("An error of getnameinfo", function()
  local CODES = {
    SERVFAIL = "EAI_AGAIN", REFUSED = "EAI_FAIL", FORMERR = "EAI_FAIL", NOTIMP = "EAI_FAIL",
  }

  for status, code in pairs(CODES) do
    it("is " .. code .. " when the server answers " .. status, function()
      local _ <close> = server_with { rcode = status }
      local err = net.raises("DNSError", getnameinfo, ADDRESS)
      assert.equal(code, err.code)
      assert.equal("192.0.2.1", err.host)
    end)
  end

  it("is EAI_AGAIN when the server is dead", function()
    moonloop.dns.set_servers { dns_server.dead() }
    local _ <close> = moonloop.defer(function() moonloop.dns.set_servers(nil) end)
    assert.equal("EAI_AGAIN", net.raises("DNSError", getnameinfo, ADDRESS).code)
  end)

  it("is EAI_FAIL when the answer is broken, or a circle of aliases", function()
    for _, reply in ipairs {
      { count = 3 }, { { data = "\192" } }, { { data = "\192\255" } }, { { data = "\9a" } },
      { { type = "CNAME", host = REVERSE } },
    } do
      local _ <close> = server_with(reply)
      assert.equal("EAI_FAIL", net.raises("DNSError", getnameinfo, ADDRESS).code)
    end
  end)
end)

describe("Arguments of getnameinfo that are refused:", function()
  local function refused(position, ...)
    return net.refuses(("bad argument #%d to 'getnameinfo'"):format(position), getnameinfo, ...)
  end

  it("an address that is no table, or has no numeric host", function()
    refused(1)
    refused(1, "192.0.2.1")
    refused(1, { port = 80 })
    refused(1, { host = "localhost", port = 80 })
    refused(1, { host = "192.0.2", port = 80 })
    refused(1, { host = "192.0.2.1\0", port = 80 })
    refused(1, { path = "/tmp/socket" })
  end)

  it("a port that is none", function()
    for _, port in ipairs { -1, 65536, 1.5, "http" } do
      refused(1, { host = "192.0.2.1", port = port })
    end
  end)

  it("an unknown flag, with the nearest known one", function()
    assert.matches("NI_NUMERICHOST", refused(2, ADDRESS, { "NI_NUMERICHOSTS" }), 1, true)
    assert.matches("NI_NAMEREQD", refused(2, ADDRESS, { "NI_NAMEREQ" }), 1, true)
    refused(2, ADDRESS, { "AI_PASSIVE" })
    refused(2, ADDRESS, "NI_NUMERICHOST")
  end)
end)

describe("python3's socket", function()
  local SCRIPT = [[
import socket, sys
for line in sys.argv[1:]:
    host, port, flags = line.split()
    print(line, "=", *socket.getnameinfo((host, int(port)), int(flags)))
]]
  local NUMBERS = { NI_NUMERICHOST = 1, NI_NUMERICSERV = 2, NI_NOFQDN = 4, NI_DGRAM = 16 }
  local CASES = {
    { "127.0.0.1", 80, "NI_NUMERICHOST" }, { "127.0.0.1", 80, "NI_NUMERICHOST", "NI_NUMERICSERV" },
    { "1.2.3.4", 53, "NI_NUMERICHOST" }, { "1.2.3.4", 53, "NI_NUMERICHOST", "NI_DGRAM" },
    { "1.2.3.4", 69, "NI_NUMERICHOST" }, { "1.2.3.4", 69, "NI_NUMERICHOST", "NI_DGRAM" },
    { "::1", 443, "NI_NUMERICHOST" }, { "2001:DB8:0::1", 22, "NI_NUMERICHOST" },
    { "::ffff:1.2.3.4", 0, "NI_NUMERICHOST" }, { "::", 65535, "NI_NUMERICHOST", "NI_NOFQDN" },
    { "127.0.0.1", 514, "NI_NUMERICHOST" }, { "127.0.0.1", 514, "NI_NUMERICHOST", "NI_DGRAM" },
  }

  it("agrees about what asks nobody", function()
    if not io.open("/etc/services") then return pending("there is no /etc/services") end
    local argv, expected = { "python3", "-c", SCRIPT }, {}
    for i, case in ipairs(CASES) do
      local flags, number = { table.unpack(case, 3) }, 0
      for _, flag in ipairs(flags) do number = number + NUMBERS[flag] end
      argv[i + 3] = ("%s %d %d"):format(case[1], case[2], number)
      expected[i] = ("%s = %s %s\n"):format(argv[i + 3],
        getnameinfo({ host = case[1], port = case[2] }, flags))
    end
    local status, out, err = command.run(argv)
    assert.equal(0, status, err)
    assert.equal(out, table.concat(expected))
  end)
end)
