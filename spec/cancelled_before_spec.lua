-- SPDX-License-Identifier: MIT
-- Calls of a task whose cancellation has come already: those that could complete at once raise,
-- too, and take nothing; a block that it leaves closes its stream as a cancellation does.
local moonloop = require "moonloop"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()

-- Calls `fn` in a task that has been cancelled.
local function cancelled(fn, ...)
  local args = table.pack(...)
  local task = moonloop.create_task(function()
    moonloop.current_task():cancel()
    fn(table.unpack(args, 1, args.n))
  end)
  local ok = tasks.outcome(task)
  assert.is_false(ok)
  assert.is_true(task:cancelled())
end

local function nothing() end

local function unexpected() error("the factory was called") end

describe("A connected socket stays open when the call raises CancelledError:", function()
  local CALLS = {
    connect = function(sock) moonloop.connect(nil, nil, { sock = sock }) end,
    open_connection = function(sock) moonloop.open_connection(nil, nil, { sock = sock }) end,
    connect_unix = function(sock) moonloop.connect_unix(nil, { sock = sock }) end,
    open_unix_connection = function(sock) moonloop.open_unix_connection(nil, { sock = sock }) end,
    ["loop:create_connection"] = function(sock)
      loop:create_connection(unexpected, nil, nil, { sock = sock })
    end,
    ["loop:create_unix_connection"] = function(sock)
      loop:create_unix_connection(unexpected, nil, { sock = sock })
    end,
  }

  for what, call in pairs(CALLS) do
    it(what, function()
      local near, far, _ <close> = sockets.socketpair()
      cancelled(call, near)
      near:send("still open")
      assert.equal("still open", far:recv())
    end)
  end
end)

describe("A listening socket stays open when the call raises CancelledError:", function()
  local CALLS = {
    start_server = function(sock) moonloop.start_server(nothing, nil, nil, { sock = sock }) end,
    start_unix_server = function(sock)
      moonloop.start_unix_server(nothing, nil, { sock = sock })
    end,
    ["loop:create_server"] = function(sock)
      loop:create_server(unexpected, nil, nil, { sock = sock })
    end,
    ["loop:create_unix_server"] = function(sock)
      loop:create_unix_server(unexpected, nil, { sock = sock })
    end,
  }

  for what, call in pairs(CALLS) do
    it(what, function()
      local name = protocols.abstract_name()
      local listener <close> = moonloop.socket.unix()
      listener:bind { path = name }
      listener:listen()
      cancelled(call, listener)
      local accepting = moonloop.create_task(listener.accept, listener)
      local client <close> = moonloop.connect_unix(name)
      accepting:await():close()
      assert.equal("", client:read())
    end)
  end
end)

describe("A call that opens something raises CancelledError and leaves nothing open:", function()
  local CALLS = {
    start_server = function() moonloop.start_server(nothing, "127.0.0.1", 0) end,
    start_unix_server = function()
      moonloop.start_unix_server(nothing, protocols.abstract_name())
    end,
    ["loop:create_server"] = function() loop:create_server(unexpected, "127.0.0.1", 0) end,
    ["loop:create_datagram_endpoint"] = function()
      loop:create_datagram_endpoint(unexpected, { local_addr = { host = "127.0.0.1" } })
    end,
    open_datagram = function() moonloop.open_datagram { local_addr = { host = "127.0.0.1" } } end,
  }

  for what, call in pairs(CALLS) do
    it(what, function()
      local before = sockets.count_descriptors()
      cancelled(call)
      assert.equal(before, sockets.count_descriptors())
    end)
  end
end)

describe("A descriptor is closed when the call that owns it raises CancelledError:", function()
  local CALLS = {
    ["loop:connect_accepted_socket"] = function(fd)
      loop:connect_accepted_socket(unexpected, fd)
    end,
    ["loop:connect_read_pipe"] = function(fd) loop:connect_read_pipe(unexpected, fd) end,
    ["loop:connect_write_pipe"] = function(fd) loop:connect_write_pipe(unexpected, fd) end,
    ["loop:create_connection"] = function(fd)
      loop:create_connection(unexpected, nil, nil, { sock = fd })
    end,
    connect = function(fd) moonloop.connect(nil, nil, { sock = fd }) end,
    connect_unix = function(fd) moonloop.connect_unix(nil, { sock = fd }) end,
  }

  for what, call in pairs(CALLS) do
    it(what, function()
      local near, far <close> = moonloop.socket.socketpair()
      local fd = near:detach()
      cancelled(call, fd)
      assert.is_false(pipes.is_open(fd))
      assert.is_nil(far:recv())
    end)
  end
end)

