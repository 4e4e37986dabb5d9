-- SPDX-License-Identifier: MIT
-- Protocols and their transports: how create_connection brings them together, what a
-- factory and a class may be, what fails and what can be cancelled. Servers, the methods of
-- transports, the order of callbacks, flow control and other kinds of connections have specs of
-- their own.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Connects a protocol to a Stream, which comes out of a server. Awaits.
-- @return transport, protocol, Stream, and what to close in the end
local function beside_handler(factory, opts)
  local came, done = moonloop.Future(), moonloop.Future()
  local server = moonloop.start_server(function(stream)
    came:set_result(stream)
    done:await()
  end, "127.0.0.1", 0)
  local transport, protocol = loop:create_connection(factory, "127.0.0.1", server:port(), opts)
  return transport, protocol, came:await(), moonloop.defer(function()
    transport:abort()
    done:set_result()
    server:close()
    server:wait_closed()
  end)
end

describe("create_connection", function()
  it("gives the transport and the protocol, whose connection_made has been called", function()
    local made
    local mine = { connection_made = function(self, transport) made = { self, transport } end }
    local transport, protocol, _, closing = beside_handler(function() return mine end)
    local _ <close> = closing
    assert.equal(mine, protocol)
    assert.equal(mine, made[1])
    assert.equal(transport, made[2])
    assert.equal(mine, transport:get_protocol())
  end)

  it("calls the factory once, with no arguments", function()
    local calls = {}
    local _, _, _, closing = beside_handler(function(...)
      calls[#calls + 1] = select("#", ...)
      return {}
    end)
    local _ <close> = closing
    assert.same({ 0 }, calls)
  end)

  it("takes whatever can be called as a factory", function()
    local mine = {}
    local factory = setmetatable({}, { __call = function() return mine end })
    local _, protocol, _, closing = beside_handler(factory)
    local _ <close> = closing
    assert.equal(mine, protocol)
  end)

  it("takes a protocol without any method", function()
    local reports <close> = tasks.reports()
    local transport, _, stream, closing = beside_handler(function() return {} end)
    local _ <close> = closing
    stream:write("nobody looks at this")
    wait_all_blocked()
    transport:write("but this goes out")
    assert.equal("but this goes out", stream:readexactly(17))
    stream:write_eof()
    assert.is_nil(stream:read(1))
    wait_all_blocked()
    assert.is_true(transport:is_closing())
    assert.same({}, reports)
  end)

  it("raises what the factory raises, and closes the connection", function()
    local ended = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      ended:set_result(stream:read())
    end, "127.0.0.1", 0)
    local failure = tasks.failure(function()
      loop:create_connection(function() error("no protocol today", 0) end, "127.0.0.1",
        server:port())
    end)
    assert.equal("no protocol today", failure)
    assert.equal("", ended:await())
  end)

  it("raises an Error when the factory gives no table, and closes the connection", function()
    for _, value in ipairs { "text", 1, print, false } do
      local ended = moonloop.Future()
      local server <close> = moonloop.start_server(function(stream)
        ended:set_result(stream:read())
      end, "127.0.0.1", 0)
      net.raises("Error", loop.create_connection, loop, function() return value end,
        "127.0.0.1", server:port())
      assert.equal("", ended:await())
    end
  end)

  it("raises ConnectionRefusedError, and never calls the factory", function()
    local port = net.free_port()
    local called = false
    local err = net.raises("ConnectionRefusedError", loop.create_connection, loop, function()
      called = true
      return {}
    end, "127.0.0.1", port)
    assert.equal("ECONNREFUSED", err.code)
    assert.matches("127.0.0.1:" .. port, tostring(err), 1, true)
    assert.is_false(called)
  end)

  it("tries all addresses of a list", function()
    local server <close> = moonloop.start_server(function(stream) stream:read() end,
      "127.0.0.2", 0)
    local transport, protocol = loop:create_connection(protocols.recorder,
      { "127.0.0.1", "127.0.0.2" }, server:port())
    assert.equal("127.0.0.2", transport:get_extra_info("peername").host)
    transport:close()
    protocol:lost()
    local port = net.free_port()
    local err = net.raises("ConnectionRefusedError", loop.create_connection, loop,
      protocols.recorder, { "127.0.0.1", "127.0.0.2" }, port)
    assert.equal(2, #err.errors)
  end)

  it("binds to local_addr first", function()
    local transport, _, stream, closing = beside_handler(protocols.recorder,
      { local_addr = { host = "127.0.0.3" } })
    local _ <close> = closing
    assert.equal("127.0.0.3", stream:get_extra_info("peername").host)
    assert.equal("127.0.0.3", transport:get_extra_info("sockname").host)
  end)

  it("takes a socket that is connected already, and empties it", function()
    local server <close> = moonloop.start_server(function(stream)
      stream:write(stream:readline())
    end, "127.0.0.1", 0)
    local socket = moonloop.socket.tcp()
    socket:connect { host = "127.0.0.1", port = server:port() }
    local transport, protocol = loop:create_connection(protocols.recorder, nil, nil,
      { sock = socket })
    assert.equal(-1, socket:fileno())
    transport:write("through a socket\n")
    assert.equal("through a socket\n", protocol:finished())
    assert.is_nil(protocol:lost())
    protocol:check()
  end)
end)

describe("Waiting for create_connection", function()
  -- Starts to connect to a peer that never answers.
  local function connecting(raw, opts)
    local port = math.tointeger(raw:ask("listen_full"))
    local called = false
    return tasks.start(function()
      loop:create_connection(function()
        called = true
        return {}
      end, "127.0.0.1", port, opts)
    end), function() return called end
  end

  it("can be cancelled, and leaves nothing open", function()
    local raw <close> = peers.raw()
    local mark = moonloop.testing.mark()
    local task, called = connecting(raw)
    assert.is_false(task:done())
    assert.equal(2, #moonloop.testing.leaks(mark)) -- the task and its descriptor
    assert.is_true(tasks.cancel(task))
    wait_all_blocked()
    assert.is_false(called())
    assert.same({}, moonloop.testing.leaks(mark))
  end)

  it("ends with TimeoutError after the option's time", function()
    local raw <close> = peers.raw()
    local task, called = connecting(raw, { timeout = 0.05 })
    net.raises("TimeoutError", task.await, task)
    assert.is_false(called())
  end)

  it("is over at once in a scope that is cancelled already", function()
    local made = 0
    local server <close> = moonloop.start_server(function() made = made + 1 end, "127.0.0.1", 0)
    local task = moonloop.create_task(function()
      loop:create_connection(protocols.recorder, "127.0.0.1", server:port())
    end)
    task:cancel()
    net.raises("CancelledError", task.await, task)
    wait_all_blocked()
    assert.equal(0, made)
  end)

  it("cannot be done by a callback of the loop", function()
    local reports <close> = tasks.reports()
    loop:call_soon(function() loop:create_connection(protocols.recorder, "127.0.0.1", 1) end)
    wait_all_blocked()
    assert.equal(1, #reports)
    assert.matches("no running task", tostring(reports[1].error), 1, true)
  end)
end)

describe("Protocol:extend", function()
  it("makes a class, which is a factory itself", function()
    local Upper = moonloop.Protocol:extend {
      connection_made = function(self, transport) self.transport = transport end,
      data_received = function(self, data) self.transport:write(data:upper()) end,
    }
    local transport, protocol, stream, closing = beside_handler(Upper)
    local _ <close> = closing
    stream:write("louder")
    assert.equal("LOUDER", stream:readexactly(6))
    assert.equal(transport, protocol.transport)
    assert.equal(Upper.data_received, protocol.data_received)
  end)

  it("makes instances by new, each with its own fields", function()
    local Class = moonloop.Protocol:extend { answer = function() return 42 end, shared = "yes" }
    local one, other = Class:new(), Class:new()
    assert.is_false(rawequal(one, other))
    one.mine = 1
    assert.is_nil(other.mine)
    assert.is_nil(Class.mine)
    assert.equal(42, other:answer())
    assert.equal("yes", one.shared)
  end)

  it("makes classes of classes, which have the methods of both", function()
    local Base = moonloop.Protocol:extend {
      name = function() return "base" end, kept = function() return "kept" end,
    }
    local Derived = Base:extend { name = function() return "derived" end }
    local object = Derived:new()
    assert.equal("derived", object:name())
    assert.equal("kept", object:kept())
    assert.equal("base", Base:new():name())
  end)

  it("makes a class without methods, whose callbacks do nothing", function()
    local reports <close> = tasks.reports()
    local Silent = moonloop.Protocol:extend {}
    local transport, _, stream, closing = beside_handler(Silent)
    local _ <close> = closing
    stream:write("ignored")
    stream:write_eof()
    assert.is_nil(stream:read(1)) -- eof_received has no say, so the transport closes
    assert.is_true(transport:is_closing())
    assert.same({}, reports)
  end)

  it("gives a fresh protocol to each connection of a server", function()
    local seen = {}
    local Class = moonloop.Protocol:extend {
      connection_made = function(self) seen[self] = true end,
    }
    local server <close> = loop:create_server(Class, "127.0.0.1", 0)
    local one <close> = moonloop.connect("127.0.0.1", server:port())
    local other <close> = moonloop.connect("127.0.0.1", server:port())
    wait_all_blocked()
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    assert.equal(2, count)
    one:abort()
    other:abort()
  end)

  it("refuses what is no table of methods", function()
    net.refuses("bad argument", moonloop.Protocol.extend, moonloop.Protocol, 1)
    net.refuses("bad argument", moonloop.Protocol.extend, moonloop.Protocol, "x")
  end)
end)

describe("Bad arguments", function()
  local function factory() return {} end

  local function refuse_all(name, list)
    for _, case in ipairs(list) do
      local what, arguments = case[1], table.pack(table.unpack(case, 2, case.n or #case))
      local err = net.refuses(what, loop[name], loop, table.unpack(arguments, 1, arguments.n))
      assert.matches("bad argument #%d to '" .. name .. "'", err)
    end
  end

  it("of create_connection are refused before anything is done", function()
    refuse_all("create_connection", {
      { "#1", 1, "127.0.0.1", 80 },
      { "#1", nil, "127.0.0.1", 80, n = 4 },
      { "#1", {}, "127.0.0.1", 80 },
      { "#2", factory, nil, 80, n = 4 },
      { "#2", factory, true, 80 },
      { "#2", factory, {}, 80 },
      { "#3", factory, "127.0.0.1" },
      { "#3", factory, "127.0.0.1", "http" },
      { "#3", factory, "127.0.0.1", 0 },
      { "#3", factory, "127.0.0.1", 65536 },
      { "#3", factory, "127.0.0.1", 1.5 },
      { "#4", factory, "127.0.0.1", 80, 1 },
      { "timeout", factory, "127.0.0.1", 80, { timeuot = 1 } },
      { "option 'timeout'", factory, "127.0.0.1", 80, { timeout = "1" } },
      { "option 'family'", factory, "127.0.0.1", 80, { family = "ipx" } },
      { "limit", factory, "127.0.0.1", 80, { limit = 10 } },
      { "option 'local_addr'", factory, "127.0.0.1", 80, { local_addr = "127.0.0.1" } },
      { "sock", factory, "127.0.0.1", 80, { sock = 1 } },
    })
  end)

  it("of create_server are refused before anything is done", function()
    refuse_all("create_server", {
      { "#1", 1, "127.0.0.1", 0 },
      { "#1", nil, "127.0.0.1", 0, n = 4 },
      { "#2", factory, 1, 0 },
      { "#3", factory, "127.0.0.1" },
      { "#3", factory, "127.0.0.1", -1 },
      { "#3", factory, "127.0.0.1", 65536 },
      { "#4", factory, "127.0.0.1", 0, "backlog" },
      { "backlog", factory, "127.0.0.1", 0, { backlogs = 1 } },
      { "option 'start_serving'", factory, "127.0.0.1", 0, { start_serving = 1 } },
      { "limit", factory, "127.0.0.1", 0, { limit = 10 } },
    })
  end)

  it("of connect_accepted_socket, pipes and Unix sockets are refused", function()
    refuse_all("connect_accepted_socket", {
      { "#1", 1, 1 }, { "#2", factory }, { "#2", factory, "x" }, { "#2", factory, 1.5 },
    })
    for _, name in ipairs { "connect_read_pipe", "connect_write_pipe" } do
      refuse_all(name, {
        { "#1", 1, 1 }, { "#2", factory }, { "#2", factory, "x" }, { "#2", factory, -1 },
      })
    end
    for _, name in ipairs { "create_unix_connection", "create_unix_server" } do
      refuse_all(name, {
        { "#1", 1, "\0name" }, { "#2", factory }, { "#2", factory, 1 },
        { "#3", factory, "\0name", 1 }, { "there is no option", factory, "\0name", { x = 1 } },
      })
    end
  end)
end)
