-- SPDX-License-Identifier: MIT
-- Where and when a Server listens: on several hosts, on a port shared with another Server, with a
-- backlog, before it serves, for so many connections at a time, for ever.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local function echo(stream)
  for line in function() return stream:readline() end do stream:write(line) end
end

-- One line there and back.
local function ask(host, port, text)
  local stream <close> = moonloop.connect(host, port)
  stream:write(text, "\n")
  return stream:readline():sub(1, -2)
end

describe("A Server on several hosts", function()
  it("has one port for them all, also when the system chose it", function()
    local hosts = { "127.0.0.1", "127.0.0.2", "::1" }
    local server <close> = moonloop.start_server(echo, hosts, 0)
    local port = server:port()
    local expected = {}
    for i, host in ipairs(hosts) do expected[i] = { host = host, port = port } end
    assert.same(expected, server:sockets())
    for _, host in ipairs(hosts) do assert.equal(host, ask(host, port, host)) end
  end)

  it("listens on those of the family that was asked for", function()
    local server <close> = moonloop.start_server(echo, "localhost", 0, { family = "inet" })
    assert.same({ { host = "127.0.0.1", port = server:port() } }, server:sockets())
    net.raises("ConnectionRefusedError", moonloop.connect, "::1", server:port())
  end)

  it("listens on none when one of them is taken", function()
    local taken <close> = moonloop.start_server(echo, "127.0.0.3", 0)
    local port = taken:port()
    local before = sockets.count_descriptors()
    local err = net.raises("AddressInUseError", moonloop.start_server, echo,
      { "127.0.0.2", "127.0.0.4", "127.0.0.3" }, port)
    assert.matches("127.0.0.3:" .. port, err.message, 1, true)
    assert.equal(before, sockets.count_descriptors())
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.2", port)
  end)

  it("stops on all of them at once", function()
    local server <close> = moonloop.start_server(echo, { "127.0.0.1", "127.0.0.2" }, 0)
    local port = server:port()
    server:close()
    for _, host in ipairs { "127.0.0.1", "127.0.0.2" } do
      net.raises("ConnectionRefusedError", moonloop.connect, host, port)
    end
  end)

  it("serves connections of all of them at the same time", function()
    local hosts = { "127.0.0.1", "127.0.0.2", "::1" }
    local server <close> = moonloop.start_server(echo, hosts, 0)
    local streams = {}
    for i, host in ipairs(hosts) do streams[i] = moonloop.connect(host, server:port()) end
    for i = #hosts, 1, -1 do
      streams[i]:write(hosts[i], "\n")
      assert.equal(hosts[i] .. "\n", streams[i]:readline())
    end
    for i = 1, #hosts do streams[i]:close() end
  end)
end)

describe("Two Servers with reuse_port", function()
  -- Two servers on one port that count their connections.
  local function two_servers()
    local counts, servers, port = { 0, 0 }, {}, 0
    for i = 1, 2 do
      servers[i] = moonloop.start_server(function(stream)
        counts[i] = counts[i] + 1
        echo(stream)
      end, "127.0.0.1", port, { reuse_port = true })
      port = servers[i]:port()
    end
    return servers, port, counts
  end

  it("share the connections to one port", function()
    local servers, port, counts = two_servers()
    for i = 1, 40 do assert.equal("to any", ask("127.0.0.1", port, "to any"), i) end
    assert.equal(40, counts[1] + counts[2])
    -- The system spreads them by a hash: that all go to one has a chance of 1 in 2 to the 39th.
    assert.is_true(counts[1] > 0 and counts[2] > 0)
    for i = 1, 2 do local _ <close> = servers[i] end
  end)

  it("leave all connections to the one that stays", function()
    local servers, port, counts = two_servers()
    servers[1]:close()
    servers[1]:wait_closed()
    for _ = 1, 10 do assert.equal("to the other", ask("127.0.0.1", port, "to the other")) end
    assert.same({ 0, 10 }, counts)
    local _ <close> = servers[2]
  end)

  it("must both ask for it", function()
    local first <close> = moonloop.start_server(echo, "127.0.0.1", 0, { reuse_port = true })
    net.raises("AddressInUseError", moonloop.start_server, echo, "127.0.0.1", first:port())
    local second <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    net.raises("AddressInUseError", moonloop.start_server, echo, "127.0.0.1", second:port(),
      { reuse_port = true })
  end)
end)

describe("The option backlog", function()
  it("bounds the connections that wait to be accepted", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0,
      { backlog = 0, start_serving = false })
    local first = moonloop.connect("127.0.0.1", server:port())
    local second = tasks.start(moonloop.connect, "127.0.0.1", server:port())
    assert.is_false(second:done())
    assert.same({ "127.0.0.1" }, sockets.connecting(server:port()))
    tasks.cancel(second)
    first:close()
  end)

  it("is refused when it is no number of connections", function()
    for _, backlog in ipairs { -1, 0.5 } do
      net.refuses("'backlog'", moonloop.start_server, echo, "127.0.0.1", 0, { backlog = backlog })
    end
    net.refuses("'backlog'", moonloop.start_server, echo, "127.0.0.1", 0, { backlog = "5" })
  end)
