-- SPDX-License-Identifier: MIT
-- Answers that come over TCP because they do not fit into a datagram: how much time there is for
-- them, which server is asked, and what the other question of a getaddrinfo has to do with it.
local dns_server = require "spec.support.dns_server"
local moonloop = require "moonloop"
local resolver = require "spec.support.resolver"

local TIMEOUT, LATE = 2, 0.8 -- seconds: of a look-up; more than a third of it

-- A Future that is done when so much time has passed.
local function later(seconds)
  local gate = moonloop.Future()
  moonloop.get_running_loop():call_later(seconds, function() gate:set_result() end)
  return gate
end

local RECORD = { host = "127.0.0.9" }

local function hosts_of(list)
  local hosts = {}
  for i, record in ipairs(list) do hosts[i] = record.host end
  return hosts
end

describe("A look-up with a time limit #slow", function()
  it("has all of it for an answer over TCP", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { truncated = true }, { gate = later(LATE), RECORD })
    assert.same({ "127.0.0.9" },
      hosts_of(moonloop.dns.resolve("a.test", "A", { timeout = TIMEOUT })))
    assert.equal("tcp", server.queries[2].transport)
  end)

  it("has all of it where resolv.conf allows for one attempt only", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { gate = later(LATE), RECORD })
      :on("b.test", "A", { truncated = true }, { gate = later(LATE), RECORD })
    local status, out = resolver.run(([[
      local function ask(name)
        return moonloop.dns.resolve(name, "A", { timeout = %d })[1].host
      end
      print(moonloop.gather(function() return ask "a.test" end, function()
        return ask "b.test"
      end))
    ]]):format(TIMEOUT), {
      servers = { server.address }, env = { RES_OPTIONS = "timeout:1 attempts:1" },
    })
    assert.equal("127.0.0.9\t127.0.0.9\n", out)
    assert.equal(0, status)
  end)

  it("may be as long as one likes", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { truncated = true, RECORD })
    for _, timeout in ipairs { 4e6, 1e8 } do
      assert.same({ "127.0.0.9" },
        hosts_of(moonloop.dns.resolve("a.test", "A", { timeout = timeout })))
    end
  end)
end)

describe("An answer of up to 512 bytes", function()
  it("is whole, and nobody is asked over TCP", function()
    local server <close> = dns_server.start { tcp = false }
    for size = 60, 73 do -- 499 to 512 bytes in all
      server:on("e.test", "TXT",
        { { text = { ("x"):rep(200), ("y"):rep(200), ("z"):rep(size) } } })
      local ok, list = pcall(moonloop.dns.resolve, "e.test", "TXT",
        { servers = { server.address }, timeout = TIMEOUT })
      assert.is_true(ok, ("with a text of %d bytes: %s"):format(400 + size, list))
    end
  end)
end)

describe("Of several servers", function()
  it("the one whose answer does not fit is asked over TCP, not one that is silent", function()
    local silent <close> = dns_server.start()
    local server <close> = dns_server.start()
    silent:on("a.test", "A", { silent = true })
    server:on("a.test", "A", { truncated = true, RECORD })
    local list = moonloop.dns.resolve("a.test", "A",
      { servers = { silent.address, server.address }, timeout = TIMEOUT })
    assert.same({ "127.0.0.9" }, hosts_of(list))
    for _, query in ipairs(silent.queries) do assert.equal("udp", query.transport) end
  end)
end)

describe("getaddrinfo with answers that come over TCP #slow", function()
  it("gives one though there is none for the other family", function()
    local server <close> = dns_server.start()
    server:on("a.test", "A", { truncated = true, RECORD }):on("a.test", "AAAA", { silent = true })
    local status, out = resolver.run([[ print(look_up("a.test.")) ]], {
      servers = { server.address }, env = { RES_OPTIONS = "timeout:1 attempts:1" },
    })
    assert.equal("127.0.0.9\n", out)
    assert.equal(0, status)
  end)

  it("does not wait for the other family before it asks over TCP", function()
    local server <close> = dns_server.start():use()
    local gate = moonloop.Future()
    server:on("a.test", "A", { truncated = true, RECORD })
      :on("a.test", "AAAA", { gate = gate, { host = "::9" } })
    local task = moonloop.create_task(moonloop.getaddrinfo, "a.test.", 80, { type = "stream" })
    server:wait_for(3)
    assert.equal("tcp", server.queries[3].transport)
    gate:set_result()
    local hosts = hosts_of(task:await())
    table.sort(hosts)
    assert.same({ "127.0.0.9", "::9" }, hosts)
  end)

  it("gets both from a server that ends each connection behind one answer", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { truncated = true, tcp = "last", RECORD })
      :on("a.test", "AAAA", { truncated = true, tcp = "last", { host = "::9" } })
    local hosts = hosts_of(moonloop.getaddrinfo("a.test.", 80, { type = "stream" }))
    table.sort(hosts)
    assert.same({ "127.0.0.9", "::9" }, hosts)
  end)
end)
