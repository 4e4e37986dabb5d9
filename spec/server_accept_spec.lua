-- SPDX-License-Identifier: MIT
-- What a server's accepting outlives: errors of accept, a nested run that began it, a handler
-- that ends its own server; a free port on several addresses; and what is reported, and what not,
-- when the server closes its connections.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local function bounded(fn, ...)
  local args = table.pack(...)
  return moonloop.wait_for(function() return fn(table.unpack(args, 1, args.n)) end, 20)
end

local function greet(stream) stream:write("welcome") end

-- What a server says to who connects. Awaits.
local function greeting(port)
  local client <close> = moonloop.connect("127.0.0.1", port)
  return bounded(client.read, client)
end

-- Calls `fn` with a Socket on the same descriptor.
local function with_socket_of(fd, fn)
  local socket = moonloop.socket.from_fd(fd)
  fn(socket)
  socket:detach()
end

describe("A Server whose accept fails", function()
  -- Its listening socket does not listen any more, so accept says EINVAL.
  local function broken(make)
    local port = net.free_port()
    local listener = moonloop.socket.tcp()
    listener:setsockopt("SO_REUSEADDR", true)
    listener:bind { host = "127.0.0.1", port = port }
    listener:listen()
    local fd = listener:fileno()
    local server = make { sock = listener }
    wait_all_blocked()
    with_socket_of(fd, function(socket) socket:shutdown("both") end)
    return server, port, fd
  end

  local MAKERS = {
    start_server = function(opts) return moonloop.start_server(greet, nil, nil, opts) end,
    create_server = function(opts)
      return loop:create_server(function()
        return {
          connection_made = function(_, transport)
            transport:write("welcome")
            transport:close()
          end,
        }
      end, nil, nil, opts)
    end,
  }

  for what, make in pairs(MAKERS) do
    it("reports it once and accepts again when it can: " .. what, function()
      local reports <close> = tasks.reports()
      local clock <close> = moonloop.testing.virtual_clock()
      local server <close>, port, fd = broken(make)
      moonloop.sleep(1)
      assert.equal(1, #reports)
      assert.matches("cannot accept", reports[1].message, 1, true)
      assert.equal("EINVAL", reports[1].error.code)
      assert.is_true(server:is_serving())
      with_socket_of(fd, function(socket) socket:listen() end)
      moonloop.sleep(1)
      assert.equal("welcome", greeting(port))
      assert.equal(1, #reports)
      assert.is_not_nil(clock)
    end)
  end

  it("can be closed meanwhile, which ends serve_forever", function()
    local reports <close> = tasks.reports()
    local server = broken(MAKERS.start_server)
    local task = tasks.start(function() server:serve_forever() end)
    assert.is_false(task:done())
    server:close()
    bounded(task.await, task)
    wait_all_blocked()
    assert.equal(1, #reports)
  end)
end)

describe("A listening Socket that is given to a server", function()
  it("is emptied, so that closing it does not end the server", function()
    local listener, address = sockets.listener()
    local server <close> = moonloop.start_server(greet, nil, nil, { sock = listener })
    assert.equal(-1, listener:fileno())
    listener:close()
    wait_all_blocked()
    assert.equal("welcome", greeting(address.port))
    assert.equal(address.port, server:port())
  end)

  it("is not given twice", function()
    local listener = sockets.listener()
    local server <close> = moonloop.start_server(greet, nil, nil, { sock = listener })
    assert.is_false(pcall(moonloop.start_server, greet, nil, nil, { sock = listener }))
    assert.equal("welcome", greeting(server:port()))
  end)
end)

describe("Server:start_serving that is called in a nested run", function()
  it("makes the server accept as long as its own run lasts", function()
    local server <close> = moonloop.start_server(greet, "127.0.0.1", 0, { start_serving = false })
    moonloop.run(function()
      server:start_serving()
      assert.equal("welcome", greeting(server:port()))
    end)
    assert.is_true(server:is_serving())
    assert.equal("welcome", greeting(server:port()))
  end)

  it("leaves the handlers of connections to the run of the server, too", function()
    local gate = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      gate:await()
      greet(stream)
    end, "127.0.0.1", 0, { start_serving = false })
    local client
    local holder <close> = moonloop.defer(function() client:abort() end)
    client = moonloop.connect("127.0.0.1", server:port())
    moonloop.run(function()
      server:start_serving()
      wait_all_blocked()
    end)
    gate:set_result()
    assert.equal("welcome", bounded(client.read, client))
    assert.is_not_nil(holder)
  end)
end)

describe("A handler that leaves a block which holds its own server", function()
  it("closes the server, and ends", function()
    local server
    server = moonloop.start_server(function(stream)
      local _ <close> = server
      stream:write("last words")
    end, "127.0.0.1", 0)
    assert.equal("last words", greeting(server:port()))
    bounded(server.wait_closed, server)
    assert.is_false(server:is_serving())
  end)

  it("cancels the other handlers", function()
    local server, ended = nil, moonloop.Future()
    server = moonloop.start_server(function(stream)
      if stream:read(5) == "leave" then
        local _ <close> = server
        return
      end
      local _ <close> = moonloop.defer(function() ended:set_result("cancelled") end)
      moonloop.sleep_forever()
    end, "127.0.0.1", 0)
    local port = server:port()
    local stays <close> = moonloop.connect("127.0.0.1", port)
    stays:write("stays")
    wait_all_blocked()
    local leaves <close> = moonloop.connect("127.0.0.1", port)
    leaves:write("leave")
    assert.equal("cancelled", bounded(ended.await, ended))
    bounded(server.wait_closed, server)
  end)
end)

describe("A Server that closes its connections", function()
  for _, how in ipairs { "close_clients", "abort_clients" } do
    it("reports nothing of handlers that were reading: " .. how, function()
      local reports <close> = tasks.reports()
      local server <close> = moonloop.start_server(function(stream)
        for _ in stream:chunks() do assert(false, "nothing comes") end
      end, "127.0.0.1", 0)
      local one <close> = moonloop.connect("127.0.0.1", server:port())
      local other <close> = moonloop.connect("127.0.0.1", server:port())
      wait_all_blocked()
      server[how](server)
      wait_all_blocked()
      assert.is_true(pcall(one.read, one) or how == "abort_clients")
      assert.is_true(pcall(other.read, other) or how == "abort_clients")
      wait_all_blocked()
      assert.same({}, reports)
    end)

    it("reports what a handler of these raises besides: " .. how, function()
      local reports <close> = tasks.reports()
      local server <close> = moonloop.start_server(function(stream)
        pcall(stream.read, stream)
        error("its own mistake", 0)
      end, "127.0.0.1", 0)
      local client <close> = moonloop.connect("127.0.0.1", server:port())
      wait_all_blocked()
      server[how](server)
      wait_all_blocked()
      assert.equal(1, #reports)
      assert.equal("its own mistake", reports[1].error)
      assert.is_not_nil(client)
    end)

    it("reports nothing of a protocol that greets at that very time: " .. how, function()
      local reports <close> = tasks.reports()
      local server
      server = loop:create_server(function()
        loop:call_soon(server[how], server) -- runs before connection_made
        return protocols.recorder {
          connection_made = function(_, transport) transport:write("welcome") end,
        }
      end, "127.0.0.1", 0)
      local client <close> = moonloop.connect("127.0.0.1", server:port())
      pcall(bounded, client.read, client)
      wait_all_blocked()
      assert.same({}, reports)
      server:close()
      bounded(server.wait_closed, server)
    end)
  end
end)

describe("Port 0 on several addresses", function()
  local TAKEN <const>, TRIES <const> = 400, 150

  it("is one that is free on all of them, however many are taken on one", function()
    local taken = {}
    local _ <close> = moonloop.defer(function()
      for _, socket in ipairs(taken) do socket:close() end
    end)
    for i = 1, TAKEN do taken[i] = sockets.listener { host = "127.0.0.2" } end
    for _ = 1, TRIES do
      local server <close> = moonloop.start_server(greet, { "127.0.0.1", "127.0.0.2" }, 0)
      assert.equal(2, #server:sockets())
    end
  end)

  it("is an AddressInUseError where the program names a port that is taken on one", function()
    local taken <close>, address = sockets.listener { host = "127.0.0.2" }
    net.raises("AddressInUseError", moonloop.start_server, greet, { "127.0.0.1", "127.0.0.2" },
      address.port)
    assert.is_true(taken:fileno() >= 0)
  end)
end)

describe("A host that is named twice", function()
  it("is listened on once", function()
    for _, hosts in ipairs { { "127.0.0.1", "127.0.0.1" }, { "localhost", "127.0.0.1" } } do
      local server <close> = moonloop.start_server(greet, hosts, 0, { family = "inet" })
      assert.equal(1, #server:sockets())
      assert.equal("welcome", greeting(server:port()))
    end
  end)
end)

describe("A Unix server's file", function()
  it("is left alone on closing when another has taken its place", function()
    local place <close> = pipes.free_path()
    local first = moonloop.start_unix_server(greet, place.path)
    os.remove(place.path)
    local second <close> = moonloop.start_unix_server(greet, place.path)
    first:close()
    local client <close> = moonloop.connect_unix(place.path)
    assert.equal("welcome", client:read())
    assert.is_true(second:is_serving())
  end)
end)
