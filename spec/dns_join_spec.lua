-- SPDX-License-Identifier: MIT
-- Look-ups for the same at the same time share one query: which are the same, what each of them
-- gets, and what becomes of the others when one is cancelled.
local moonloop = require "moonloop"
local core = require "moonloop.core" -- closes a task by force
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked
local resolve, getaddrinfo, getnameinfo =
  moonloop.dns.resolve, moonloop.getaddrinfo, moonloop.getnameinfo

local REVERSE = "1.2.0.192.in-addr.arpa"
local ADDRESS = { host = "192.0.2.1", port = 1 }

-- A server that answers when its `gate` is done.
local function gated()
  local server = dns_server.start():use()
  local gate = moonloop.Future()
  server.gate = gate
  return server:on("a.test", "A", { gate = gate, { host = "127.0.0.1" }, { host = "127.0.0.2" } })
    :on("a.test", "AAAA", { gate = gate, { host = "::1" } })
    :on("b.test", "A", { gate = gate, { host = "127.0.0.3" } })
    :on("a.test", "MX", { gate = gate, { preference = 1, host = "mail.test" } })
    :on(REVERSE, "PTR", { gate = gate, { host = "a.test" } })
    :on("none.test", "A", { gate = gate, rcode = "NXDOMAIN" })
end

-- Starts each of `calls`, {fn, arguments...}; gives the tasks, all of which wait. Awaits.
local function start_all(...)
  local all = {}
  for i, call in ipairs { ... } do
    all[i] = moonloop.create_task(table.unpack(call))
  end
  wait_all_blocked()
  for _, task in ipairs(all) do assert.is_false(task:done()) end
  return all
end

-- `count` times the same call.
local function times(count, ...)
  local calls = {}
  for i = 1, count do calls[i] = { ... } end
  return table.unpack(calls)
end

