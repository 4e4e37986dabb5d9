-- SPDX-License-Identifier: MIT
-- Stream:peek: with its data there at once, coming later, cancelled and closed while it waits; what
-- it leaves to the next call; the end of file, resets; one reader at a time; bad arguments.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"
local faults = require "spec.support.faults"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- The calls that peek must not disturb, each of which takes "a line\n" and gives `result`.
local READS = {
  ["read"] = { call = function(s) return s:read() end, result = "a line\n" },
  ["read(n)"] = { call = function(s) return s:read(7) end, result = "a line\n" },
  ["readexactly"] = { call = function(s) return s:readexactly(7) end, result = "a line\n" },
  ["readline"] = { call = function(s) return s:readline() end, result = "a line\n" },
  ["readuntil"] = { call = function(s) return s:readuntil({ "e\n", "x" }) end,
    result = "a line\n" },
  ["lines"] = { call = function(s) return s:lines()() end, result = "a line" },
  ["chunks"] = { call = function(s) return s:chunks()() end, result = "a line\n" },
}

for _, kind in ipairs(delivery.KINDS) do
  describe("Stream:peek over " .. kind, function()
    it("returns at once what has come already, up to n bytes", function()
      local link <close> = delivery.link(kind)
      link.far:write("abcdef")
      wait_all_blocked()
      assert.equal("a", link.near:peek(1))
      assert.equal("abcd", link.near:peek(4))
      assert.equal("abcdef", link.near:peek(6))
      assert.equal("abcdef", link.near:peek(1000))
    end)

    it("waits for what comes later, for one byte at least", function()
      local link <close> = delivery.link(kind)
      local task = tasks.start(link.near.peek, link.near, 10)
      assert.is_false(task:done())
      link.far:write("a")
      assert.equal("a", task:await())
      assert.equal("a", link.near:peek(10))
    end)

    it("sees what came after the last peek, too", function()
      local link <close> = delivery.link(kind)
      for i = 1, 5 do
        link.far:write(i)
        wait_all_blocked()
        assert.equal(("12345"):sub(1, i), link.near:peek(10))
      end
    end)

    it("consumes nothing", function()
      local link <close> = delivery.link(kind)
      for name, read in pairs(READS) do
        if name ~= "read" then
          link.far:write("a line\n")
          wait_all_blocked()
          for n = 1, 10 do assert.equal(("a line\n"):sub(1, n), link.near:peek(n)) end
          assert.equal(read.result, read.call(link.near), name)
        end
      end
    end)

    it("gives what can be read although the end of file has come", function()
      local link <close> = delivery.link(kind)
      link.far:write("last")
      link.far:write_eof()
      wait_all_blocked()
      assert.equal("last", link.near:peek(10))
      assert.is_false(link.near:at_eof())
      assert.equal("last", link.near:read())
    end)

    it("gives nil at the end of file, as often as it is asked", function()
      local link <close> = delivery.link(kind)
      link.far:write_eof()
      for _ = 1, 3 do assert.is_nil(link.near:peek(10)) end
      assert.is_true(link.near:at_eof())
      assert.is_nil(link.near:read(1))
    end)

    it("gives nil when the end of file comes while it waits", function()
      local link <close> = delivery.link(kind)
      local task = tasks.start(link.near.peek, link.near, 10)
      link.far:write_eof()
      assert.is_nil(task:await())
    end)

    it("loses nothing when it is cancelled while it waits", function()
      local link <close> = delivery.link(kind)
      local task = tasks.start(link.near.peek, link.near, 10)
      assert.is_false(task:done())
      assert.is_true(tasks.cancel(task))
      link.far:write("whole")
      assert.equal("whole", link.near:readexactly(5))
    end)

    it("loses nothing when data and cancellation come together", function()
      local link <close> = delivery.link(kind)
      for i = 1, 20 do
        local task = tasks.start(link.near.peek, link.near, 4)
        link.far:write(("%04d"):format(i))
        for _ = 1, i % 4 do moonloop.sleep(0) end
        task:cancel()
        local ok, seen = tasks.outcome(task)
        assert.is_true(ok or moonloop.is_error(seen, "CancelledError"))
        assert.equal(("%04d"):format(i), link.near:readexactly(4))
      end
    end)
  end)
end

