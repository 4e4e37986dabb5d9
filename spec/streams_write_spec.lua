-- SPDX-License-Identifier: MIT
-- Writing to a Stream: what goes out and in which order, backpressure, drain and
-- write_eof, and what a write says when the other end or this one is gone.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Writes until an error comes, since the first write to a dead peer succeeds.
local function write_on(stream)
  for _ = 1, 1000 do
    stream:write("x")
    wait_all_blocked()
  end
end

describe("Stream:write", function()
  it("sends its strings in order, whatever bytes they hold", function()
    local pair <close> = net.pair()
    pair.client:write("a", "\0\255", "", "b\n")
    pair.client:write("c")
    assert.equal("a\0\255b\nc", pair.peer:readexactly(6))
  end)

  it("takes an empty string", function()
    local pair <close> = net.pair()
    pair.client:write("")
    pair.client:write_eof()
    assert.equal("", pair.peer:read())
  end)

  it("sends more than the kernel takes at once", function()
    local pair <close> = net.pair()
    local text = net.text(20 * 1024 * 1024)
    pair.client:write(text)
    pair.client:write_eof()
    assert.is_true(pair.peer:read() == text)
  end)

  it("waits while the peer does not read, and goes on when it does", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local task = tasks.start(function() pair.client:write("after") end)
    assert.is_false(task:done())
    net.drain_filled(pair.peer, count)
    assert.equal("after", pair.peer:readexactly(5))
    task:await()
  end)

  it("lets writers through in the order they came", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local writers = {}
    for i = 1, 5 do
      writers[i] = tasks.start(function() pair.client:write(("writer %d "):format(i), "!\n") end)
    end
    net.drain_filled(pair.peer, count)
    for i = 1, 5 do
      assert.equal(("writer %d !\n"):format(i), pair.peer:readline())
      writers[i]:await()
    end
  end)

  it("puts nobody in front of those who wait already", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local first = tasks.start(function() pair.client:write("first\n") end)
    assert.is_false(pair.client:try_write("pushed in\n"))
    local second = tasks.start(function() pair.client:write("second\n") end)
    net.drain_filled(pair.peer, count)
    assert.equal("first\n", pair.peer:readline())
    assert.equal("second\n", pair.peer:readline())
    first:await()
    second:await()
  end)

  it("queues nothing when it is cancelled while it waits", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local kept = tasks.start(function() pair.client:write("kept\n") end)
    local dropped = tasks.start(function() pair.client:write("dropped\n") end)
    local last = tasks.start(function() pair.client:write("last\n") end)
    assert.is_true(tasks.cancel(dropped))
    net.drain_filled(pair.peer, count)
    assert.equal("kept\n", pair.peer:readline())
    assert.equal("last\n", pair.peer:readline())
    kept:await()
    last:await()
  end)

  it("raises InvalidStateError when the stream is closed while it waits", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local task = tasks.start(function() pair.client:write("x") end)
    pair.client:close()
    net.raises("InvalidStateError", task.await, task)
  end)

  it("raises InvalidStateError when the stream is aborted while it waits", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local writers = {}
    for i = 1, 3 do writers[i] = tasks.start(function() pair.client:write("x") end) end
    pair.client:abort()
    for i = 1, 3 do net.raises("InvalidStateError", writers[i].await, writers[i]) end
  end)

  it("raises InvalidStateError after close, abort and write_eof", function()
    for _, ending in ipairs({ "close", "abort", "write_eof" }) do
      local pair <close> = net.pair()
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", pair.client.write, pair.client, "x")
      net.raises("InvalidStateError", pair.client.try_write, pair.client, "x")
      net.raises("InvalidStateError", pair.client.writelines, pair.client, { "x" })
    end
  end)

  it("raises BrokenPipeError after the peer closed", function()
    local pair <close> = net.pair()
    pair.peer:close()
    pair.peer:wait_closed()
    local err = net.raises("BrokenPipeError", write_on, pair.client)
    assert.equal("EPIPE", err.code)
    net.raises("BrokenPipeError", pair.client.write, pair.client, "x")
  end)

  it("raises a ConnectionError in a writer that waits when the peer closes", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local task = tasks.start(function() pair.client:write("x") end)
    pair.peer:abort()
    local err = net.raises("ConnectionError", task.await, task)
    assert.is_true(err.kind == "BrokenPipeError" or err.kind == "ConnectionResetError")
  end)

  it("raises ConnectionResetError after a reset, as often as it is asked", function()
    local raw <close> = peers.raw()
    local port = raw:ask("listen 5")
    local stream <close> = moonloop.connect("127.0.0.1", math.tointeger(port))
    raw:ask("accept")
    raw:ask("reset")
    for _ = 1, 3 do
      local err = net.raises("ConnectionResetError", write_on, stream)
      assert.equal("ECONNRESET", err.code)
    end
  end)

  it("raises ConnectionResetError in a writer that waits when the reset comes", function()
    local raw <close> = peers.raw()
    local port = raw:ask("listen 5")
    local stream <close> = moonloop.connect("127.0.0.1", math.tointeger(port))
    raw:ask("accept")
    net.fill(stream)
    local task = tasks.start(function() stream:write("x") end)
    raw:ask("reset")
    net.raises("ConnectionResetError", task.await, task)
  end)

  it("refuses what is no string", function()
    local pair <close> = net.pair()
    for _, wrong in ipairs({ {}, true, print }) do
      net.refuses("bad argument #1 to 'write' (string expected", function()
        pair.client:write(wrong)
      end)
    end
    net.refuses("bad argument #2 to 'write'", function() pair.client:write("sent?", {}) end)
    pair.client:write_eof()
    assert.equal("", pair.peer:read())
  end)
end)

