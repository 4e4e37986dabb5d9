-- SPDX-License-Identifier: MIT
-- moonloop.testing.fault_socketpair: two Streams with a bad network between them. What it passes
-- on unchanged, how it splits, delays, truncates and resets, and that it leaves nothing behind.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local testing = moonloop.testing
local wait_all_blocked = testing.wait_all_blocked

local Both = {}
Both.__index = Both
Both.__close = function(self)
  self.a:abort()
  self.b:abort()
end

-- The two streams as `a` and `b`, which a to-be-closed variable aborts. Awaits.
local function faulty(opts)
  local a, b = testing.fault_socketpair(opts)
  return setmetatable({ a = a, b = b }, Both)
end

-- Has `from` write and end, while a task reads what comes to `to`. Awaits.
-- @return list of the pieces
local function pieces(from, to, data)
  local list = {}
  local reader = tasks.start(function()
    for piece in to:chunks() do list[#list + 1] = piece end
  end)
  from:write(data)
  from:write_eof()
  reader:await()
  return list
end

local function reset(stream)
  stream:get_extra_info("socket"):setsockopt("SO_LINGER", 0)
  stream:abort()
end

describe("fault_socketpair", function()
  it("gives two Streams, each the other's end, over TCP", function()
    local pair <close> = faulty()
    pair.a:write("there\n")
    pair.b:write("and back\n")
    assert.equal("there\n", pair.b:readline())
    assert.equal("and back\n", pair.a:readline())
    for _, stream in ipairs { pair.a, pair.b } do
      assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
      assert.is_true(stream:get_extra_info("peername").port > 0)
    end
  end)

  it("carries much both ways at once", function()
    local pair <close> = faulty()
    local text = net.text(1024 * 1024 + 3)
    local function all(from, to)
      local list = pieces(from, to, text)
      return table.concat(list) == text
    end
    local there = moonloop.create_task(all, pair.a, pair.b)
    local back = moonloop.create_task(all, pair.b, pair.a)
    assert.is_true(there:await())
    assert.is_true(back:await())
  end)

  it("lets a writer wait whose reader does not read", function()
    local pair <close> = faulty()
    local count = net.fill(pair.a)
    local writer = tasks.start(pair.a.write, pair.a, "after")
    assert.is_false(writer:done())
    net.drain_filled(pair.b, count)
    assert.equal("after", pair.b:readexactly(5))
    writer:await()
  end)

  it("passes on a half-close, and the other direction goes on", function()
    local pair <close> = faulty()
    pair.a:write("question")
    pair.a:write_eof()
    assert.equal("question", pair.b:read())
    pair.b:write("answer")
    pair.b:write_eof()
    assert.equal("answer", pair.a:read())
  end)

  it("passes on a close, and lets later writes fail", function()
    local pair <close> = faulty()
    pair.a:write("last words")
    pair.a:close()
    assert.equal("last words", pair.b:read())
    local failed
    for _ = 1, 5 do
      failed = tasks.kind(pair.b.write, pair.b, "too late")
      if failed then break end
      wait_all_blocked()
    end
    assert.is_true(failed == "BrokenPipeError" or failed == "ConnectionResetError")
  end)

  it("passes on a reset behind what came before", function()
    for _, split in ipairs { false, 2 } do
      local pair <close> = faulty { split = split }
      pair.a:write("before")
      wait_all_blocked()
      reset(pair.a)
      assert.equal("before", pair.b:readexactly(6))
      net.raises("ConnectionResetError", pair.b.read, pair.b, 1)
    end
  end)

  it("passes on an abort with data unread, which is a reset", function()
    local pair <close> = faulty()
    pair.b:write("nobody reads this")
    wait_all_blocked()
    local reader = tasks.start(pair.b.read, pair.b, 1)
    pair.a:abort()
    net.raises("ConnectionResetError", reader.await, reader)
  end)

  it("loses nothing that was sent before a reset which a writer notices first", function()
    local pair <close> = faulty()
    pair.a:write("said")
    pair.a:write_eof()
    wait_all_blocked()
    reset(pair.a)
    for _ = 1, 3 do
      pcall(pair.b.write, pair.b, "x")
      wait_all_blocked()
    end
    assert.equal("said", pair.b:readexactly(4))
  end)
end)

describe("fault_socketpair{split=}", function()
  local TEXT = net.text(3000)

  local function cut(opts, data)
    local pair <close> = faulty(opts)
    local list = pieces(pair.a, pair.b, data)
    assert.equal(data, table.concat(list))
    return list
  end

  local function sizes(list)
    local numbers = {}
    for i, piece in ipairs(list) do numbers[i] = #piece end
    return numbers
  end

  it("passes everything on at once without it", function()
    assert.same({ "in one" }, cut({}, "in one"))
    assert.same({ "in one" }, cut({ split = false }, "in one"))
  end)

  it("cuts into pieces of random sizes, the same for the same seed", function()
    local once = sizes(cut({ split = true, seed = 7 }, TEXT))
    assert.is_true(#once > 1)
    assert.same(once, sizes(cut({ split = true, seed = 7 }, TEXT)))
    assert.not_same(once, sizes(cut({ split = true, seed = 8 }, TEXT)))
  end)

  it("cuts into pieces of random sizes up to a largest", function()
    local seen = {}
    for _, size in ipairs(sizes(cut({ split = 3, seed = 1 }, TEXT:sub(1, 200)))) do
      seen[size] = true
    end
    assert.same({ true, true, true }, seen)
  end)

  it("passes on byte by byte", function()
    assert.same({ "b", "y", "t", "e", "s" }, cut({ split = 1 }, "bytes"))
  end)

  it("cuts at listed positions, in whatever order they stand", function()
    local list = { 5, 1, 100 }
    assert.same({ "o", "nely", " words" }, cut({ split = list }, "onely words"))
    assert.same({ 5, 1, 100 }, list)
  end)

  it("cuts both directions, each for itself", function()
    local pair <close> = faulty { split = { 2 } }
    assert.same({ "th", "ere" }, pieces(pair.a, pair.b, "there"))
    assert.same({ "ba", "ck" }, pieces(pair.b, pair.a, "back"))
  end)

  it("keeps the positions when the data come in pieces of their own", function()
    local pair <close> = faulty { split = { 3, 6 } }
    local list = {}
    local reader = tasks.start(function()
      for piece in pair.b:chunks() do list[#list + 1] = piece end
    end)
    net.trickle(pair.a, "abcdefgh", 4)
    pair.a:write_eof()
    reader:await()
    assert.same({ "abc", "d", "ef", "gh" }, list)
  end)
end)

describe("fault_socketpair{delay=}", function()
  it("passes on each piece so much later, and the end", function()
    local _ <close> = testing.virtual_clock { threshold = 0.002 }
    local pair <close> = faulty { delay = 10, split = { 3 } }
    local began = moonloop.time()
    local times = {}
    local reader = tasks.start(function()
      for piece in pair.b:chunks() do times[#times + 1] = { piece, moonloop.time() - began } end
      times[#times + 1] = { "end", moonloop.time() - began }
    end)
    pair.a:write("onetwo")
    pair.a:write_eof()
    reader:await()
    local words = {}
    for i, entry in ipairs(times) do
      words[i] = entry[1]
      assert.is_true(entry[2] >= 10 * i - 0.001 and entry[2] < 10 * i + 5)
    end
    assert.same({ "one", "two", "end" }, words)
  end)
end)

describe("fault_socketpair{truncate_at=}", function()
  it("ends both directions after so many bytes from the first stream", function()
    for _, position in ipairs { 0, 1, 4, 9 } do
      local pair <close> = faulty { truncate_at = position }
      pair.a:write("nine char")
      local text = pair.b:read()
      assert.equal(("nine char"):sub(1, position), text)
      assert.equal("", pair.a:read())
    end
  end)

  it("is an end of file for whoever expects more", function()
    local pair <close> = faulty { truncate_at = 4, split = 1 }
    local reader = tasks.start(pair.b.readexactly, pair.b, 9)
    pair.a:write("nine char")
    assert.equal("nine", net.raises("IncompleteReadError", reader.await, reader).partial)
  end)

  it("does not count what the second stream sends, which comes through before", function()
    local pair <close> = faulty { truncate_at = 4 }
    pair.b:write("a long greeting")
    assert.equal("a long greeting", pair.a:readexactly(15))
    pair.a:write("four", "more")
    assert.equal("four", pair.b:read())
  end)

  it("drops what is sent afterwards, without an error", function()
    local pair <close> = faulty { truncate_at = 1 }
    pair.a:write("x")
    assert.equal("x", pair.b:read())
    assert.equal("", pair.a:read())
    for _ = 1, 3 do
      pair.a:write("into the void")
      pair.b:write("into the void")
      wait_all_blocked()
    end
    pair.a:close()
    pair.b:close()
    pair.a:wait_closed()
    pair.b:wait_closed()
  end)

  it("leaves a conversation alone that is shorter", function()
    local pair <close> = faulty { truncate_at = 100 }
    pair.a:write("short")
    pair.a:close()
    assert.equal("short", pair.b:read())
  end)
end)

describe("fault_socketpair{reset_at=}", function()
  it("resets both ends after so many bytes from the first stream", function()
    for _, position in ipairs { 0, 1, 4, 9 } do
      local pair <close> = faulty { reset_at = position }
      pcall(pair.a.write, pair.a, "nine char")
      if position > 0 then
        assert.equal(("nine char"):sub(1, position), pair.b:readexactly(position))
      end
      net.raises("ConnectionResetError", pair.b.read, pair.b, 1)
      net.raises("ConnectionResetError", pair.a.read, pair.a, 1)
    end
  end)

  it("reaches a task that waits", function()
    local pair <close> = faulty { reset_at = 4, split = 1 }
    local here = tasks.start(pair.a.read, pair.a, 1)
    local there = tasks.start(pair.b.readexactly, pair.b, 9)
    pair.a:write("nine char")
    net.raises("ConnectionResetError", there.await, there)
    net.raises("ConnectionResetError", here.await, here)
  end)

  it("leaves a conversation alone that is shorter", function()
    local pair <close> = faulty { reset_at = 6 }
    pair.a:write("short")
    pair.a:write_eof()
    assert.equal("short", pair.b:read())
    pair.b:write("a longer answer")
    assert.equal("a longer answer", pair.a:readexactly(15))
  end)
end)

describe("fault_socketpair leaves nothing behind", function()
  local ALL = { {}, { delay = 3600 }, { split = 1 }, { truncate_at = 2 }, { reset_at = 2 } }

  it("when both streams are closed, whatever is under way", function()
    for _, opts in ipairs(ALL) do
      local mark = testing.mark()
      local a, b = testing.fault_socketpair(opts)
      a:write("abcdefgh")
      b:write("ijklmnop")
      wait_all_blocked()
      a:abort()
      b:abort()
      wait_all_blocked()
      assert.same({}, testing.leaks(mark))
    end
  end)

  it("when its run ends", function()
    for _, opts in ipairs(ALL) do
      local mark = testing.mark()
      moonloop.run(function()
        local a = testing.fault_socketpair(opts)
        a:write("abcdefgh")
        wait_all_blocked()
      end)
      assert.same({}, testing.leaks(mark))
    end
  end)

  it("when the caller is cancelled at whatever moment", function()
    local finished = 0
    for turns = 0, 20 do
      local mark = testing.mark()
      local task = moonloop.create_task(function()
        local pair <close> = faulty { split = 1 }
        finished = finished + 1
        pair.a:read(1)
      end)
      for _ = 1, turns * 30 do moonloop.sleep(0) end -- the loop looks at descriptors meanwhile
      assert.is_true(tasks.cancel(task))
      wait_all_blocked()
      assert.same({}, testing.leaks(mark))
    end
    assert.is_true(finished > 0 and finished < 21)
  end)

  it("of its tasks to be seen while it is at work", function()
    local mark = testing.mark()
    local pair <close> = faulty()
    for _, leak in ipairs(testing.leaks(mark)) do assert.equal("descriptor", leak.kind) end
    pair.a:write("x")
    assert.equal("x", pair.b:readexactly(1))
  end)
end)

describe("fault_socketpair refuses", function()
  it("options that do not exist, and values of other types", function()
    for _, case in ipairs {
      { "did you mean 'split'", { spilt = true } },
      { "option 'delay'", { delay = -1 } },
      { "option 'delay'", { delay = "1" } },
      { "option 'split'", { split = 0 } },
      { "option 'split'", { split = 1.5 } },
      { "option 'split'", { split = { 0 } } },
      { "option 'split'", { split = { 1, "2" } } },
      { "option 'truncate_at'", { truncate_at = -1 } },
      { "option 'reset_at'", { reset_at = 0.5 } },
      { "option 'seed'", { seed = 0.5 } },
      { "either 'truncate_at' or 'reset_at'", { truncate_at = 1, reset_at = 1 } },
      { "table expected", 1 },
    } do
      local text = net.refuses(case[1], testing.fault_socketpair, case[2])
      assert.matches("bad argument #1 to 'fault_socketpair'", text, 1, true)
    end
  end)
end)
