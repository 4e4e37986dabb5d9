-- SPDX-License-Identifier: MIT
-- The end of a Stream: close flushes and abort drops, wait_closed, <close> on
-- every way out of a block, resets, and what a closed stream says.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local tasks = require "spec.support.tasks"

-- All that comes until the end of file or an error, and that error.
local function read_all(stream)
  local pieces = {}
  local ok, err = pcall(function()
    for piece in function() return stream:read(65536) end do pieces[#pieces + 1] = piece end
  end)
  return table.concat(pieces), not ok and err or nil
end

describe("Stream:close", function()
  it("sends what was written before, then the end of file", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    pair.client:close()
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
    pair.client:wait_closed()
  end)

  it("may be said twice, and after abort", function()
    local pair <close> = net.pair()
    pair.client:close()
    pair.client:close()
    pair.client:abort()
    pair.client:close()
    pair.client:wait_closed()
    assert.is_true(pair.client:is_closing())
  end)

  it("does not wait for the peer to close", function()
    local pair <close> = net.pair()
    pair.client:write("bye")
    pair.client:close()
    pair.client:wait_closed()
    assert.is_false(pair.peer:is_closing())
    assert.equal("bye", pair.peer:read())
  end)

  it("ends a flush that cannot go on when abort follows", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    pair.client:close()
    local task = tasks.start(function() pair.client:wait_closed() end)
    assert.is_false(task:done())
    pair.client:abort()
    task:await()
  end)
end)

describe("Stream:abort", function()
  it("drops what was not sent yet", function()
    local pair <close> = net.pair()
    local size = 64 * 1024 * 1024
    pair.client:write(("x"):rep(size))
    pair.client:abort()
    local got = read_all(pair.peer)
    assert.is_true(#got < size)
  end)

  it("closes at once", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    pair.client:abort()
    assert.is_true(pair.client:is_closing())
    pair.client:wait_closed()
  end)

  it("may be said twice", function()
    local pair <close> = net.pair()
    pair.client:abort()
    pair.client:abort()
    pair.client:wait_closed()
  end)
end)

describe("Stream:is_closing", function()
  it("is false until close or abort", function()
    for _, ending in ipairs({ "close", "abort" }) do
      local pair <close> = net.pair()
      assert.is_false(pair.client:is_closing())
      pair.client[ending](pair.client)
      assert.is_true(pair.client:is_closing())
    end
  end)
end)

describe("Stream:wait_closed", function()
  it("returns at once when the stream is closed already", function()
    local pair <close> = net.pair()
    pair.client:close()
    pair.client:wait_closed()
    assert.is_nil(pair.client:wait_closed())
  end)

  it("waits until what was written is out", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    pair.client:close()
    local task = tasks.start(function() pair.client:wait_closed() end)
    assert.is_false(task:done())
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
    task:await()
  end)

  it("can be cancelled, and the flush goes on", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    pair.client:close()
    local task = tasks.start(function() pair.client:wait_closed() end)
    assert.is_true(tasks.cancel(task))
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
  end)

  it("wakes every task that waits, when the stream is closed", function()
    local pair <close> = net.pair()
    local first = tasks.start(function() pair.client:wait_closed() end)
    local second = tasks.start(function() pair.client:wait_closed() end)
    pair.client:close()
    first:await()
    second:await()
  end)
end)

describe("A Stream in a to-be-closed variable", function()
  it("is closed at the end of the block, with its data out", function()
    local pair <close> = net.pair()
    local kept
    do
      local stream <close> = pair.client
      stream:write("last words")
      kept = stream
    end
    assert.is_true(kept:is_closing())
    assert.equal("last words", pair.peer:read())
  end)

  it("waits at the end of the block until the data is out", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local task = tasks.start(function() local _ <close> = pair.client end)
    assert.is_false(task:done())
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
    task:await()
  end)

  it("is aborted when an error leaves the block, which keeps the error", function()
    local pair <close> = net.pair()
    local size = 64 * 1024 * 1024
    local ok, err = pcall(function()
      local stream <close> = pair.client
      stream:write(("x"):rep(size))
      error("the reason", 0)
    end)
    assert.same({ false, "the reason" }, { ok, err })
    assert.is_true(pair.client:is_closing())
    assert.is_true(#read_all(pair.peer) < size)
  end)

  it("is aborted when a cancellation leaves the block", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local task = tasks.start(function()
      local stream <close> = pair.client
      stream:write("never")
    end)
    assert.is_true(tasks.cancel(task))
    assert.is_true(pair.client:is_closing())
  end)

  it("is aborted when a cancellation comes while it waits for its data", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local task = tasks.start(function() local _ <close> = pair.client end)
    assert.is_true(tasks.cancel(task))
    assert.is_true(pair.client:is_closing())
    pair.client:wait_closed()
  end)
end)

describe("A reset", function()
  local function connected(raw)
    local port = raw:ask("listen 5")
    local stream = moonloop.connect("127.0.0.1", math.tointeger(port))
    raw:ask("accept")
    return stream
  end

  it("is a ConnectionResetError in a read that waits", function()
    local raw <close> = peers.raw()
    local stream <close> = connected(raw)
    local task = tasks.start(function() return stream:read(10) end)
    raw:ask("reset")
    local err = net.raises("ConnectionResetError", task.await, task)
    assert.equal("ECONNRESET", err.code)
    assert.equal("number", type(err.errno))
  end)

  it("is told to every writer that waits", function()
    local raw <close> = peers.raw()
    local stream <close> = connected(raw)
    net.fill(stream)
    local writers = {}
    for i = 1, 3 do writers[i] = moonloop.create_task(stream.write, stream, "more") end
    moonloop.testing.wait_all_blocked()
    raw:ask("reset")
    for _, writer in ipairs(writers) do net.raises("ConnectionResetError", writer.await, writer) end
  end)

  it("is a ConnectionResetError in later reads and writes", function()
    local raw <close> = peers.raw()
    local stream <close> = connected(raw)
    raw:ask("reset")
    for _ = 1, 2 do
      net.raises("ConnectionResetError", stream.read, stream, 10)
      net.raises("ConnectionResetError", stream.readline, stream)
      net.raises("ConnectionResetError", stream.write, stream, "x")
    end
  end)

  it("is no end of file for read()", function()
    local raw <close> = peers.raw()
    local stream <close> = connected(raw)
    raw:ask("send half of it")
    local task = tasks.start(function() return stream:read() end)
    raw:ask("reset")
    net.raises("ConnectionResetError", task.await, task)
  end)

  it("does not disturb close and wait_closed", function()
    local raw <close> = peers.raw()
    local stream = connected(raw)
    raw:ask("reset")
    pcall(stream.read, stream, 1)
    stream:close()
    stream:wait_closed()
    assert.is_true(stream:is_closing())
  end)
end)

describe("A closed Stream", function()
  it("says so in tostring", function()
    local pair <close> = net.pair()
    assert.matches("Stream", tostring(pair.client), 1, true)
    assert.is_nil(tostring(pair.client):find("closed", 1, true))
    pair.client:abort()
    assert.matches("closed", tostring(pair.client), 1, true)
  end)

  it("is named as such in the error of a later call", function()
    local pair <close> = net.pair()
    pair.client:close()
    local err = net.raises("InvalidStateError", pair.client.read, pair.client, 1)
    assert.matches("closed", err.message, 1, true)
  end)

end)

describe("A Stream that nobody holds any more", function()
  it("is closed when it is collected", function()
    local ended = moonloop.Future()
    local server = moonloop.start_server(function(stream)
      ended:set_result(stream:read())
    end, "127.0.0.1", 0)
    local function leave_one()
      local stream = moonloop.connect("127.0.0.1", server:port())
      stream:write("left open")
    end
    leave_one()
    collectgarbage()
    collectgarbage()
    assert.equal("left open", ended:await())
    server:close()
    server:wait_closed()
  end)
end)

describe("A method of Stream", function()
  it("refuses another value in the stream's place", function()
    local pair <close> = net.pair()
    for _, name in ipairs({ "read", "readline", "write", "drain", "close", "is_closing" }) do
      local ok, err = pcall(pair.client[name], io.stdout, "x")
      assert.is_false(ok)
      assert.equal("string", type(err))
    end
  end)
end)
