-- SPDX-License-Identifier: MIT
-- Every call of a Socket that may wait, four ways: ready at once, ready later, cancelled while it
-- waits, closed while it waits. And one waiter in each direction.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local socket = moonloop.socket
local wait_all_blocked = moonloop.testing.wait_all_blocked

local Case = {}
Case.__index = Case
Case.__close = function(self)
  for _, one in ipairs(self.open) do one:close() end
end

-- A call that waits until `ready` has run; `socket` is whom it is called on, `check` looks at what
-- it gives.
local function case(fields)
  return setmetatable(fields, Case)
end

-- The calls that write on a socket whose system buffer is full.
local function full_case(call, check)
  local a, b = socket.socketpair()
  local count = sockets.fill(a)
  return case {
    socket = a, open = { a, b }, call = function() return call(a) end, check = check(b),
    ready = function() assert(sockets.is_filling(sockets.take(b, count))) end,
  }
end

-- The calls that write datagrams where the receiver's queue is full.
local function full_datagram_case(connected)
  local folder = sockets.folder()
  local a, b = socket.unix("dgram"), socket.unix("dgram")
  local address = { path = folder:file("b") }
  b:bind(address)
  if connected then a:connect(address) end
  local function send(text)
    if connected then return a:send(text) end
    return a:sendto(text, address)
  end
  local count = 0
  tasks.cancel(tasks.start(function()
    while true do count = count + send("filling") end
  end))
  return case {
    socket = a, open = { a, b, folder },
    call = function() return send("datagram") end,
    ready = function()
      for _ = 1, count // #"filling" do assert.equal("filling", b:recv()) end
    end,
    check = function(sent)
      assert.equal(#"datagram", sent)
      assert.equal("datagram", b:recv())
    end,
  }
end

local CALLS = {
  accept = function()
    local listener, address = sockets.listener()
    local client = socket.tcp()
    return case {
      socket = listener, open = { listener, client },
      call = function() return listener:accept() end,
      ready = function() client:connect(address) end,
      check = function(accepted, from)
        assert.same(client:getsockname(), from)
        accepted:close()
      end,
    }
  end,

  recv = function()
    local a, b = sockets.tcp_pair()
    return case {
      socket = a, open = { a, b }, call = function() return a:recv(4) end,
      ready = function() b:sendall("four") end,
      check = function(data) assert.equal("four", data) end,
    }
  end,

  recvfrom = function()
    local a, b = socket.udp(), socket.udp()
    a:bind { host = "127.0.0.1", port = 0 }
    b:bind { host = "127.0.0.1", port = 0 }
    return case {
      socket = a, open = { a, b }, call = function() return a:recvfrom() end,
      ready = function() b:sendto("datagram", a:getsockname()) end,
      check = function(data, from)
        assert.equal("datagram", data)
        assert.same(b:getsockname(), from)
      end,
    }
  end,

  send = function()
    return full_case(function(a) return a:send("some") end, function(b)
      return function(sent) assert.equal(("some"):sub(1, sent), b:recv(sent)) end
    end)
  end,

  sendall = function()
    return full_case(function(a) a:sendall("all of it") end, function(b)
      return function() assert.equal("all of it", sockets.take(b, 9)) end
    end)
  end,

  ["send of a datagram"] = function() return full_datagram_case(true) end,
  sendto = function() return full_datagram_case(false) end,
}

for name, make in pairs(CALLS) do
  describe("Socket:" .. name, function()
    it("returns without letting others run when it is ready at once", function()
      local c <close> = make()
      c.ready()
      wait_all_blocked()
      local others_ran = false
      local other = moonloop.create_task(function() others_ran = true end)
      local got = table.pack(c.call())
      assert.is_false(others_ran)
      c.check(table.unpack(got, 1, got.n))
      other:await()
    end)

    it("waits until it is ready", function()
      local c <close> = make()
      local task = tasks.start(c.call)
      assert.is_false(task:done())
      c.ready()
      c.check(task:await())
    end)

    it("has done nothing when it is cancelled while it waits", function()
      local c <close> = make()
      local task = tasks.start(c.call)
      assert.is_true(tasks.cancel(task))
      c.ready()
      c.check(c.call())
    end)

    it("raises InvalidStateError when the socket is closed while it waits", function()
      local c <close> = make()
      local task = tasks.start(c.call)
      c.socket:close()
      net.raises("InvalidStateError", task.await, task)
    end)

    it("keeps the socket from being detached while it waits", function()
      local c <close> = make()
      local task = tasks.start({ name = "the waiter" }, c.call)
      local err = net.raises("InvalidStateError", c.socket.detach, c.socket)
      assert.matches("the waiter", err.message, 1, true)
      c.ready()
      c.check(task:await())
    end)

    it("raises CancelledError in a cancelled scope, also when it is ready", function()
      local c <close> = make()
      c.ready()
      wait_all_blocked()
      local scope = moonloop.CancelScope()
      local ended = scope:run(function()
        scope:cancel()
        c.call()
      end)
      assert.is_false(ended)
      c.check(c.call())
    end)
  end)
end

describe("Socket:connect", function()
  it("is connected when it returns", function()
    local _ <close>, address = sockets.listener()
    local near <close> = socket.tcp()
    near:connect(address)
    assert.same(address, near:getpeername())
  end)

  it("waits until the listener has room", function()
    local hole <close> = sockets.hole()
    local near <close> = socket.tcp()
    local task = tasks.start(near.connect, near, hole.address)
    assert.is_false(task:done())
    local _ <close> = hole.listener:accept()
    task:await()
    assert.same(hole.address, near:getpeername())
  end)

  it("closes the socket when it is cancelled while it waits", function()
    local hole <close> = sockets.hole()
    local near <close> = socket.tcp()
    local task = tasks.start(near.connect, near, hole.address)
    assert.is_true(tasks.cancel(task))
    assert.equal(-1, near:fileno())
    assert.same({}, sockets.connecting(hole.port))
  end)

  it("raises InvalidStateError when the socket is closed while it waits", function()
    local hole <close> = sockets.hole()
    local near <close> = socket.tcp()
    local task = tasks.start(near.connect, near, hole.address)
    near:close()
    net.raises("InvalidStateError", task.await, task)
    assert.same({}, sockets.connecting(hole.port))
  end)

  -- A Unix listener whose backlog is full: its address, and the words to let one in.
  local function full_unix()
    local folder = sockets.folder()
    local address = { path = folder:file("full") }
    local listener, first = socket.unix(), socket.unix()
    listener:bind(address)
    listener:listen(0)
    first:connect(address)
    return case { open = { listener, first, folder }, socket = listener, address = address }
  end

  it("waits until a Unix listener has room", function()
    local full <close> = full_unix()
    local near <close> = socket.unix()
    local task = moonloop.create_task(near.connect, near, full.address)
    for _ = 1, 5 do moonloop.sleep(0) end
    assert.is_false(task:done())
    local _ <close> = full.socket:accept()
    task:await()
    assert.same(full.address, near:getpeername())
  end)

  it("to a Unix listener without room is cancelled, which closes the socket", function()
    local full <close> = full_unix()
    local near <close> = socket.unix()
    local task = moonloop.create_task(near.connect, near, full.address)
    for _ = 1, 5 do moonloop.sleep(0) end
    assert.is_true(tasks.cancel(task))
    assert.equal(-1, near:fileno())
  end)
end)

describe("A cancelled sendall", function()
  it("has sent the beginning, after which the next send goes on", function()
    local a, b, _ <close> = sockets.socketpair()
    local text = net.text(1024 * 1024)
    local task = tasks.start(a.sendall, a, text)
    local got = sockets.take(b, 300000)
    assert.is_true(tasks.cancel(task))
    local reader = moonloop.create_task(sockets.take, b, #text + 3)
    a:sendall("END")
    a:shutdown("write")
    got = got .. reader:await()
    assert.equal("END", got:sub(-3))
    assert.is_true(got:sub(1, -4) == text:sub(1, #got - 3))
    assert.is_true(#got < #text)
  end)
end)

describe("A Socket", function()
  it("is read by one task at a time, which the other's error names", function()
    local a, b, _ <close> = sockets.socketpair()
    local task = tasks.start({ name = "the first" }, a.recv, a)
    for _, call in ipairs { "recv", "recvfrom" } do
      local err = net.raises("InvalidStateError", a[call], a)
      assert.matches("the first", err.message, 1, true)
    end
    b:sendall("for the first")
    assert.equal("for the first", task:await())
  end)

  it("accepts for one task at a time", function()
    local listener <close> = sockets.listener()
    local task = tasks.start({ name = "the first" }, listener.accept, listener)
    local err = net.raises("InvalidStateError", listener.accept, listener)
    assert.matches("the first", err.message, 1, true)
    tasks.cancel(task)
  end)

  it("is written by one task at a time", function()
    local a, b, _ <close> = sockets.socketpair()
    local count = sockets.fill(a)
    local task = tasks.start({ name = "the first" }, a.sendall, a, "whole")
    for _, call in ipairs { "send", "sendall" } do
      local err = net.raises("InvalidStateError", a[call], a, "other")
      assert.matches("the first", err.message, 1, true)
    end
    sockets.take(b, count)
    task:await()
    assert.equal("whole", sockets.take(b, 5))
  end)

  it("sends to an address for one task at a time", function()
    local c <close> = CALLS.sendto()
    local task = tasks.start({ name = "the first" }, c.call)
    local second = tasks.start(c.call)
    local refused = second:done()
    tasks.cancel(second)
    assert.is_true(refused)
    assert.matches("the first", net.raises("InvalidStateError", second.await, second).message,
      1, true)
    c.ready()
    c.check(task:await())
  end)

  it("is free for the next one when the first is cancelled", function()
    local a, b, _ <close> = sockets.socketpair()
    tasks.cancel(tasks.start(a.recv, a))
    local task = tasks.start(a.recv, a)
    b:sendall("next")
    assert.equal("next", task:await())
  end)

  it("is read and written at the same time", function()
    local near, far, _ <close> = sockets.tcp_pair()
    local text = net.text(1024 * 1024)
    local echo = moonloop.create_task(function()
      for data in function() return far:recv(5000) end do far:sendall(data) end
    end)
    local writer = moonloop.create_task(function()
      near:sendall(text)
      near:shutdown("write")
    end)
    assert.is_true(sockets.take(near, #text) == text)
    moonloop.gather(writer, echo)
  end)

  it("wakes the reader while the writer waits on, and the other way round", function()
    local a, b, _ <close> = sockets.socketpair()
    local count = sockets.fill(a)
    local reader, writer = tasks.start(a.recv, a), tasks.start(a.send, a, "x")
    b:sendall("data")
    assert.equal("data", reader:await())
    assert.is_false(writer:done())
    reader = tasks.start(a.recv, a)
    sockets.take(b, count)
    assert.equal(1, writer:await())
    assert.is_false(reader:done())
    tasks.cancel(reader)
  end)

  it("wakes both when it is closed", function()
    local a, _, _ <close> = sockets.socketpair()
    sockets.fill(a)
    local reader, writer = tasks.start(a.recv, a), tasks.start(a.send, a, "x")
    a:close()
    net.raises("InvalidStateError", reader.await, reader)
    net.raises("InvalidStateError", writer.await, writer)
  end)

  it("lets go of one waiter only when that one is cancelled", function()
    local a, b, _ <close> = sockets.socketpair()
    local count = sockets.fill(a)
    local reader, writer = tasks.start(a.recv, a), tasks.start(a.send, a, "x")
    assert.is_true(tasks.cancel(writer))
    b:sendall("data")
    assert.equal("data", reader:await())
    assert.equal(count, #sockets.take(b, count))
  end)
end)

describe("A task that waits on a Socket", function()
  it("says for what in awaiting()", function()
    local near, far, _ <close> = sockets.tcp_pair()
    local task = tasks.start(near.recv, near)
    local address = far:getsockname()
    assert.matches("127.0.0.1:" .. address.port, task:awaiting(), 1, true)
    tasks.cancel(task)
    local hole <close> = sockets.hole()
    local third <close> = socket.tcp()
    task = tasks.start(third.connect, third, hole.address)
    assert.matches("connect.* 127.0.0.1:" .. hole.port, task:awaiting())
    tasks.cancel(task)
  end)
end)
