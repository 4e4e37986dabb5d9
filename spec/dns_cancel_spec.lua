-- SPDX-License-Identifier: MIT
-- Look-ups that are cancelled, time out or are closed by force, wherever they wait: they end at
-- once, leave no descriptor and no query behind, and the next one begins anew; a program that ends
-- does not wait for them. What those who share a look-up see of it is in dns_join_spec.lua.
local moonloop = require "moonloop"
local core = require "moonloop.core" -- closes a task by force
local command = require "spec.support.command"
local dns_server = require "spec.support.dns_server"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local REVERSE = "1.2.0.192.in-addr.arpa"

-- The calls, each with the name and the types that it asks for, and whether it gave what is right.
local CALLS = {
  ["dns.resolve"] = {
    name = "a.test", types = { "A" },
    call = function() return moonloop.dns.resolve("a.test", "A")[1].host == "127.0.0.1" end,
  },
  getaddrinfo = {
    name = "a.test", types = { "A", "AAAA" },
    call = function() return #moonloop.getaddrinfo("a.test.", 80) == 4 end,
  },
  getnameinfo = {
    name = REVERSE, types = { "PTR" },
    call = function() return moonloop.getnameinfo { host = "192.0.2.1", port = 1 } == "b.test" end,
  },
}

local RIGHT = {
  A = { { host = "127.0.0.1" } }, AAAA = { { host = "::1" } }, PTR = { { host = "b.test" } },
}

-- Tells the server the same for every type that the call asks for; nil: what is right.
local function tell(server, case, ...)
  for _, type in ipairs(case.types) do
    if select("#", ...) == 0 then
      server:on(case.name, type, RIGHT[type])
    else
      server:on(case.name, type, ...)
    end
  end
end