describe("Look-ups for the same at the same time", function()
  it("are one query of dns.resolve, and each gets tables of its own", function()
    local server <close> = gated()
    local all = start_all(times(10, resolve, "a.test", "A"))
    assert.same({ "a.test A" }, server:asked())
    server.gate:set_result()
    local lists = {}
    for i, task in ipairs(all) do
      lists[i] = task:await()
      assert.equal("127.0.0.1", lists[i][1].host)
      lists[i][1].host, lists[i][2] = "changed", nil
    end
    assert.equal(1, server:count())
  end)

  it("are one query for each family of getaddrinfo, whatever the port", function()
    local server <close> = gated()
    local all = start_all({ getaddrinfo, "a.test.", 80 }, { getaddrinfo, "a.test.", 443 },
      { getaddrinfo, "a.test.", 80 })
    assert.equal(2, server:count())
    server.gate:set_result()
    for i, port in ipairs { 80, 443, 80 } do
      local list = all[i]:await()
      assert.equal(port, list[1].port)
      assert.equal("::1", list[1].host)
      list[1].host = "changed"
    end
    assert.equal(2, server:count())
  end)

  it("are one query of getnameinfo", function()
    local server <close> = gated()
    local all = start_all(times(3, getnameinfo, ADDRESS))
    assert.same({ REVERSE .. " PTR" }, server:asked())
    server.gate:set_result()
    for _, task in ipairs(all) do assert.equal("a.test", (task:await())) end
  end)

  it("fail all together, each with an error of its own", function()
    local server <close> = gated()
    local all = start_all(times(3, resolve, "none.test", "A"))
    server.gate:set_result()
    local errors = {}
    for i, task in ipairs(all) do errors[i] = net.raises("DNSError", task.await, task) end
    assert.equal(1, server:count())
    for i = 1, 3 do assert.equal("NXDOMAIN", errors[i].code) end
    assert.is_false(rawequal(errors[1], errors[2]))
  end)

  it("include one that comes when the first is at TCP already", function()
    local server <close> = dns_server.start():use()
    local gate = moonloop.Future()
    server:on("a.test", "A", { truncated = true }, { gate = gate, { host = "127.0.0.1" } })
    local first = tasks.start(resolve, "a.test", "A")
    server:wait_for(2)
    local second = tasks.start(resolve, "a.test", "A")
    gate:set_result()
    for _, task in ipairs { first, second } do
      assert.equal("127.0.0.1", task:await()[1].host)
    end
    assert.equal(2, server:count())
  end)

  it("may be a thousand", function()
    local server <close> = gated()
    local all = start_all(times(1000, resolve, "a.test", "A"))
    server.gate:set_result()
    for _, task in ipairs(all) do assert(#task:await() == 2) end
    assert.equal(1000, #all)
    assert.equal(1, server:count())
  end)
end)

describe("Look-ups are not shared", function()
  local function are_apart(expected, ...)
    local server <close> = gated()
    local all = start_all(...)
    assert.equal(expected, server:count())
    server.gate:set_result()
    for _, task in ipairs(all) do task:await() end
    assert.equal(expected, server:count())
  end

  it("for other names", function()
    are_apart(2, { resolve, "a.test", "A" }, { resolve, "b.test", "A" })
  end)

  it("for other types", function()
    are_apart(2, { resolve, "a.test", "A" }, { resolve, "a.test", "MX" })
  end)

  it("for other families", function()
    are_apart(4, { getaddrinfo, "a.test.", 1 }, { getaddrinfo, "a.test.", 1, { family = "inet" } },
      { getaddrinfo, "a.test.", 1, { family = "inet6" } })
  end)

  it("with other time limits", function()
    are_apart(3, { resolve, "a.test", "A" }, { resolve, "a.test", "A", { timeout = 30 } },
      { resolve, "a.test", "A", { timeout = 31 } })
  end)

  it("at other servers", function()
    local one <close> = gated()
    local other <close> = dns_server.start()
    other:on("a.test", "A", { gate = one.gate, { host = "127.0.0.9" } })
    local all = start_all({ resolve, "a.test", "A", { servers = { one.address } } },
      { resolve, "a.test", "A", { servers = { other.address } } })
    one.gate:set_result()
    assert.equal("127.0.0.1", all[1]:await()[1].host)
    assert.equal("127.0.0.9", all[2]:await()[1].host)
  end)

  it("when the first has its answer: nothing is kept", function()
    local server <close> = gated()
    server.gate:set_result()
    for i = 1, 3 do
      resolve("a.test", "A")
      assert.equal(i, server:count())
    end
  end)

  it("when the first failed", function()
    local server <close> = gated()
    server.gate:set_result()
    net.raises("DNSError", resolve, "none.test", "A")
    server:on("none.test", "A", { { host = "127.0.0.1" } })
    assert.equal("127.0.0.1", resolve("none.test", "A")[1].host)
  end)
end)

local function close_by_force(task)
  core.close_task(task)
  assert.is_true(task:done())
end

for how, finish in pairs { cancelled = tasks.cancel, ["closed by force"] = close_by_force } do
  describe("Of those who share a look-up, one that is " .. how, function()
    for _, position in ipairs { 1, 2, 3 } do
      it("leaves the others waiting (number " .. position .. " of three)", function()
        local server <close> = gated()
        local all = start_all(times(3, resolve, "a.test", "A"))
        finish(all[position])
        wait_all_blocked()
        server.gate:set_result()
        for i, task in ipairs(all) do
          if i ~= position then assert.equal("127.0.0.1", task:await()[1].host) end
        end
        assert.equal(1, server:count())
      end)
    end

    it("as the last one ends the look-up; the next begins anew", function()
      local server <close> = gated()
      tasks.collect() -- what others have left
      local before = sockets.count_descriptors()
      for _, task in ipairs(start_all(times(3, getaddrinfo, "a.test.", 80))) do finish(task) end
      wait_all_blocked()
      assert.equal(before, sockets.count_descriptors())
      local again = tasks.start(getaddrinfo, "a.test.", 80)
      assert.equal(4, server:count())
      server.gate:set_result()
      assert.equal("::1", again:await()[1].host)
    end)

    it("makes room for a later one, which joins those that are left", function()
      local server <close> = gated()
      local all = start_all(times(2, resolve, "a.test", "A"))
      finish(all[1])
      local third = tasks.start(resolve, "a.test", "A")
      assert.equal(1, server:count())
      server.gate:set_result()
      for _, task in ipairs { all[2], third } do
        assert.equal("127.0.0.1", task:await()[1].host)
      end
    end)
  end)
end

describe("A time limit of one of those who share a look-up", function()
  it("ends its own waiting only", function()
    local server <close> = gated()
    local patient = tasks.start(resolve, "a.test", "A")
    assert.is_false((moonloop.move_on_after(0.02, resolve, "a.test", "A")))
    server.gate:set_result()
    assert.equal("127.0.0.1", patient:await()[1].host)
    assert.equal(1, server:count())
  end)
end)

describe("A look-up that is begun when a shared one has just been answered", function()
  it("gets the right records", function()
    local server <close> = gated()
    local first = tasks.start(resolve, "a.test", "A")
    local other = tasks.start(resolve, "a.test", "A")
    assert.equal(1, server:count())
    local second
    first:add_done_callback(function()
      second = moonloop.create_task(resolve, "a.test", "A")
    end)
    server.gate:set_result()
    assert.equal("127.0.0.1", first:await()[1].host)
    assert.equal("127.0.0.1", other:await()[1].host)
    wait_all_blocked()
    assert.equal("127.0.0.1", second:await()[1].host)
  end)
end)
