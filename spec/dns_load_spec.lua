-- SPDX-License-Identifier: MIT
-- Look-ups in great numbers: a thousand at once while a timer goes on, many more than there are
-- descriptors for, and what happens when there are none at all.
local moonloop = require "moonloop"
local dns_server = require "spec.support.dns_server"
local resolver = require "spec.support.resolver"

-- Runs `fn(i)` for 1 to `count` in tasks side by side, and awaits them all.
local function side_by_side(count, fn)
  local all = {}
  for i = 1, count do all[i] = moonloop.create_task(fn, i) end
  for i = 1, count do all[i]:await() end
end

local function host_of(i)
  return ("10.1.%d.%d"):format(i // 256, i % 256)
end

local Ticker = {}
Ticker.__index = Ticker
Ticker.__close = function(self)
  self.task:cancel()
  pcall(moonloop.await, self.task)
end

-- A task that counts milliseconds in `count`, and does at the n-th what `at[n]` says.
local function ticker()
  local self = setmetatable({ count = 0, at = {} }, Ticker)
  self.task = moonloop.create_task(function()
    while true do
      moonloop.sleep(0.001)
      self.count = self.count + 1
      local fn = self.at[self.count]
      if fn then fn() end
    end
  end)
  return self
end

local SERVERS, EACH = 10, 100 -- for what all ask at once has to fit into a socket's buffer

-- Servers that answer for names "n<i>.test" when their gate is done. Awaits.
local function start_servers(gates)
  local list = {}
  for s = 1, SERVERS do
    list[s] = dns_server.start()
    for i = (s - 1) * EACH + 1, s * EACH do
      list[s]:on(("n%d.test"):format(i), "A", { gate = gates and gates[s], { host = host_of(i) } })
    end
  end
  return setmetatable(list, { __close = function()
    for _, one in ipairs(list) do one:close() end
  end })
end

describe("A thousand look-ups at once", function()
  local function look_up(servers)
    local right = 0
    side_by_side(SERVERS * EACH, function(i)
      local server = servers[(i - 1) // EACH + 1]
      local list = moonloop.dns.resolve(("n%d.test"):format(i), "A",
        { servers = { server.address } })
      if #list == 1 and list[1].host == host_of(i) then right = right + 1 end
    end)
    return right
  end

  it("get their answers while a timer task goes on ticking #load", function()
    local gates, ticks = {}, ticker()
    local _ <close> = ticks
    for s = 1, SERVERS do
      gates[s] = moonloop.Future()
      ticks.at[20 * s] = function() gates[s]:set_result() end -- no tick, no answer
    end
    local servers <close> = start_servers(gates)
    assert.equal(1000, look_up(servers))
    assert.is_true(ticks.count >= 20 * SERVERS)
    for _, server in ipairs(servers) do assert.equal(EACH, server:count()) end
  end)

  it("over TCP get theirs, too #load", function()
    local servers <close> = start_servers()
    for s, server in ipairs(servers) do
      for i = (s - 1) * EACH + 1, s * EACH do
        server:on(("n%d.test"):format(i), "A", { truncated = true, { host = host_of(i) } })
      end
    end
    assert.equal(1000, look_up(servers))
  end)
end)

describe("Many getaddrinfo, getnameinfo and dns.resolve at once", function()
  it("get their own answers #load", function()
    local server <close> = dns_server.start():use()
    for i = 1, 50 do
      local reverse = ("%d.1.1.10.in-addr.arpa"):format(i)
      server:on(("a%d.test"):format(i), "A", { { host = host_of(i) } })
        :on(("a%d.test"):format(i), "AAAA", { { host = "2001:db8::" .. i } })
        :on(reverse, "PTR", { { host = ("b%d.test"):format(i) } })
        :on(("c%d.test"):format(i), "TXT", { { text = "text " .. i } })
    end
    side_by_side(50, function(i)
      moonloop.gather(function()
        local hosts = {}
        for _, one in ipairs(moonloop.getaddrinfo(("a%d.test."):format(i), i)) do
          hosts[one.host] = one.port
        end
        assert.same({ [host_of(i)] = i, [("2001:db8::%d"):format(i)] = i }, hosts)
      end, function()
        local host = moonloop.getnameinfo { host = "10.1.1." .. i, port = 1 }
        assert.equal(("b%d.test"):format(i), host)
      end, function()
        local text = moonloop.dns.resolve(("c%d.test"):format(i), "TXT")[1].text
        assert.equal("text " .. i, text)
      end)
    end)
    assert.equal(200, server:count())
  end)
end)

-- In a child that has few descriptors. Its arguments are the servers; `ask(i)` looks up one name.
local FEW = [[
  local servers = { ... }
  local order = {}
  local function ask(i)
    local server = servers[i % #servers + 1]
    local list = moonloop.dns.resolve(("n%d.test"):format(i), "A", { servers = { server } })
    order[#order + 1] = i
    return list[1].host
  end
  -- Sends the first server a query that comes behind all that were sent so far: what is sent to
  -- one socket over loopback keeps its order.
  local function mark()
    local host, port = servers[1]:match("^(.*):(%d+)$")
    local socket <close> = moonloop.open_datagram {
      remote_addr = { host = host, port = math.tointeger(tonumber(port)) },
    }
    socket:send("\0\0\1\0\0\1\0\0\0\0\0\0\4mark\0\0\1\0\1")
  end
]]

-- How many queries came before the child's mark, which is waited for. Awaits.
local function count_before_mark(server)
  local count = 1
  while true do
    server:wait_for(count)
    if server.queries[count].name == "mark" then break end
    count = count + 1
  end
  table.remove(server.queries, count)
  return count - 1
end

-- A server that knows every n<i>.test up to `count`, and answers when `gate` is done.
local function know(server, count, gate)
  for i = 1, count do
    server:on(("n%d.test"):format(i), "A", { gate = gate, { host = host_of(i) } })
  end
  return server
end

local function assert_in_order(server)
  for i, query in ipairs(server.queries) do assert.equal(("n%d.test"):format(i), query.name) end
end

describe("Look-ups with few descriptors", function()
  it("wait for each other, and all get their answers #load", function()
    local server <close> = know(dns_server.start(), 1000)
    local status, out = resolver.run(FEW .. [[
      local all = {}
      for i = 1, 1000 do all[i] = moonloop.create_task(ask, i) end
      local right = 0
      for i = 1, 1000 do
        if all[i]:await() == ("10.1.%d.%d"):format(i // 256, i % 256) then right = right + 1 end
      end
      print(right)
    ]], { servers = { server.address }, limit = 64 })
    assert.equal("1000\n", out)
    assert.equal(0, status)
    assert.equal(1000, server:count())
  end)

  it("are asked in the order in which they came, a quarter of the limit at once #bare", function()
    local gate = moonloop.Future()
    local server <close> = know(dns_server.start(), 100, gate)
    local child = moonloop.create_task(resolver.run, FEW .. [[
      moonloop.create_task(function()
        moonloop.testing.wait_all_blocked()
        mark()
      end)
      local all = {}
      for i = 1, 100 do all[i] = moonloop.create_task(ask, i) end
      for i = 1, 100 do all[i]:await() end
      print(#order)
    ]], { servers = { server.address }, limit = 80 })
    assert.equal(20, count_before_mark(server))
    gate:set_result()
    local status, out = child:await()
    assert.equal("100\n", out)
    assert.equal(0, status)
    assert_in_order(server)
    assert.equal(100, server:count())
  end)

  it("that wait can be cancelled, and then are never asked", function()
    local gate = moonloop.Future()
    local server <close> = know(dns_server.start(), 40, gate)
    local child = moonloop.create_task(resolver.run, FEW .. [[
      local all = {}
      for i = 1, 40 do all[i] = moonloop.create_task(ask, i) end
      moonloop.testing.wait_all_blocked()
      for i = 17, 39 do all[i]:cancel() end
      moonloop.testing.wait_all_blocked()
      local count = 0
      for i = 17, 39 do count = count + (all[i]:cancelled() and 1 or 0) end
      print(count)
      mark()
      for i = 1, 40 do pcall(moonloop.await, all[i]) end
      table.sort(order)
      print(#order, order[16], order[17])
    ]], { servers = { server.address }, limit = 56 })
    assert.equal(16, count_before_mark(server)) -- it is never less
    gate:set_result()
    local status, out = child:await()
    assert.equal("23\n17\t16\t40\n", out)
    assert.equal(0, status)
    assert.equal(17, server:count())
  end)

  it("that wait are never asked when they are cancelled in one turn with all others", function()
    local server <close> = know(dns_server.start(), 100, moonloop.Future())
    local status, out = resolver.run(FEW .. [[
      local all = {}
      for i = 1, 100 do all[i] = moonloop.create_task(ask, i) end
      moonloop.testing.wait_all_blocked()
      for i = 1, 100 do all[i]:cancel() end
      for i = 1, 100 do pcall(moonloop.await, all[i]) end
      moonloop.testing.wait_all_blocked()
      mark()
      print(all[1]:cancelled(), all[100]:cancelled())
    ]], { servers = { server.address }, limit = 56 })
    assert.equal("true\ttrue\n", out)
    assert.equal(0, status)
    assert.equal(16, count_before_mark(server))
  end)

  it("have their time limit from when they are asked", function()
    local server <close> = know(dns_server.start(), 17, moonloop.Future())
    local status, out = resolver.run(FEW .. [[
      local all = {}
      for i = 1, 16 do all[i] = moonloop.create_task(ask, i) end
      local last = moonloop.create_task(moonloop.dns.resolve, "n17.test", "A",
        { servers = servers, timeout = 0.02 })
      moonloop.sleep(0.1)
      print(last:done())
      all[1]:cancel()
      print(select(2, pcall(moonloop.await, last)).code)
    ]], { servers = { server.address }, limit = 56 })
    assert.equal("false\nETIMEOUT\n", out)
    assert.equal(0, status)
    server:wait_for(17)
    assert.is_true(server:count("n17.test") > 0)
  end)

  it("that wait begin when others are cancelled", function()
    local gate = moonloop.Future()
    local server <close> = know(dns_server.start(), 20, gate)
    local child = moonloop.create_task(resolver.run, FEW .. [[
      local all = {}
      for i = 1, 20 do all[i] = moonloop.create_task(ask, i) end
      moonloop.testing.wait_all_blocked()
      for i = 1, 4 do all[i]:cancel() end
      for i = 5, 20 do all[i]:await() end
      table.sort(order)
      print(#order, order[1], order[16])
    ]], { servers = { server.address }, limit = 56 })
    server:wait_for(20)
    assert_in_order(server)
    gate:set_result()
    local status, out = child:await()
    assert.equal("16\t5\t20\n", out)
    assert.equal(0, status)
  end)
end)

describe("A look-up with no descriptor left", function()
  it("is an OSError, EMFILE, and works when there is one again #bare", function()
    local server <close> = know(dns_server.start(), 3)
    local status, out = resolver.run(FEW .. [[
      print(ask(1))
      local files = {}
      for file in function() return (io.open("/dev/null")) end do files[#files + 1] = file end
      local ok, err = pcall(ask, 2)
      print(ok, moonloop.is_error(err, "OSError") and err.code)
      local taken, why = pcall(moonloop.getaddrinfo, "n3.test.", 80)
      print(taken, moonloop.is_error(why, "OSError") and why.code)
      for _, file in ipairs(files) do file:close() end
      print(ask(3))
    ]], { servers = { server.address }, limit = 40, env = { ASAN_OPTIONS = "detect_leaks=0" } })
    assert.equal("10.1.0.1\nfalse\tEMFILE\nfalse\tEMFILE\n10.1.0.3\n", out)
    assert.equal(0, status)
  end)
end)
