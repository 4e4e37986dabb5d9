-- SPDX-License-Identifier: MIT
-- A Server at its max_connections: closed while accepting is paused, and with
-- several listeners, whose connections all count.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- A server for one connection at a time whose handlers read until the end of
-- file; `state` counts them.
local function one_at_a_time(host, port)
  local state = { now = 0, most = 0, served = 0 }
  local server = moonloop.start_server(function(stream)
    state.now = state.now + 1
    state.most = math.max(state.most, state.now)
    stream:read()
    state.now = state.now - 1
    state.served = state.served + 1
  end, host, port, { max_connections = 1 })
  return server, state
end

describe("A Server that has paused accepting", function()
  it("ends when it is closed and its last connection ends", function()
    local server, state = one_at_a_time("127.0.0.1", 0)
    local client = moonloop.connect("127.0.0.1", server:port())
    wait_all_blocked()
    assert.equal(1, state.now)
    local reports <close> = tasks.reports()
    server:close()
    local waiting = tasks.start(server.wait_closed, server)
    assert.is_false(waiting:done())
    client:close()
    waiting:await()
    assert.equal(1, state.served)
    assert.same({}, { table.unpack(reports) })
  end)

  it("ends when its last connection ends before the next turn", function()
    local server, state = one_at_a_time("127.0.0.1", 0)
    local client = moonloop.connect("127.0.0.1", server:port())
    wait_all_blocked()
    client:close()
    server:close()
    server:wait_closed()
    assert.equal(1, state.served)
  end)

  it("cancels its handler at the end of a to-be-closed block", function()
    local state, client
    do
      local server <close>, counts = one_at_a_time("127.0.0.1", 0)
      state, client = counts, moonloop.connect("127.0.0.1", server:port())
      wait_all_blocked()
    end
    assert.equal(0, state.served)
    assert.is_nil(client:read(1))
    client:close()
  end)
end)

describe("max_connections", function()
  local HOSTS = { "127.0.0.1", "127.0.0.2" }

  it("bounds the connections of all listeners together", function()
    local port = net.free_port()
    local _ <close>, state = one_at_a_time(HOSTS, port)
    local clients = {}
    for i = 1, 6 do clients[i] = moonloop.connect(HOSTS[i % 2 + 1], port) end
    wait_all_blocked()
    assert.equal(1, state.now)
    for i = 1, 6 do clients[i]:close() end
    while state.served < 6 do moonloop.sleep(0) end
    assert.equal(1, state.most)
  end)

  it("keeps none back once the server is closed", function()
    local port = net.free_port()
    local server, state = one_at_a_time(HOSTS, port)
    local clients = {}
    for i = 1, 4 do clients[i] = moonloop.connect(HOSTS[i % 2 + 1], port) end
    wait_all_blocked()
    server:close()
    for i = 1, 4 do clients[i]:close() end
    server:wait_closed()
    assert.equal(1, state.served)
  end)
end)

describe("A handler that fails with nil", function()
  it("is reported as any other", function()
    local reports <close> = tasks.reports()
    local server <close> = moonloop.start_server(function() error(nil) end, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    assert.is_nil(client:read(1))
    wait_all_blocked()
    assert.equal(1, #reports)
    assert.matches("handler", reports[1].message)
  end)
end)

describe("A list of no hosts", function()
  it("is refused", function()
    local ok, err = pcall(moonloop.start_server, print, {}, 0)
    assert.is_false(ok)
    assert.matches("list of hosts is empty", err, 1, true)
  end)
end)

describe("A Server in a to-be-closed variable", function()
  -- A block whose server has written more than its client reads.
  local function stuck_block(leave)
    local client
    local task = tasks.start(function()
      local server <close> = moonloop.start_server(function(stream)
        stream:try_write(("x"):rep(20 << 20))
      end, "127.0.0.1", 0)
      client = moonloop.connect("127.0.0.1", server:port())
      wait_all_blocked()
      leave()
    end)
    return task, client
  end

  it("aborts its connections when it is cancelled while it waits for them", function()
    local task, client <close> = stuck_block(function() end)
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
    client:abort()
  end)

  it("aborts its connections when an error leaves the block", function()
    local task, client <close> = stuck_block(function() error("left", 0) end)
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("left", err)
    client:abort()
  end)
end)