describe("Stream:try_write", function()
  it("queues without waiting and says so", function()
    local pair <close> = net.pair()
    assert.is_true(pair.client:try_write("ready"))
    assert.equal("ready", pair.peer:readexactly(5))
  end)

  it("says no while the buffer is full, and has queued nothing then", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    assert.is_false(pair.client:try_write("refused"))
    pair.client:close()
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
  end)

  it("refuses what is no string", function()
    local pair <close> = net.pair()
    net.refuses("bad argument #1 to 'try_write'", function() pair.client:try_write({}) end)
  end)
end)

describe("Stream:writelines", function()
  it("sends the strings of a list as they are", function()
    local pair <close> = net.pair()
    pair.client:writelines({ "a\n", "b", "c\n" })
    assert.equal("a\nbc\n", pair.peer:readexactly(5))
  end)

  it("sends long lists", function()
    local pair <close> = net.pair()
    local list = {}
    for i = 1, 20000 do list[i] = ("%06d\n"):format(i) end
    local task = moonloop.create_task(function() pair.client:writelines(list) end)
    for i = 1, 20000 do assert(pair.peer:readline() == list[i]) end
    assert.is_nil(task:await())
  end)

  it("refuses what is no list of strings, and sends nothing of it", function()
    local pair <close> = net.pair()
    net.refuses("bad argument #1 to 'writelines'", function() pair.client:writelines("text") end)
    net.refuses("bad argument #1 to 'writelines'", function()
      pair.client:writelines({ "a", {} })
    end)
    pair.client:write_eof()
    assert.equal("", pair.peer:read())
  end)
end)

describe("Stream:drain", function()
  it("returns at once when nothing is left to send", function()
    local pair <close> = net.pair()
    pair.client:write("x")
    assert.is_nil(pair.client:drain())
  end)

  it("waits until the peer has read", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local task = tasks.start(function() pair.client:drain() end)
    assert.is_false(task:done())
    net.drain_filled(pair.peer, count)
    assert.is_nil(task:await())
  end)

  it("can be cancelled while it waits, and nothing is lost", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    local task = tasks.start(function() pair.client:drain() end)
    assert.is_true(tasks.cancel(task))
    pair.client:close()
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
  end)

  it("raises InvalidStateError when the stream is aborted while it waits", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    local first = tasks.start(function() pair.client:drain() end)
    local second = tasks.start(function() pair.client:drain() end)
    pair.client:abort()
    net.raises("InvalidStateError", first.await, first)
    net.raises("InvalidStateError", second.await, second)
  end)

  it("raises InvalidStateError on a stream that was closed before", function()
    local pair <close> = net.pair()
    pair.client:close()
    net.raises("InvalidStateError", pair.client.drain, pair.client)
  end)
end)

describe("Stream:write_eof", function()
  it("ends this direction and leaves the other open", function()
    local pair <close> = net.pair()
    pair.client:write("question")
    pair.client:write_eof()
    assert.equal("question", pair.peer:read())
    pair.peer:write("answer")
    assert.equal("answer", pair.client:readexactly(6))
    pair.peer:write_eof()
    assert.equal("", pair.client:read())
  end)

  it("comes after all that was written before", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.client)
    pair.client:write_eof()
    net.drain_filled(pair.peer, count)
    assert.equal("", pair.peer:read())
  end)

  it("may be said twice", function()
    local pair <close> = net.pair()
    pair.client:write_eof()
    pair.client:write_eof()
    assert.equal("", pair.peer:read())
  end)

  it("raises InvalidStateError on a closed stream", function()
    local pair <close> = net.pair()
    pair.client:close()
    net.raises("InvalidStateError", pair.client.write_eof, pair.client)
  end)
end)
