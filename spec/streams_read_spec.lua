-- SPDX-License-Identifier: MIT
-- Reading from a Stream: each call with its data there at once, coming later,
-- cancelled while it waits and closed while it waits; what is left for the next
-- call; the limit; one reader at a time.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- The calls that share how they wait. Each is given so little that it waits, then
-- `rest`, and returns `result`.
local CALLS = {
  ["read"] = {
    call = function(s) return s:read() end,
    first = "half ", rest = "done", result = "half done", eof = true,
  },
  ["read(n)"] = {
    call = function(s) return s:read(100) end,
    first = "", rest = "some", result = "some",
  },
  ["readexactly"] = {
    call = function(s) return s:readexactly(8) end,
    first = "four", rest = "more", result = "fourmore",
  },
  ["readline"] = {
    call = function(s) return s:readline() end,
    first = "a li", rest = "ne\n", result = "a line\n",
  },
  ["readuntil"] = {
    call = function(s) return s:readuntil("--") end,
    first = "part-", rest = "-", result = "part--",
  },
  ["lines"] = {
    call = function(s) return (s:lines()()) end,
    first = "a li", rest = "ne\n", result = "a line",
  },
}

for name, case in pairs(CALLS) do
  describe("Stream:" .. name, function()
    it("returns at once what has come already", function()
      local pair <close> = net.pair()
      pair.peer:write(case.first, case.rest)
      if case.eof then pair.peer:write_eof() end
      wait_all_blocked()
      assert.equal(case.result, case.call(pair.client))
    end)

    it("waits for what comes later, in one piece", function()
      local pair <close> = net.pair()
      local task = tasks.start(case.call, pair.client)
      assert.is_false(task:done())
      pair.peer:write(case.first .. case.rest)
      if case.eof then pair.peer:write_eof() end
      assert.equal(case.result, task:await())
    end)

    it("waits for what comes byte by byte", function()
      local pair <close> = net.pair()
      local text = case.first .. case.rest
      local task = tasks.start(case.call, pair.client)
      net.trickle(pair.peer, text, 1)
      if case.eof then pair.peer:write_eof() end
      local got = task:await()
      if name == "read(n)" then got = got .. pair.client:readexactly(#text - #got) end
      assert.equal(case.result, got)
    end)

    it("consumes nothing when it is cancelled while it waits", function()
      local pair <close> = net.pair()
      pair.peer:write(case.first)
      local task = tasks.start(case.call, pair.client)
      assert.is_false(task:done())
      assert.is_true(tasks.cancel(task))
      pair.peer:write(case.rest)
      if case.eof then pair.peer:write_eof() end
      assert.equal(case.result, case.call(pair.client))
    end)

    it("raises InvalidStateError when the stream is closed while it waits", function()
      local pair <close> = net.pair()
      pair.peer:write(case.first)
      local task = tasks.start(case.call, pair.client)
      pair.client:close()
      net.raises("InvalidStateError", task.await, task)
    end)

    it("raises InvalidStateError when the stream is aborted while it waits", function()
      local pair <close> = net.pair()
      local task = tasks.start(case.call, pair.client)
      pair.client:abort()
      net.raises("InvalidStateError", task.await, task)
    end)

    it("raises InvalidStateError on a stream that was closed before", function()
      local pair <close> = net.pair()
      pair.peer:write(case.first, case.rest)
      wait_all_blocked()
      pair.client:close()
      net.raises("InvalidStateError", case.call, pair.client)
    end)

    it("raises InvalidStateError while another task reads, naming that task", function()
      local pair <close> = net.pair()
      local task = tasks.start({ name = "the first reader" }, case.call, pair.client)
      local err = net.raises("InvalidStateError", case.call, pair.client)
      assert.matches("the first reader", err.message, 1, true)
      pair.peer:write(case.first .. case.rest)
      if case.eof then pair.peer:write_eof() end
      assert.equal(case.result, task:await())
    end)

    it("can be awaited in an inner coroutine", function()
      local pair <close> = net.pair()
      local task = tasks.start(function()
        return coroutine.wrap(function() return case.call(pair.client) end)()
      end)
      pair.peer:write(case.first .. case.rest)
      if case.eof then pair.peer:write_eof() end
      assert.equal(case.result, task:await())
    end)
  end)
end

describe("Stream:read", function()
  it("gives \"\" when only the end of file is left, as often as it is asked", function()
    local pair <close> = net.pair()
    pair.peer:close()
    assert.equal("", pair.client:read())
    assert.equal("", pair.client:read())
  end)

  it("is not bound by the limit", function()
    local pair <close> = net.pair({ client = { limit = 1024 } })
    local text = net.text(300000)
    local writer = moonloop.create_task(function()
      pair.peer:write(text)
      pair.peer:write_eof()
    end)
    assert.is_true(pair.client:read() == text)
    writer:await()
  end)
end)

describe("Stream:read(n)", function()
  it("gives up to n bytes and leaves the rest", function()
    local pair <close> = net.pair()
    pair.peer:write("abcdefgh")
    wait_all_blocked()
    assert.equal("abc", pair.client:read(3))
    assert.equal("defgh", pair.client:read(100))
  end)

  it("gives nil at the end of file, as often as it is asked", function()
    local pair <close> = net.pair()
    pair.peer:write("x")
    pair.peer:close()
    assert.equal("x", pair.client:read(10))
    assert.is_nil(pair.client:read(10))
    assert.is_nil(pair.client:read(10))
  end)

  it("gives nil when the end of file comes while it waits", function()
    local pair <close> = net.pair()
    local task = tasks.start(function() return pair.client:read(10) end)
    pair.peer:write_eof()
    assert.is_nil(task:await())
  end)

  it("gives \"\" for 0 without waiting", function()
    local pair <close> = net.pair()
    assert.equal("", pair.client:read(0))
  end)

  it("may ask for more than the limit", function()
    local pair <close> = net.pair({ client = { limit = 16 } })
    pair.peer:write(("x"):rep(1000))
    local got = 0
    while got < 1000 do got = got + #pair.client:read(5000) end
    assert.equal(1000, got)
  end)

  it("loses no byte when data and cancellation come together", function()
    local pair <close> = net.pair()
    local got = {}
    for i = 1, 50 do
      local task = tasks.start(function() return pair.client:read(4) end)
      pair.peer:write(("%04d"):format(i))
      task:cancel()
      local ok, data = tasks.outcome(task)
      if not ok then
        assert.is_true(moonloop.is_error(data, "CancelledError"))
        data = pair.client:readexactly(4)
      end
      got[i] = tonumber(data)
    end
    for i = 1, 50 do assert.equal(i, got[i]) end
  end)

  it("refuses what is no count", function()
    local pair <close> = net.pair()
    for _, wrong in ipairs({ {}, "many", true, 1.5 }) do
      net.refuses("bad argument #1 to 'read'", function()
        local _ = pair.client:read(wrong)
      end)
    end
  end)

  it("does not starve other tasks when data is always there", function()
    local pair <close> = net.pair()
    pair.peer:write(("x"):rep(200000))
    wait_all_blocked()
    local turns, reading = 0, true
    local other = moonloop.create_task(function()
      while reading do
        turns = turns + 1
        moonloop.sleep(0)
      end
    end)
    for _ = 1, 200000 do pair.client:read(1) end
    reading = false
    other:await()
    assert.is_true(turns > 10)
  end)
end)

describe("Stream:readexactly", function()
  it("leaves the bytes behind the n", function()
    local pair <close> = net.pair()
    pair.peer:write("12345678")
    assert.equal("123", pair.client:readexactly(3))
    assert.equal("45678", pair.client:readexactly(5))
  end)

  it("gives \"\" for 0 without waiting", function()
    local pair <close> = net.pair()
    assert.equal("", pair.client:readexactly(0))
  end)

  it("gives nil at the end of file with nothing left", function()
    local pair <close> = net.pair()
    pair.peer:write_eof()
    assert.is_nil(pair.client:readexactly(5))
  end)

  it("raises IncompleteReadError with the part at the end of file", function()
    local pair <close> = net.pair()
    local task = tasks.start(function() return pair.client:readexactly(10) end)
    net.trickle(pair.peer, "part", 2)
    pair.peer:write_eof()
    local err = net.raises("IncompleteReadError", task.await, task)
    assert.equal("part", err.partial)
    assert.equal(10, err.expected)
  end)

  it("may ask for more than the limit", function()
    local pair <close> = net.pair({ client = { limit = 100 } })
    local text = net.text(50000)
    local task = moonloop.create_task(function() return pair.client:readexactly(50000) end)
    pair.peer:write(text)
    assert.is_true(task:await() == text)
  end)

  it("refuses a negative count", function()
    local pair <close> = net.pair()
    net.refuses("bad argument #1 to 'readexactly'", function()
      local _ = pair.client:readexactly(-1)
    end)
    net.refuses("bad argument #1 to 'readexactly'", function()
      local _ = pair.client:readexactly()
    end)
  end)
end)

describe("Stream:readline", function()
  it("gives the lines with their ends, and the last as it is", function()
    local pair <close> = net.pair()
    pair.peer:write("one\n\ntwo\r\nlast")
    pair.peer:write_eof()
    local got = {}
    for line in function() return pair.client:readline() end do got[#got + 1] = line end
    assert.same({ "one\n", "\n", "two\r\n", "last" }, got)
    assert.is_nil(pair.client:readline())
  end)

  it("takes bytes of any value", function()
    local pair <close> = net.pair()
    pair.peer:write("a\0b\255\n")
    assert.equal("a\0b\255\n", pair.client:readline())
  end)
end)

describe("Stream:lines", function()
  it("gives the lines without their ends until the end of file", function()
    local pair <close> = net.pair()
    local got = {}
    local task = tasks.start(function()
      for line in pair.client:lines() do got[#got + 1] = line end
    end)
    net.trickle(pair.peer, "one\n\nthree\nlast", 3)
    pair.peer:write_eof()
    task:await()
    assert.same({ "one", "", "three", "last" }, got)
  end)

  it("leaves what follows a break for the next call", function()
    local pair <close> = net.pair()
    pair.peer:write("one\nhead\nbody")
    for line in pair.client:lines() do
      if line == "head" then break end
    end
    assert.equal("body", pair.client:readexactly(4))
  end)
end)

describe("Stream:readuntil", function()
  it("ends at the separator and leaves what follows", function()
    local pair <close> = net.pair()
    pair.peer:write("one, two, three")
    assert.equal("one, ", pair.client:readuntil(", "))
    assert.equal("two, ", pair.client:readuntil(", "))
    assert.equal("three", pair.client:readexactly(5))
  end)

  it("finds a separator that comes in pieces, after a false start", function()
    local pair <close> = net.pair()
    local task = tasks.start(function() return pair.client:readuntil("\r\n\r\n") end)
    net.trickle(pair.peer, "a\r\nb\r\r\n\r\nbody", 1)
    assert.equal("a\r\nb\r\r\n\r\n", task:await())
  end)

  it("takes several separators and ends at the one that comes first", function()
    local pair <close> = net.pair()
    pair.peer:write("a;b,c\r\nd\n")
    local separators = { ",", ";", "\n" }
    assert.equal("a;", pair.client:readuntil(separators))
    assert.equal("b,", pair.client:readuntil(separators))
    assert.equal("c\r\n", pair.client:readuntil(separators))
    assert.equal("d\n", pair.client:readuntil({ "\r\n", "\n" }))
  end)

  it("gives nil at the end of file with nothing left", function()
    local pair <close> = net.pair()
    pair.peer:write("x,")
    pair.peer:write_eof()
    assert.equal("x,", pair.client:readuntil(","))
    assert.is_nil(pair.client:readuntil(","))
  end)

  it("raises IncompleteReadError with the part at the end of file", function()
    local pair <close> = net.pair()
    pair.peer:write("no end")
    pair.peer:write_eof()
    local err = net.raises("IncompleteReadError", pair.client.readuntil, pair.client, ",")
    assert.equal("no end", err.partial)
  end)

  it("refuses an empty separator, an empty list and other types", function()
    local pair <close> = net.pair()
    for _, wrong in ipairs({ "", {}, { "" }, { 5, {} }, true }) do
      net.refuses("bad argument #1 to 'readuntil'", function()
        local _ = pair.client:readuntil(wrong)
      end)
    end
  end)
end)