for _, ending in ipairs({ "close", "abort" }) do
  describe("Stream:peek and " .. ending, function()
    it("raises InvalidStateError when that comes while it waits", function()
      local pair <close> = net.pair()
      local task = tasks.start(pair.client.peek, pair.client, 10)
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", task.await, task)
    end)

    it("raises InvalidStateError when that came before", function()
      local pair <close> = net.pair()
      pair.peer:write("data")
      wait_all_blocked()
      assert.equal("data", pair.client:peek(4))
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", pair.client.peek, pair.client, 4)
    end)
  end)
end

for name, read in pairs(READS) do
  describe("Stream:peek and " .. name, function()
    it("are one reader: a read is refused while peek waits, naming its task", function()
      local pair <close> = net.pair()
      local task = tasks.start({ name = "the peeker" }, pair.client.peek, pair.client, 10)
      local err = net.raises("InvalidStateError", read.call, pair.client)
      assert.matches("the peeker", err.message, 1, true)
      pair.peer:write("seen")
      assert.equal("seen", task:await())
    end)

    it("are one reader: peek is refused while a read waits, naming its task", function()
      local pair <close> = net.pair()
      local task = tasks.start({ name = "the reader" }, read.call, pair.client)
      local err = net.raises("InvalidStateError", pair.client.peek, pair.client, 10)
      assert.matches("the reader", err.message, 1, true)
      pair.peer:write("a line\n")
      pair.peer:write_eof()
      assert.equal(read.result, task:await())
    end)
  end)
end

describe("Stream:peek", function()
  it("gives \"\" for 0 without waiting, also at the end of file", function()
    local pair <close> = net.pair()
    assert.equal("", pair.client:peek(0))
    pair.peer:write_eof()
    assert.is_nil(pair.client:read(1))
    assert.equal("", pair.client:peek(0))
  end)

  it("may ask for more than the limit, and never raises LimitOverrunError", function()
    local pair <close> = net.pair({ client = { limit = 16 } })
    local text = net.text(1000)
    pair.peer:write(text)
    wait_all_blocked()
    local seen = pair.client:peek(100000)
    assert.is_true(#seen >= 1)
    assert.equal(text:sub(1, #seen), seen)
    assert.equal(text, pair.client:readexactly(1000))
  end)

  it("sees what a LimitOverrunError left", function()
    local pair <close> = net.pair({ client = { limit = 16 } })
    pair.peer:write(("x"):rep(20), "\n")
    net.raises("LimitOverrunError", pair.client.readline, pair.client)
    assert.equal(("x"):rep(10), pair.client:peek(10))
    net.raises("LimitOverrunError", pair.client.readline, pair.client)
    assert.equal(("x"):rep(20) .. "\n", pair.client:readexactly(21))
  end)

  it("leaves a full buffer to be read, and its sender to go on", function()
    local pair <close> = net.pair()
    local count = net.fill(pair.peer)
    assert.equal(1, #pair.client:peek(1))
    net.drain_filled(pair.client, count)
    pair.peer:write("on it goes")
    assert.equal("on it goes", pair.client:peek(10))
  end)

  it("raises ConnectionResetError after a reset, once what came before is read", function()
    for _, kind in ipairs(faults.KINDS) do
      local link <close> = faults.link(kind)
      link:send("before")
      link:reset()
      assert.equal("before", link.near:peek(10))
      assert.equal("before", link.near:readexactly(6))
      for _ = 1, 2 do net.raises("ConnectionResetError", link.near.peek, link.near, 10) end
    end
  end)

  it("lets others run, however often it finds its data there", function()
    local pair <close> = net.pair()
    pair.peer:write("x")
    wait_all_blocked()
    local turns = 0
    local other = moonloop.create_task(function()
      while turns < 3 do
        turns = turns + 1
        moonloop.sleep(0)
      end
    end)
    for _ = 1, 100000 do
      assert.equal("x", pair.client:peek(1))
      if turns == 3 then break end
    end
    assert.equal(3, turns)
    other:await()
  end)

  it("can be awaited in an inner coroutine", function()
    local pair <close> = net.pair()
    local task = tasks.start(function()
      return coroutine.wrap(function() return pair.client:peek(10) end)()
    end)
    pair.peer:write("from inside")
    assert.equal("from insid", task:await())
  end)

  it("refuses what is no number of bytes", function()
    local pair <close> = net.pair()
    for _, wrong in ipairs({ -1, 1.5, "many", {}, true }) do
      net.refuses("bad argument #1 to 'peek'", function() local _ = pair.client:peek(wrong) end)
    end
    net.refuses("bad argument #1 to 'peek'", function() local _ = pair.client:peek() end)
  end)
end)
