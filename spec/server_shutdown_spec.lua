-- SPDX-License-Identifier: MIT
-- Server:shutdown: it stops accepting, lets handlers end for the time of grace, cancels them, then
-- aborts, and tells how many did what. Server:close_clients and Server:abort_clients.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- What a client may ask a handler for, in a line; `gate` ends those that nothing else ends.
local function behaviours(gate, log)
  return {
    -- Ends by itself, soon or late in a grace of 5 s, or after it.
    soon = function() moonloop.sleep(1) end,
    late = function() moonloop.sleep(4.9) end,
    after = function() moonloop.sleep(6) end,
    -- Ends when the peer does.
    reading = function(stream) stream:read() end,
    forever = function() moonloop.sleep_forever() end,
    -- Ends when it is cancelled, but not at once.
    cleaning = function()
      local _ <close> = moonloop.defer(function()
        moonloop.sleep(0.5)
        log[#log + 1] = "cleaned"
      end)
      moonloop.sleep_forever()
    end,
    swallowing = function() pcall(moonloop.sleep_forever) end,
    -- Ends when its stream is aborted.
    shielding = function(stream) moonloop.shield(stream.read, stream) end,
    defying = function(stream)
      pcall(moonloop.sleep_forever)
      moonloop.current_task():uncancel()
      stream:read()
    end,
    -- Ends when the spec does.
    stuck = function() moonloop.shield(gate.await, gate) end,
    -- Has ended but for its data, which nobody takes.
    flooding = function(stream) stream:try_write(("x"):rep(8 << 20)) end,
  }
end

local Served = {}
Served.__index = Served
Served.__close = function(self)
  if not self.gate:done() then self.gate:set_result() end
  for _, client in ipairs(self.clients) do client:abort() end
  local _ <close> = self.reports
  local _ <close> = self.server
end

-- A server with one connection for each of the behaviours named; `reports` has what went to the
-- exception handler.
local function serve(...)
  local self = setmetatable({
    gate = moonloop.Future(), clients = {}, log = {}, reports = tasks.reports(),
  }, Served)
  local all = behaviours(self.gate, self.log)
  self.server = moonloop.start_server(function(stream)
    all[stream:readline():sub(1, -2)](stream)
  end, "127.0.0.1", 0)
  self.port = self.server:port()
  for i, name in ipairs { ... } do
    self.clients[i] = moonloop.connect("127.0.0.1", self.port)
    self.clients[i]:write(name, "\n")
  end
  wait_all_blocked()
  return self
end

-- Shuts down on a clock that jumps.
local function shut(served, opts)
  local _ <close> = moonloop.testing.virtual_clock { threshold = 0.002 }
  return table.pack(served.server:shutdown(opts))
end

describe("Server:shutdown", function()
  local GRACE_5 = {
    { "counts nothing where there is nothing", {}, { 0, 0, 0 } },
    { "counts who ends within the grace as ended", { "soon", "late" }, { 2, 0, 0 } },
    { "cancels who does not", { "after", "forever", "reading" }, { 0, 3, 0 } },
    { "lets clean-up run that takes a while", { "cleaning" }, { 0, 1, 0 } },
    { "counts who swallows its cancellation and ends as cancelled", { "swallowing" },
      { 0, 1, 0 } },
    { "aborts who shields itself", { "shielding" }, { 0, 0, 1 } },
    { "aborts who goes on after it was cancelled", { "defying" }, { 0, 0, 1 } },
    { "aborts who does not end even so, and does not wait for it", { "stuck" }, { 0, 0, 1 } },
    { "aborts a connection whose data nobody takes", { "flooding" }, { 0, 0, 1 } },
    { "counts each of a mixture", { "soon", "stuck", "forever", "late", "shielding", "cleaning",
      "flooding" }, { 2, 2, 3 } },
  }

  for _, row in ipairs(GRACE_5) do
    it(row[1], function()
      local served <close> = serve(table.unpack(row[2]))
      local counts = shut(served, { grace = 5 })
      assert.same({ n = 3, table.unpack(row[3]) }, counts)
      assert.is_false(served.server:is_serving())
    end)
  end

  it("has 5 s of grace when none is given", function()
    for _, opts in ipairs { false, {} } do
      local served <close> = serve("late", "after")
      assert.same({ n = 3, 1, 1, 0 }, shut(served, opts or nil))
    end
  end)

  it("returns as soon as all have ended", function()
    local served <close> = serve("soon")
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0.002 }
    local begun = moonloop.time()
    served.server:shutdown { grace = 1000 }
    assert.is_true(moonloop.time() - begun < 500)
  end)

  it("lets what a handler wrote arrive", function()
    local served <close> = serve("reading")
    local text = net.text(4 << 20)
    local server <close> = moonloop.start_server(function(stream)
      stream:readline()
      stream:write(text)
    end, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    client:write("go\n")
    wait_all_blocked()
    local reader = moonloop.create_task(client.read, client)
    assert.same({ 1, 0, 0 }, { server:shutdown { grace = 60 } })
    assert.is_true(reader:await() == text)
    assert.is_true(served.server:is_serving())
  end)

  it("runs the handlers' clean-up before it returns", function()
    local served <close> = serve("cleaning", "cleaning")
    shut(served, { grace = 1 })
    assert.same({ "cleaned", "cleaned" }, served.log)
  end)

  it("lets peers see the end of file, or a reset where it aborted", function()
    local served <close> = serve("forever", "shielding")
    shut(served, { grace = 1 })
    for _, client in ipairs(served.clients) do
      local ok, data = pcall(client.read, client, 1)
      assert.is_true(ok and data == nil or moonloop.is_error(data, "ConnectionResetError"))
    end
  end)

  it("accepts nobody from its beginning on", function()
    local served <close> = serve("reading")
    local task = tasks.start(served.server.shutdown, served.server, { grace = 60 })
    assert.is_false(task:done())
    assert.is_false(served.server:is_serving())
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", served.port)
    served.clients[1]:close()
    assert.same({ 1, 0, 0 }, { task:await() })
  end)

  it("reports nothing of handlers that it ended", function()
    local served <close> = serve("forever", "cleaning", "soon")
    shut(served, { grace = 2 })
    wait_all_blocked()
    assert.equal(0, #served.reports)
  end)

  it("lets wait_closed return", function()
    local served <close> = serve("forever")
    local waiting = tasks.start(served.server.wait_closed, served.server)
    shut(served, { grace = 1 })
    assert.is_nil((waiting:await()))
  end)
end)

describe("Server:shutdown with a grace of 0", function()
  it("cancels at once", function()
    local served <close> = serve("forever", "reading")
    assert.same({ n = 3, 0, 2, 0 }, shut(served, { grace = 0 }))
  end)

  it("aborts who does not end then", function()
    local served <close> = serve("forever", "shielding", "stuck")
    assert.same({ n = 3, 0, 1, 2 }, shut(served, { grace = 0 }))
  end)
end)

describe("Server:shutdown after close", function()
  it("ends the connections that are left", function()
    local served <close> = serve("forever", "soon")
    served.server:close()
    assert.same({ n = 3, 1, 1, 0 }, shut(served, { grace = 5 }))
  end)

  it("has nothing to do when they have ended", function()
    local served <close> = serve("reading")
    served.clients[1]:close()
    served.server:close()
    served.server:wait_closed()
    assert.same({ n = 3, 0, 0, 0 }, shut(served, { grace = 5 }))
    assert.same({ n = 3, 0, 0, 0 }, shut(served, { grace = 5 }))
  end)
end)

describe("A second Server:shutdown", function()
  it("at the same time counts its own, and both return", function()
    local served <close> = serve("soon", "forever", "shielding")
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0.002 }
    local first = moonloop.create_task(served.server.shutdown, served.server, { grace = 5 })
    local second = moonloop.create_task(served.server.shutdown, served.server, { grace = 5 })
    for _, task in ipairs { first, second } do
      local ended, cancelled, aborted = task:await()
      assert.equal(3, ended + cancelled + aborted)
      assert.equal(1, ended)
    end
  end)

  it("with less patience ends what the first still waits for", function()
    local served <close> = serve("forever")
    local first = tasks.start(served.server.shutdown, served.server, { grace = 3600 })
    assert.same({ n = 3, 0, 1, 0 }, shut(served, { grace = 0 }))
    local ended, cancelled, aborted = first:await()
    assert.equal(1, ended + cancelled + aborted)
    assert.equal(0, aborted)
  end)
end)

describe("A cancelled Server:shutdown", function()
  it("aborts all connections and raises", function()
    local served <close> = serve("forever", "reading", "shielding")
    local task = tasks.start(served.server.shutdown, served.server, { grace = 3600 })
    assert.is_true(tasks.cancel(task))
    assert.is_false(served.server:is_serving())
    for _, client in ipairs(served.clients) do
      local ok, data = pcall(client.read, client, 1)
      assert.is_true(ok and data == nil or moonloop.is_error(data, "ConnectionResetError"))
    end
  end)

  it("does so by a timeout, too", function()
    local served <close> = serve("reading")
    local _ <close> = moonloop.testing.virtual_clock { threshold = 0.002 }
    assert.is_false((moonloop.move_on_after(1, served.server.shutdown, served.server,
      { grace = 3600 })))
    local ok, data = pcall(served.clients[1].read, served.clients[1], 1)
    assert.is_true(ok and data == nil or moonloop.is_error(data, "ConnectionResetError"))
  end)
end)

describe("The options of Server:shutdown", function()
  it("are checked", function()
    local served <close> = serve("reading")
    local shutdown = function(opts) local _ = served.server:shutdown(opts) end
    assert.matches("'grace'", net.refuses("'grave'", shutdown, { grave = 5 }), 1, true)
    net.refuses("grace", shutdown, { grace = "5" })
    net.refuses("grace", shutdown, { grace = 0 / 0 })
    net.refuses("'shutdown'", shutdown, 5)
    assert.is_true(served.server:is_serving())
  end)
end)

describe("Server:close_clients", function()
  it("closes every connection once its data is out, and serves on", function()
    local text = net.text(4 << 20)
    local server <close> = moonloop.start_server(function(stream)
      stream:try_write(text)
      pcall(stream.read, stream, 1)
    end, "127.0.0.1", 0)
    local clients = {}
    for i = 1, 2 do clients[i] = moonloop.connect("127.0.0.1", server:port()) end
    wait_all_blocked()
    server:close_clients()
    for i = 1, 2 do
      assert.is_true(clients[i]:read() == text)
      clients[i]:close()
    end
    assert.is_true(server:is_serving())
    local again <close> = moonloop.connect("127.0.0.1", server:port())
    assert.equal(text:sub(1, 10), again:readexactly(10))
    again:abort()
  end)

  it("lets wait_closed return after close", function()
    local served <close> = serve("reading", "reading")
    served.server:close()
    served.server:close_clients()
    served.server:wait_closed()
    for _, client in ipairs(served.clients) do assert.is_nil(client:read(1)) end
  end)
end)

describe("Server:abort_clients", function()
  it("drops what is queued, and serves on", function()
    local size = 32 << 20
    local server <close> = moonloop.start_server(function(stream)
      stream:try_write(("x"):rep(size))
      pcall(stream.read, stream, 1)
    end, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    wait_all_blocked()
    server:abort_clients()
    local got = 0
    local ok, err = pcall(function()
      for data in client:chunks() do got = got + #data end
    end)
    assert.is_true(ok or moonloop.is_error(err, "ConnectionResetError"), tostring(err))
    assert.is_true(got < size)
    assert.is_true(server:is_serving())
    local again <close> = moonloop.connect("127.0.0.1", server:port())
    assert.equal("x", again:readexactly(1))
    again:abort()
  end)

  it("lets wait_closed return after close", function()
    local served <close> = serve("reading", "flooding")
    served.server:close()
    served.server:abort_clients()
    served.server:wait_closed()
    assert.is_false(served.server:is_serving())
  end)
end)