-- Where a look-up can wait: prepares the servers for it; gives a function that waits until it does
-- so, and what is to be closed after.
local PLACES = {
  ["for an answer"] = function(server, case)
    tell(server, case, { silent = true })
    return function() server:wait_for(#case.types) end
  end,
  ["to be connected over TCP"] = function(server, case)
    server.tcp:close()
    server.tcp:wait_closed()
    tell(server, case, { truncated = true })
    local hole = sockets.hole(server.host, server.port)
    return function()
      server:wait_for(#case.types)
      for _ = 1, 100 do
        if #sockets.connecting(server.port) > 0 then return end
        wait_all_blocked()
      end
      error("nobody connects")
    end, hole
  end,
  ["for an answer over TCP"] = function(server, case)
    tell(server, case, { truncated = true }, { silent = true })
    return function() server:wait_for(2 * #case.types) end
  end,
  ["for the second server"] = function(server, case)
    local second = dns_server.start()
    moonloop.dns.set_servers { server.address, second.address }
    tell(server, case, { rcode = "SERVFAIL" })
    tell(second, case, { silent = true })
    return function() second:wait_for(#case.types) end, second
  end,
}

local ENDS = {
  ["cancelled"] = function(task)
    assert.is_true(tasks.cancel(task))
  end,
  ["closed by force"] = function(task)
    core.close_task(task)
    assert.is_true(task:done())
  end,
}

-- The look-up that waits there is ended; then one that is answered works.
local function ends_well(case, prepare, finish)
  local server <close> = dns_server.start():use()
  local wait, other = prepare(server, case)
  local _ <close> = other
  tasks.collect() -- what others have left
  local before = sockets.count_descriptors()
  local task = tasks.start(case.call)
  wait()
  assert.is_false(task:done())
  assert.is_true(sockets.count_descriptors() > before)
  finish(task)
  wait_all_blocked()
  assert.equal(before, sockets.count_descriptors())
  tell(server, case)
  local asked = server:count()
  assert.is_true(case.call())
  assert.equal(asked + #case.types, server:count())
end

for name, case in pairs(CALLS) do
  for place, prepare in pairs(PLACES) do
    for how, finish in pairs(ENDS) do
      describe(("A %s that waits %s, %s,"):format(name, place, how), function()
        it("ends at once, leaves nothing open, and another one begins anew", function()
          ends_well(case, prepare, finish)
        end)
      end)
    end
  end

  describe("A time limit on " .. name, function()
    it("ends it, and leaves nothing open", function()
      ends_well(case, PLACES["for an answer"], function(task)
        tasks.cancel(task)
        local err = net.raises("TimeoutError", function()
          local _ <close> = moonloop.timeout(0.02)
          case.call()
        end)
        assert.is_not_nil(err)
        assert.is_false((moonloop.move_on_after(0.02, case.call)))
      end)
    end)
  end)

  describe("A " .. name .. " that is cancelled after so many turns of the loop", function()
    it("leaves nothing open, whatever the turn is, and has its result or is cancelled", function()
      local server <close> = dns_server.start():use()
      tell(server, case)
      assert.is_true(case.call())
      tasks.collect() -- what others have left
      local before, turns, ended = sockets.count_descriptors(), 0, false
      while not ended and turns < 100000 do
        local task = moonloop.create_task(case.call)
        for _ = 1, turns do moonloop.sleep(0) end
        ended = task:done()
        local cancelled = tasks.cancel(task)
        assert.is_true(cancelled or task:result())
        wait_all_blocked()
        assert.equal(before, sockets.count_descriptors())
        turns = turns + 1 + turns // 4
      end
      assert.is_true(ended)
      assert.is_true(case.call())
    end)
  end)

  describe("A " .. name .. " in a task that is cancelled already", function()
    it("asks nobody", function()
      local server <close> = dns_server.start():use()
      tell(server, case)
      local task = tasks.start(function()
        pcall(moonloop.sleep_forever)
        case.call()
      end)
      assert.is_true(tasks.cancel(task))
      assert.equal(0, server:count())
    end)
  end)
end

describe("A look-up", function()
  it("that is cancelled when its answer has come gives it, or is cancelled", function()
    local server <close> = dns_server.start():use()
    local gate = moonloop.Future()
    server:on("a.test", "A", { gate = gate, { host = "127.0.0.1" } })
    local task = tasks.start(moonloop.dns.resolve, "a.test", "A")
    gate:set_result()
    task:cancel()
    local ok, got = tasks.outcome(task)
    assert.is_true(ok and got[1].host == "127.0.0.1" or task:cancelled())
  end)

  it("begun in a generator that is dropped leaves nothing open", function()
    local server <close> = dns_server.start():use()
    server:on("a.test", "A", { silent = true })
    tasks.collect() -- what others have left
    local before = sockets.count_descriptors()
    local task = tasks.start(function()
      for _ in coroutine.wrap(function() moonloop.dns.resolve("a.test", "A") end) do
        error "the generator gave something"
      end
    end)
    assert.is_true(sockets.count_descriptors() > before)
    assert.is_true(tasks.cancel(task))
    tasks.collect()
    assert.equal(before, sockets.count_descriptors())
  end)
end)

describe("A look-up under stock Lua", function()
  for what, code in pairs {
    ["dns.resolve"] = "moonloop.dns.resolve('a.test', 'A', { servers = { '%s' } })",
    getaddrinfo = "moonloop.dns.set_servers { '%s' }; moonloop.getaddrinfo('a.test.', 80)",
    getnameinfo = "moonloop.dns.set_servers { '%s' }; "
      .. "moonloop.getnameinfo { host = '192.0.2.1', port = 1 }",
  } do
    it("is closed while it waits (" .. what .. ")", function()
      local mute <close> = moonloop.open_datagram { local_addr = { host = "127.0.0.1", port = 0 } }
      local address = "127.0.0.1:" .. mute:getsockname().port
      local status, out, err = stock.closed(code:format(address))
      assert.equal(stock.closed_output, out, err)
      assert.equal(0, status)
      assert.matches("^..\1\0\0\1", (mute:recv()))
    end)
  end
end)

-- Programs that end while a look-up is under way: their status and what they wrote.
local ENDINGS = {
  ["when its main task ends"] = "print 'the end'",
  ["by moonloop.exit"] = "print 'the end'; moonloop.exit(0)",
  ["by os.exit"] = "print 'the end'; os.exit(0)",
  ["by os.exit that closes the state"] = "print 'the end'; os.exit(0, true)",
}

describe("A program with look-ups under way", function()
  for what, ending in pairs(ENDINGS) do
    it("ends at once " .. what, function()
      local server <close> = dns_server.start()
      server:on("a.test", "A", { silent = true }):on("a.test", "AAAA", { truncated = true },
        { silent = true })
      local code = ([[
        moonloop.dns.set_servers { "%s" }
        for i = 1, 3 do moonloop.create_task(moonloop.getaddrinfo, "a.test.", i) end
        moonloop.create_task(moonloop.dns.resolve, "a.test", "AAAA")
        moonloop.testing.wait_all_blocked()
        %s]]):format(server.address, ending)
      local status, out = peers.run(command.line { script.binary, "-e", code })
      assert.equal("the end\n", out)
      assert.equal(0, status)
      assert.is_true(server:count() > 0)
    end)
  end
end)