end)

describe("A Server with start_serving=false", function()
  it("lets connections wait in its backlog and serves them later, in order", function()
    local served = {}
    local server <close> = moonloop.start_server(function(stream)
      served[#served + 1] = stream:get_extra_info("peername").port
      echo(stream)
    end, "127.0.0.1", 0, { start_serving = false })
    local clients, expected = {}, {}
    for i = 1, 5 do
      clients[i] = moonloop.connect("127.0.0.1", server:port())
      clients[i]:write(i, "\n")
      expected[i] = clients[i]:get_extra_info("sockname").port
    end
    wait_all_blocked()
    assert.same({}, served)
    server:start_serving()
    for i = 1, 5 do
      assert.equal(i .. "\n", clients[i]:readline())
      clients[i]:close()
    end
    assert.same(expected, served)
  end)

  it("gives up what waits when it is closed unserved", function()
    local server = moonloop.start_server(echo, "127.0.0.1", 0, { start_serving = false })
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    server:close()
    server:wait_closed()
    local ok, data = pcall(client.read, client, 1)
    assert.is_true(not ok and moonloop.is_error(data, "ConnectionResetError") or data == nil)
  end)

  it("begins with serve_forever", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0, { start_serving = false })
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    client:write("waiting\n")
    wait_all_blocked()
    local serving = tasks.start(server.serve_forever, server)
    assert.equal("waiting\n", client:readline())
    assert.is_true(server:is_serving())
    client:close()
    assert.is_true(tasks.cancel(serving))
    assert.is_false(server:is_serving())
  end)
end)

describe("Server:serve_forever", function()
  it("returns when the server was closed and every connection has ended", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    local serving = tasks.start(server.serve_forever, server)
    server:close()
    wait_all_blocked()
    assert.is_false(serving:done())
    client:close()
    assert.is_nil((serving:await()))
  end)

  it("leaves the connections alone when it is cancelled, but accepts no more", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    local port = server:port()
    local client <close> = moonloop.connect("127.0.0.1", port)
    local serving = tasks.start(server.serve_forever, server)
    assert.is_true(tasks.cancel(serving))
    net.raises("ConnectionRefusedError", moonloop.connect, "127.0.0.1", port)
    client:write("still there\n")
    assert.equal("still there\n", client:readline())
  end)

  it("ends with shutdown", function()
    local server <close> = moonloop.start_server(echo, "127.0.0.1", 0)
    local client <close> = moonloop.connect("127.0.0.1", server:port())
    local serving = tasks.start(server.serve_forever, server)
    client:close()
    server:shutdown { grace = 60 }
    pcall(serving.await, serving)
    assert.is_true(serving:done())
  end)
end)

describe("max_connections", function()
  it("drops none: all are served, never more at a time than it says", function()
    local now, most = 0, 0
    local server <close> = moonloop.start_server(function(stream)
      now = now + 1
      most = math.max(most, now)
      echo(stream)
      now = now - 1
    end, "127.0.0.1", 0, { max_connections = 3 })
    local clients = {}
    for i = 1, 20 do
      clients[i] = moonloop.create_task(function()
        return ask("127.0.0.1", server:port(), "client " .. i)
      end)
    end
    for i = 1, 20 do assert.equal("client " .. i, clients[i]:await()) end
    assert.equal(3, most)
  end)

  local ENDINGS = {
    ["fails"] = function() error("the handler's error") end,
    ["is cancelled"] = function() moonloop.current_task():cancel() end,
    ["aborts its stream"] = function(stream) stream:abort() end,
    ["closes its stream"] = function(stream) stream:close() end,
  }

  for what, ending in pairs(ENDINGS) do
    it("frees a place when a handler " .. what, function()
      local reports <close> = tasks.reports()
      local server <close> = moonloop.start_server(function(stream)
        local line = stream:readline()
        if line == "end\n" then return ending(stream) end
        stream:write(line)
      end, "127.0.0.1", 0, { max_connections = 1 })
      local first <close> = moonloop.connect("127.0.0.1", server:port())
      local second <close> = moonloop.connect("127.0.0.1", server:port())
      second:write("second\n")
      wait_all_blocked()
      first:write("end\n")
      assert.equal("second\n", second:readline())
      assert.equal(what == "fails" and 1 or 0, #reports)
    end)
  end

  it("keeps the place of a connection until its data is out", function()
    local begun = 0
    local server <close> = moonloop.start_server(function(stream)
      begun = begun + 1
      stream:try_write(("x"):rep(8 << 20))
    end, "127.0.0.1", 0, { max_connections = 1 })
    local first <close> = moonloop.connect("127.0.0.1", server:port())
    local second <close> = moonloop.connect("127.0.0.1", server:port())
    wait_all_blocked()
    assert.equal(1, begun)
    assert.equal(8 << 20, #first:read())
    assert.equal("x", second:readexactly(1))
    assert.equal(2, begun)
    second:abort()
  end)

  it("is refused when it is no number of connections", function()
    for _, bound in ipairs { 0, -1, 1.5 } do
      net.refuses("'max_connections'", moonloop.start_server, echo, "127.0.0.1", 0,
        { max_connections = bound })
    end
  end)
end)