describe("A method of a Stream that could complete at once raises CancelledError:", function()
  local CALLS = {
    ["read(0)"] = function(stream) stream:read(0) end,
    ["peek(0)"] = function(stream) stream:peek(0) end,
    ["readexactly(0)"] = function(stream) stream:readexactly(0) end,
    ["read(1)"] = function(stream) stream:read(1) end,
    ["peek(1)"] = function(stream) stream:peek(1) end,
    ["readline()"] = function(stream) stream:readline() end,
    ["write(\"\")"] = function(stream) stream:write("") end,
    ["writelines({})"] = function(stream) stream:writelines({}) end,
    ["drain()"] = function(stream) stream:drain() end,
    ["sendfile of nothing"] = function(stream) stream:sendfile("/dev/null", 0, 0) end,
    ["wait_closed()"] = function(stream)
      stream:abort()
      stream:wait_closed()
    end,
  }

  for what, call in pairs(CALLS) do
    it(what, function()
      local pair <close> = pipes.pair()
      pair.peer:write("a line\n")
      assert.equal("a", pair.client:peek(1))
      cancelled(call, pair.client)
      if not pair.client:is_closing() then
        assert.equal("a line\n", pair.client:read(7))
      end
    end)
  end
end)

describe("A Stream in a to-be-closed variable", function()
  it("is aborted when its block is left after a cancellation that was swallowed", function()
    local pair <close> = pipes.pair()
    local task = tasks.start(function()
      local stream <close> = pair.client
      while stream:try_write(("x"):rep(50000)) do end
      pcall(moonloop.sleep_forever)
    end)
    tasks.cancel(task)
    assert.matches("(closed)", tostring(pair.client), 1, true)
  end)

  it("is aborted when its block is left within a scope that is cancelled", function()
    local pair <close> = pipes.pair()
    moonloop.move_on_after(0, function()
      local stream <close> = pair.client
      while stream:try_write(("x"):rep(50000)) do end
      pcall(moonloop.sleep_forever)
    end)
    assert.matches("(closed)", tostring(pair.client), 1, true)
  end)

  it("sends all it has when its block is left within a shield from that cancellation", function()
    local pair <close> = pipes.pair()
    local task = tasks.start(function()
      local _ <close> = moonloop.defer(function()
        local stream <close> = pair.client
        stream:write("last words")
      end)
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
    assert.equal("last words", pair.peer:read())
  end)
end)

describe("What a cancelled relay gives back", function()
  -- A relay that waits to write what it has read from `from`, since nobody reads at `to`'s end.
  local function stuck_relay(data)
    local from, to = pipes.pair(), pipes.pair()
    while to.client:try_write(("x"):rep(50000)) do end
    local task = tasks.start(function() moonloop.relay(from.client, to.client) end)
    from.peer:write(data)
    moonloop.testing.wait_all_blocked()
    return task, from, to
  end

  it("wakes a task that reads meanwhile", function()
    local task, from, to = stuck_relay("abc")
    local _ <close> = from
    local _ <close> = to
    local reader = tasks.start(function() return from.client:read(10) end)
    assert.is_false(reader:done())
    assert.is_true(tasks.cancel(task))
    assert.equal("abc", moonloop.wait_for(reader, 20))
  end)

  it("is part of the line that a task reads meanwhile", function()
    local task, from, to = stuck_relay("a\nb")
    local _ <close> = from
    local _ <close> = to
    local reader = moonloop.create_task(function()
      return { from.client:readline(), from.client:readline() }
    end)
    moonloop.testing.wait_all_blocked()
    from.peer:write("cdef")
    moonloop.testing.wait_all_blocked()
    assert.is_true(tasks.cancel(task))
    from.peer:write("\n")
    assert.same({ "a\n", "bcdef\n" }, moonloop.wait_for(reader, 20))
  end)
end)
