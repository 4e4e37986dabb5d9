-- SPDX-License-Identifier: MIT
-- connect with several addresses (RFC 8305): which is tried when, who wins, what becomes of the
-- others, and what is told when all fail. Delays pass on a clock that jumps.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local Place = {}
Place.__index = Place
Place.__close = function(self)
  for _, one in pairs(self.open) do one:close() end
end

-- Ports that the system gives nobody by itself, one after the other.
local next_port = 20000 + os.time() % 10000

-- Opens what `addresses` say on the next port; raises when it is taken on one of them.
local function try_place(addresses)
  next_port = next_port + 1
  local self = setmetatable({ port = next_port, hosts = {}, open = {} }, Place)
  local guard <close> = sockets.closing()
  for i, address in ipairs(addresses) do
    local host, what = address[1], address[2]
    local where = { host = host:gsub("^::ffff:", ""), port = self.port }
    self.hosts[i] = host
    if what == "hole" then self.open[host] = sockets.hole(where.host, self.port) end
    if what == "open" then self.open[host] = sockets.listener(where) end
    guard[#guard + 1] = self.open[host]
  end
  for i = #guard, 1, -1 do guard[i] = nil end
  return self
end

-- Addresses with one port, each {host, what is there}: "hole" lets connects wait, "open" takes
-- them, "nobody" refuses them. An IPv4 host behind ::ffff: is an IPv6 one to who connects.
local function place(...)
  for _ = 1, 100 do
    local ok, made = pcall(try_place, { ... })
    if ok then return made end
    if not moonloop.is_error(made, "AddressInUseError") then error(made, 0) end
  end
  error("every port is taken")
end

local function connect(at, opts)
  return moonloop.connect(at.hosts, at.port, opts)
end

local function clock()
  return moonloop.testing.virtual_clock { threshold = 0.01 }
end

-- Connects, and gives the host of whoever won.
local function winner(at, opts)
  local stream <close> = connect(at, opts)
  return stream:get_extra_info("peername").host
end

describe("connect with several addresses", function()
  it("tries one after the other, families in turn, the first one's first", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" },
      { "127.0.0.3", "hole" }, { "::ffff:127.0.0.4", "hole" }, { "::ffff:127.0.0.5", "hole" })
    local _ <close> = clock()
    local task = moonloop.create_task(connect, at, { happy_eyeballs_delay = 100 })
    moonloop.sleep(50)
    local tried = {}
    for _, last in ipairs { "1", "4", "2", "5", "3" } do
      tried[#tried + 1] = "127.0.0." .. last
      table.sort(tried)
      assert.same(tried, sockets.connecting(at.port))
      moonloop.sleep(100)
    end
    tasks.cancel(task)
  end)

  it("begins with IPv6 when the first address is one", function()
    local at <close> = place({ "::ffff:127.0.0.1", "hole" }, { "::1", "hole" },
      { "127.0.0.3", "open" })
    local _ <close> = clock()
    assert.equal("127.0.0.3", winner(at))
  end)

  it("goes on to the other family before the first one's second address", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "open" }, { "::1", "open" })
    local _ <close> = clock()
    assert.equal("::1", winner(at))
  end)

  it("takes the first that succeeds, although an earlier one is still under way", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" },
      { "127.0.0.3", "open" })
    local before = sockets.count_descriptors()
    local clock_of_test <close> = clock()
    local stream <close> = connect(at)
    assert.equal("127.0.0.3", stream:get_extra_info("peername").host)
    assert.same({}, sockets.connecting(at.port))
    assert.equal(before + 1, sockets.count_descriptors())
    assert.is_table(clock_of_test)
  end)

  it("takes an earlier one that succeeds after a later one began", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" })
    local task = tasks.start(connect, at, { happy_eyeballs_delay = 0 })
    assert.same({ "127.0.0.1", "127.0.0.2" }, sockets.connecting(at.port))
    local _ <close> = at.open["127.0.0.1"].listener:accept() -- there is room now
    local stream <close> = task:await()
    assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
    assert.same({}, sockets.connecting(at.port))
  end)

  it("tries no second one when the first succeeds", function()
    local at <close> = place({ "127.0.0.1", "open" }, { "127.0.0.2", "open" })
    assert.equal("127.0.0.1", winner(at))
    local accept = tasks.start(at.open["127.0.0.2"].accept, at.open["127.0.0.2"])
    assert.is_false(accept:done())
    tasks.cancel(accept)
  end)

  it("tries the next at once when one fails", function()
    local at <close> = place({ "127.0.0.1", "nobody" }, { "127.0.0.2", "nobody" },
      { "127.0.0.3", "open" })
    assert.equal("127.0.0.3", winner(at, { happy_eyeballs_delay = math.huge }))
  end)

  it("tries the next at once also when one fails while another is under way", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "nobody" },
      { "127.0.0.3", "open" })
    local _ <close> = clock()
    local begun = moonloop.time()
    assert.equal("127.0.0.3", winner(at, { happy_eyeballs_delay = 1000 }))
    local took = moonloop.time() - begun
    assert.is_true(took > 999.999 and took < 2000) -- a late clock rounds
  end)

  it("keeps to the addresses of the family that was asked for", function()
    local at <close> = place({ "::1", "hole" }, { "127.0.0.1", "open" })
    local stream <close> = moonloop.connect("localhost", at.port,
      { family = "inet", happy_eyeballs_delay = math.huge })
    assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
  end)

  it("begins at local_addr, which the other family cannot", function()
    local at <close> = place({ "::1", "open" }, { "127.0.0.2", "open" })
    local stream <close> = connect(at, { local_addr = { host = "127.0.0.9" } })
    assert.equal("127.0.0.9", stream:get_extra_info("sockname").host)
    assert.equal("127.0.0.2", stream:get_extra_info("peername").host)
  end)

  it("is what a name with several addresses gets, too", function()
    local at <close> = place({ "::1", "hole" }, { "127.0.0.1", "open" })
    local _ <close> = clock()
    local stream <close> = moonloop.connect("localhost", at.port)
    assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
  end)

  it("is what open_connection does", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "open" })
    local _ <close> = clock()
    local reader <close>, writer = moonloop.open_connection(at.hosts, at.port)
    assert.is_true(rawequal(reader, writer))
    assert.equal("127.0.0.2", reader:get_extra_info("peername").host)
  end)
