-- SPDX-License-Identifier: MIT
-- Sockets when things happen in the same turn: data and a cancellation, a connection and a close,
-- a descriptor's number that comes again, a Socket that is collected, a run that ends.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local script = require "spec.support.script"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"

local socket = moonloop.socket
local wait_all_blocked = moonloop.testing.wait_all_blocked

describe("Data and a cancellation in the same turn", function()
  it("lose no byte, whichever comes first", function()
    for _, data_first in ipairs { true, false } do
      local a, b, _ <close> = sockets.socketpair()
      local task = tasks.start(a.recv, a)
      if data_first then b:sendall("data") end
      task:cancel()
      if not data_first then b:sendall("data") end
      local ok, got = tasks.outcome(task)
      if ok then
        assert.equal("data", got)
      else
        assert.is_true(moonloop.is_error(got, "CancelledError"))
        assert.equal("data", a:recv())
      end
    end
  end)
end)

describe("A reader that always finds something", function()
  it("lets others run, and is cancelled between two of its turns without losing a byte", function()
    local a, b, _ <close> = sockets.socketpair()
    local text = net.text(150000)
    local sender = tasks.start(b.sendall, b, text)
    local got = {}
    local reader = moonloop.create_task(function()
      while true do got[#got + 1] = a:recv(10) end
    end)
    moonloop.sleep(0)
    assert.is_true(#got > 0 and #got < #text // 10)
    assert.is_true(tasks.cancel(reader))
    local rest = sockets.take(a, #text - #table.concat(got))
    assert.is_true(table.concat(got) .. rest == text)
    sender:await()
  end)
end)

describe("A connection and a cancellation in the same turn", function()
  it("are an accepted connection, or one that the next accept gets", function()
    local listener <close>, address = sockets.listener()
    local task = tasks.start(listener.accept, listener)
    local client <close> = socket.tcp()
    client:connect(address)
    task:cancel()
    local ok, accepted = tasks.outcome(task)
    if not ok then accepted = listener:accept() end
    local _ <close> = accepted
    assert.same(client:getsockname(), accepted:getpeername())
  end)

  it("leave no half connected socket behind", function()
    local _ <close>, address = sockets.listener()
    local near <close> = socket.tcp()
    local task = moonloop.create_task(near.connect, near, address)
    moonloop.sleep(0)
    task:cancel()
    local ok = tasks.outcome(task)
    assert.equal(ok, near:fileno() >= 0)
  end)
end)

describe("A connection and a close of the listener in the same turn", function()
  it("are a connection or InvalidStateError, and no descriptor is left over", function()
    local listener, address = sockets.listener()
    local task = tasks.start(listener.accept, listener)
    local client <close> = socket.tcp()
    client:connect(address)
    local before = sockets.count_descriptors()
    listener:close()
    local ok, accepted = tasks.outcome(task)
    if ok then
      accepted:close()
    else
      assert.is_true(moonloop.is_error(accepted, "InvalidStateError"))
    end
    assert.equal(before - 1, sockets.count_descriptors())
  end)
end)

describe("Data and a close in the same turn", function()
  it("give the reader its data or InvalidStateError, never a part or the end of file", function()
    local a, b <close> = socket.socketpair()
    local task = tasks.start(a.recv, a)
    b:sendall("data")
    a:close()
    local ok, got = tasks.outcome(task)
    if ok then assert.equal("data", got) end
    assert.is_true(ok or moonloop.is_error(got, "InvalidStateError"))
  end)

  it("give the reader InvalidStateError from the call after that", function()
    local a, b <close> = socket.socketpair()
    local errors = {}
    local task = tasks.start(function()
      for _ = 1, 2 do
        local ok, err = pcall(a.recv, a)
        if not ok then errors[#errors + 1] = err end
      end
    end)
    b:sendall("data")
    a:close()
    task:await()
    assert.is_true(#errors > 0)
    for _, err in ipairs(errors) do
      assert.is_true(moonloop.is_error(err, "InvalidStateError"), tostring(err))
    end
  end)
end)

describe("The number of a descriptor that was closed", function()
  it("serves the next socket that gets it, while the first's reader is still to wake", function()
    local a, b <close> = socket.socketpair()
    local first = tasks.start(a.recv, a)
    local number = a:fileno()
    a:close()
    local c, d, _ <close> = sockets.socketpair()
    assert.is_true(c:fileno() == number or d:fileno() == number)
    local reused, other = c, d
    if d:fileno() == number then reused, other = d, c end
    local second = tasks.start(reused.recv, reused)
    net.raises("InvalidStateError", first.await, first)
    other:sendall("for the second")
    assert.equal("for the second", second:await())
    assert.is_true(b:fileno() >= 0)
  end)

  it("is watched anew for writing too", function()
    local a, b = socket.socketpair()
    sockets.fill(a)
    local first = tasks.start(a.send, a, "x")
    a:close()
    b:close()
    net.raises("InvalidStateError", first.await, first)
    local c, d, _ <close> = sockets.socketpair()
    local count = sockets.fill(c)
    local second = tasks.start(c.send, c, "y")
    assert.is_false(second:done())
    sockets.take(d, count)
    assert.equal(1, second:await())
  end)

  it("is watched anew after detach", function()
    local a, b <close> = socket.socketpair()
    tasks.cancel(tasks.start(a.recv, a))
    local again <close> = socket.from_fd(a:detach())
    local task = tasks.start(again.recv, again)
    b:sendall("for the new one")
    assert.equal("for the new one", task:await())
  end)
end)

describe("A reset", function()
  it("wakes reader and writer", function()
    local near <close>, far = sockets.tcp_pair()
    near:setsockopt("SO_SNDBUF", 4096)
    sockets.fill(near)
    local reader = tasks.start(near.recv, near)
    local writer = tasks.start(near.sendall, near, ("x"):rep(8 << 20))
    assert.is_false(reader:done() or writer:done())
    far:setsockopt("SO_LINGER", 0)
    far:close()
    for _, task in ipairs { reader, writer } do
      local ok, err = tasks.outcome(task)
      assert.is_true(ok or moonloop.is_error(err, "ConnectionError"), tostring(err))
    end
    assert.is_false(pcall(near.sendall, near, "x"))
  end)
end)

describe("A close from a callback of the loop", function()
  it("wakes the reader", function()
    local a, _, _ <close> = sockets.socketpair()
    local task = tasks.start(a.recv, a)
    moonloop.get_running_loop():call_soon(a.close, a)
    net.raises("InvalidStateError", task.await, task)
  end)
end)

describe("A Socket that closes itself in the task that was just woken", function()
  it("wakes the other waiter", function()
    local a, b <close> = socket.socketpair()
    sockets.fill(a)
    local writer = tasks.start(a.send, a, "x")
    local reader = tasks.start(function()
      local data = a:recv()
      a:close()
      return data
    end)
    b:sendall("data")
    assert.equal("data", reader:await())
    net.raises("InvalidStateError", writer.await, writer)
  end)
end)

describe("A Socket that is collected", function()
  local function forget_one_end()
    local near, far = sockets.tcp_pair()
    near:sendall("left")
    return far
  end

  it("closes its descriptor", function()
    local far <close> = forget_one_end()
    collectgarbage()
    collectgarbage()
    assert.equal("left", far:recv())
    assert.is_nil(far:recv())
  end)

  it("is not, while a task waits on it", function()
    local a, b <close> = socket.socketpair()
    local task = tasks.start(a.recv, a)
    a = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    b:sendall("held")
    assert.equal("held", task:await())
    task = nil -- luacheck: ignore 311
    collectgarbage()
    wait_all_blocked()
  end)
end)

describe("A run that ends", function()
  it("cancels who waits on a Socket, which clean-up finds open", function()
    local status, out, err = script.run [[
      local moonloop = require "moonloop"
      local a, b = moonloop.socket.socketpair()
      moonloop.create_task(function()
        local _ <close> = moonloop.defer(function()
          b:sendall("bye")
          print(a:recv())
        end)
        a:recv()
      end)
      moonloop.sleep(0)]]
    assert.same({ 0, "bye\n", "" }, { status, out, err })
  end)

  it("is not held up by Sockets that nobody waits on", function()
    local status, out, err = script.run [[
      local moonloop = require "moonloop"
      local a, b = moonloop.socket.socketpair()
      local listener = moonloop.socket.tcp()
      listener:bind { host = "127.0.0.1", port = 0 }
      listener:listen()
      a:sendall("x")
      print(b:recv())]]
    assert.same({ 0, "x\n", "" }, { status, out, err })
  end)
end)

describe("A task that waits on a Socket", function()
  it("is no deadlock, since something may come", function()
    local status, out, err = script.run [[
      local moonloop = require "moonloop"
      local listener <close> = moonloop.socket.tcp()
      listener:bind { host = "127.0.0.1", port = 0 }
      listener:listen()
      os.execute(("bash -c 'sleep 0.2; echo came >/dev/tcp/127.0.0.1/%d' &")
        :format(listener:getsockname().port))
      local client <close> = listener:accept()
      print((client:recv():gsub("\n", "")))]]
    assert.same({ 0, "came\n", "" }, { status, out, err })
  end)
end)

describe("Many Sockets", function()
  it("each wake their own reader", function()
    local pairs_of, readers = {}, {}
    for i = 1, 50 do
      local a, b = socket.socketpair()
      pairs_of[i] = { a, b }
      readers[i] = moonloop.create_task(a.recv, a)
    end
    wait_all_blocked()
    for i = 50, 1, -1 do pairs_of[i][2]:sendall("number " .. i) end
    for i = 1, 50 do
      assert.equal("number " .. i, readers[i]:await())
      pairs_of[i][1]:close()
      pairs_of[i][2]:close()
    end
  end)
end)