end)

describe("Attempts that succeed at the same time", function()
  it("leave one Stream; the others are closed", function()
    local hosts = { "127.0.0.1", "127.0.0.2", "127.0.0.3" }
    local at <close> = place({ hosts[1], "open" }, { hosts[2], "open" }, { hosts[3], "open" })
    local before = sockets.count_descriptors()
    local stream <close> = connect(at, { happy_eyeballs_delay = 0 })
    assert.equal(before + 1, sockets.count_descriptors())
    local alive = 0
    for _, host in ipairs(hosts) do
      local accept = tasks.start(at.open[host].accept, at.open[host])
      if accept:done() then
        local far <close> = accept:await()
        local reading = tasks.start(pcall, far.recv, far)
        if not reading:done() then alive = alive + 1 end
        tasks.cancel(reading)
      end
      tasks.cancel(accept)
    end
    assert.equal(1, alive)
    assert.is_false(stream:is_closing())
  end)
end)

describe("The option happy_eyeballs_delay", function()
  local function three_holes()
    return place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" }, { "127.0.0.3", "hole" })
  end

  it("is a quarter of a second when none is given", function()
    local at <close> = three_holes()
    local _ <close> = clock()
    local task = moonloop.create_task(connect, at)
    for count = 1, 3 do
      moonloop.sleep(0.125)
      assert.equal(count, #sockets.connecting(at.port))
      moonloop.sleep(0.125)
    end
    tasks.cancel(task)
  end)

  it("tries all at once when it is 0", function()
    local at <close> = three_holes()
    local task = tasks.start(connect, at, { happy_eyeballs_delay = 0 })
    assert.same(at.hosts, sockets.connecting(at.port))
    tasks.cancel(task)
  end)

  it("tries strictly one after the other when it is infinite", function()
    local at <close> = three_holes()
    local _ <close> = clock()
    local task = moonloop.create_task(connect, at, { happy_eyeballs_delay = math.huge })
    moonloop.sleep(1e6)
    assert.same({ "127.0.0.1" }, sockets.connecting(at.port))
    tasks.cancel(task)
  end)

  it("is refused when it is no number of seconds", function()
    for _, delay in ipairs { 0 / 0, "soon", true } do
      local said = net.refuses("bad argument #3 to 'connect'", function()
        local _ = moonloop.connect("127.0.0.1", 9, { happy_eyeballs_delay = delay })
      end)
      assert.matches("happy_eyeballs_delay", said, 1, true)
    end
  end)
end)

describe("When every address fails", function()
  it("the last error is raised, with all of them and their words", function()
    local at <close> = place({ "127.0.0.1", "nobody" }, { "127.0.0.2", "nobody" },
      { "224.0.0.1", "nobody" })
    local err = net.raises("OSError", connect, at)
    assert.equal("ENETUNREACH", err.code)
    assert.equal(3, #err.errors)
    assert.equal("ConnectionRefusedError", err.errors[1].kind)
    assert.equal("ConnectionRefusedError", err.errors[2].kind)
    assert.equal("ENETUNREACH", err.errors[3].code)
    for i, host in ipairs(at.hosts) do
      assert.matches(host .. ":" .. at.port, err.errors[i].message, 1, true)
      assert.matches(host .. ":" .. at.port, err.message, 1, true)
    end
    assert.is_nil(tostring(err):find("\n", 1, true))
  end)

  it("the errors are in the order of the addresses, whichever came first", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "nobody" })
    local task = tasks.start(connect, at, { happy_eyeballs_delay = 0 })
    assert.is_false(task:done())
    at.open["127.0.0.1"]:close() -- the system finds out when it asks again
    local err = net.raises("ConnectionRefusedError", task.await, task)
    assert.matches("127.0.0.1:", err.errors[1].message, 1, true)
    assert.matches("127.0.0.2:", err.errors[2].message, 1, true)
  end)

  it("no descriptor is left over, and nothing is reported", function()
    local at <close> = place({ "127.0.0.1", "nobody" }, { "127.0.0.2", "nobody" })
    local reports <close> = tasks.reports()
    local before = sockets.count_descriptors()
    for _ = 1, 3 do assert.is_false(pcall(connect, at)) end
    assert.equal(before, sockets.count_descriptors())
    tasks.collect()
    assert.equal(0, #reports)
  end)

  it("of one address, the error is that one's own", function()
    local at <close> = place({ "127.0.0.1", "nobody" })
    local err = net.raises("ConnectionRefusedError", connect, at)
    assert.equal(("connect 127.0.0.1:%d: Connection refused"):format(at.port), err.message)
  end)
end)

describe("A winner", function()
  it("has the failures of others forgotten, which are not reported", function()
    local at <close> = place({ "127.0.0.1", "nobody" }, { "127.0.0.2", "hole" },
      { "127.0.0.3", "open" })
    local reports <close> = tasks.reports()
    do
      local _ <close> = clock()
      assert.equal("127.0.0.3", winner(at))
    end
    tasks.collect()
    assert.equal(0, #reports)
  end)
end)

describe("A connect with several addresses that is cancelled", function()
  for begun = 1, 3 do
    it("when " .. begun .. " were begun leaves nothing behind", function()
      local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" },
        { "127.0.0.3", "hole" })
      local before = sockets.count_descriptors()
      local _ <close> = clock()
      local task = moonloop.create_task(connect, at, { happy_eyeballs_delay = 100 })
      moonloop.sleep(100 * begun - 50)
      assert.equal(begun, #sockets.connecting(at.port))
      assert.is_true(tasks.cancel(task))
      assert.same({}, sockets.connecting(at.port))
      assert.equal(before, sockets.count_descriptors())
    end)
  end

  it("before it began leaves nothing behind", function()
    local at <close> = place({ "127.0.0.1", "open" }, { "127.0.0.2", "open" })
    local task = moonloop.create_task(connect, at)
    assert.is_true(tasks.cancel(task))
    assert.same({}, sockets.connecting(at.port))
  end)

  it("in the turn in which some succeed gives a Stream or leaves nothing behind", function()
    local at <close> = place({ "127.0.0.1", "open" }, { "127.0.0.2", "open" })
    local before = sockets.count_descriptors()
    for turns = 0, 4 do
      local task = moonloop.create_task(connect, at, { happy_eyeballs_delay = 0 })
      for _ = 1, turns do moonloop.sleep(0) end
      task:cancel()
      local ok, stream = tasks.outcome(task)
      if ok then stream:abort() end
      wait_all_blocked()
      assert.equal(before, sockets.count_descriptors())
    end
  end)
end)

describe("A connect with several addresses and a timeout", function()
  it("raises TimeoutError when none has succeeded by then, and leaves nothing behind", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "hole" },
      { "127.0.0.3", "hole" })
    local before = sockets.count_descriptors()
    local _ <close> = clock()
    net.raises("TimeoutError", connect, at, { timeout = 150, happy_eyeballs_delay = 100 })
    assert.same({}, sockets.connecting(at.port))
    assert.equal(before, sockets.count_descriptors())
  end)

  it("is a Stream when one succeeds before that", function()
    local at <close> = place({ "127.0.0.1", "hole" }, { "127.0.0.2", "open" })
    local _ <close> = clock()
    assert.equal("127.0.0.2", winner(at, { timeout = 150, happy_eyeballs_delay = 100 }))
  end)

  it("raises what every address said when that comes before", function()
    local at <close> = place({ "127.0.0.1", "nobody" }, { "127.0.0.2", "nobody" })
    local err = net.raises("ConnectionRefusedError", connect, at, { timeout = 60 })
    assert.equal(2, #err.errors)
  end)
end)
