-- SPDX-License-Identifier: MIT
-- A connection that fails or ends at every point of what a Stream may be doing: a reset, a
-- half-close by the peer, our own close and abort. What those say who wait, what later calls say,
-- and what the peer gets. Over TCP and over a Unix socket.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"
local faults = require "spec.support.faults"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- ---- points ------------------------------------------------------------------

-- A task that waits in a method of the link's Stream.
local function waiting(link, method, ...)
  local task = tasks.start(link.near[method], link.near, ...)
  assert(not task:done(), method .. " does not wait")
  task:add_done_callback(function() end) -- not each fault asks every task how it ended
  return task
end

local function reader(method, first, ...)
  local arguments = table.pack(...)
  return function(link)
    link:send(first)
    wait_all_blocked()
    link.reader = waiting(link, method, table.unpack(arguments, 1, arguments.n))
  end
end

-- Each brings a link to a point; what waits then is in `reader`, `writers` and `closer`.
-- `ended` is what the reader gives when the peer has said its last byte (nil: an
-- IncompleteReadError), `left` what has come and is not read.
local POINTS = {
  { name = "before anything was read", left = "half\nanother", prepare = function(link)
    link:send("half\nanother")
  end },
  { name = "while read(n) waits", left = "", ended = { nil }, prepare = reader("read", "", 10) },
  { name = "while read() waits", left = "half", ended = { "half" },
    prepare = reader("read", "half") },
  { name = "in the middle of readexactly", left = "half",
    prepare = reader("readexactly", "half", 8) },
  { name = "in the middle of a line", left = "half", ended = { "half" },
    prepare = reader("readline", "half") },
  { name = "in the middle of a separator", left = "half-",
    prepare = reader("readuntil", "half-", "--") },
  { name = "while peek waits", left = "", ended = { nil }, prepare = reader("peek", "", 10) },
  { name = "with data in the buffer", left = "another", prepare = function(link)
    link:send("line\nanother")
    assert.equal("line\n", link.near:readline())
  end },
  { name = "while writes wait, with data unread", left = "came", prepare = function(link)
    link:send("came")
    link.filled = net.fill(link.near)
    link.writers = { waiting(link, "write", "a") }
    link.queued = "a"
  end },
  { name = "while writes wait", left = "", prepare = function(link)
    link.filled = net.fill(link.near)
    link.writers = { waiting(link, "write", "a"), waiting(link, "writelines", { "b", "c" }) }
    link.queued = "abc"
  end },
  { name = "while drains wait", left = "", prepare = function(link)
    link.filled = net.fill(link.near)
    link.writers = { waiting(link, "drain"), waiting(link, "drain") }
  end },
  { name = "while a reader and a writer wait", left = "", ended = { nil },
    prepare = function(link)
      link.filled = net.fill(link.near)
      link.reader = waiting(link, "read", 10)
      link.writers = { waiting(link, "write", "a") }
      link.queued = "a"
    end },
  { name = "after write_eof, while its data are not out", left = "", ending = true,
    prepare = function(link)
      link.filled = net.fill(link.near)
      link.near:write_eof()
      link.writers = { waiting(link, "drain") }
    end },
  { name = "after write_eof", left = "came", ending = true, prepare = function(link)
    link:send("came")
    link.near:write("said")
    link.near:write_eof()
    wait_all_blocked()
  end },
  { name = "while wait_closed waits", closing = true, prepare = function(link)
    link.filled = net.fill(link.near)
    link.near:close()
    link.closer = waiting(link, "wait_closed")
  end },
}

-- For each point over each kind of connection: a spec with a link at that point.
local function at_every_point(name, accept, body)
  for _, kind in ipairs(faults.KINDS) do
    for _, point in ipairs(POINTS) do
      if accept(point) then
        it(("%s %s, over %s"):format(name, point.name, kind), function()
          local link <close> = faults.link(kind)
          point.prepare(link)
          body(link, point)
        end)
      end
    end
  end
end

-- Lets all end who wait, however they end.
local function settle(link)
  local list = link.writers and table.move(link.writers, 1, #link.writers, 1, {}) or {}
  if link.reader then list[#list + 1] = link.reader end
  if link.closer then list[#list + 1] = link.closer end
  for _, task in ipairs(list) do tasks.outcome(task) end
end

-- The tasks that read or write.
local function users(link)
  return { link.reader, table.unpack(link.writers or {}) }
end

local function any() return true end

local function is_open(point) return not point.closing end

-- Where the kernel of a Unix socket knows no reset, who writes hears of a broken pipe.
local function reset_kind(link)
  return link.kind == "TCP" and "ConnectionResetError" or "ConnectionError"
end

-- ---- specs -------------------------------------------------------------------

describe("A reset", function()
  at_every_point("is told to all who wait", any, function(link)
    link:reset()
    if link.reader then
      local err = net.raises("ConnectionResetError", link.reader.await, link.reader)
      assert.equal("ECONNRESET", err.code)
    end
    for _, task in ipairs(link.writers or {}) do net.raises(reset_kind(link), task.await, task) end
    if link.closer then net.raises(reset_kind(link), link.closer.await, link.closer) end
    assert.equal(link.closer ~= nil, link.near:is_closing())
  end)

  at_every_point("leaves what came before to be read, then raises", is_open, function(link, point)
    link:reset()
    settle(link)
    local got = ""
    while #got < #point.left do got = got .. link.near:read(100) end
    assert.equal(point.left, got)
    for _ = 1, 2 do
      net.raises("ConnectionResetError", link.near.read, link.near, 1)
      net.raises("ConnectionResetError", link.near.read, link.near)
      net.raises("ConnectionResetError", link.near.peek, link.near, 1)
      net.raises("ConnectionResetError", link.near.readexactly, link.near, 2)
    end
    assert.is_false(link.near:at_eof())
  end)

  local function is_writable(point) return is_open(point) and not point.ending end

  at_every_point("is told to who writes next, then to who reads", is_writable,
    function(link, point)
      link:reset()
      wait_all_blocked()
      for _ = 1, 2 do
        net.raises(reset_kind(link), link.near.write, link.near, "x")
        net.raises(reset_kind(link), link.near.try_write, link.near, "x")
      end
      settle(link)
      assert.equal(point.left, point.left ~= "" and link.near:readexactly(#point.left) or "")
      net.raises("ConnectionResetError", link.near.read, link.near, 1)
      net.raises("ConnectionResetError", link.near.readline, link.near)
    end)

  at_every_point("does not keep abort from closing", is_open, function(link)
    link:reset()
    wait_all_blocked()
    link.near:abort()
    link.near:wait_closed()
    assert.equal(-1, link.near:fileno())
    net.raises("InvalidStateError", link.near.read, link.near, 1)
    for _, task in ipairs(users(link)) do assert.is_false((tasks.outcome(task))) end
    settle(link)
  end)
end)

describe("The peer's half-close", function()
  at_every_point("ends what reads, and nothing else", any,
    function(link, point)
      link:finish()
      wait_all_blocked()
      for _, task in ipairs(link.writers or {}) do assert.is_false(task:done()) end
      if link.closer then assert.is_false(link.closer:done()) end
      if link.reader and point.ended then
        assert.equal(point.ended[1], link.reader:await())
      elseif link.reader then
        local err = net.raises("IncompleteReadError", link.reader.await, link.reader)
        assert.equal(point.left, err.partial)
      elseif is_open(point) then
        assert.equal(point.left, link.near:read())
      end
      if link.filled then link:read_filled(link.filled) end
      for _, task in ipairs(link.writers or {}) do task:await() end
      if link.closer then link.closer:await() end
    end)

  at_every_point("leaves the way to the peer open", is_open, function(link, point)
    link:finish()
    if link.reader then tasks.outcome(link.reader) end
    if not link.reader then assert.equal(point.left, link.near:read()) end
    assert.is_nil(link.near:read(1))
    assert.is_true(link.near:at_eof())
    local answer = point.ending and (link.filled and "" or "said") or "the answer"
    local writer = moonloop.create_task(function()
      if not point.ending then link.near:write(answer) end
      link.near:close()
    end)
    if link.filled then link:read_filled(link.filled) end
    assert.equal((link.queued or "") .. answer, link:read_to_end())
    writer:await()
    settle(link)
  end)

  it("is followed by BrokenPipeError when the peer goes, and stays an end of file", function()
    for _, kind in ipairs(faults.KINDS) do
      local link <close> = faults.link(kind)
      link:finish()
      assert.is_nil(link.near:read(1))
      net.fill(link.near)
      local writer = tasks.start(link.near.write, link.near, "x")
      link:hang_up()
      net.raises("BrokenPipeError", writer.await, writer)
      net.raises("BrokenPipeError", link.near.write, link.near, "x")
      assert.is_nil(link.near:read(1))
      assert.equal("", link.near:read())
      assert.is_true(link.near:at_eof())
    end
  end)

  it("and our write_eof end a connection without an error", function()
    for _, kind in ipairs(faults.KINDS) do
      for first = 1, 2 do
        local link <close> = faults.link(kind)
        if first == 1 then link:finish() end
        link.near:write_eof()
        if first == 2 then link:finish() end
        assert.equal("", link.near:read())
        assert.equal("", link:read_to_end())
        link.near:close()
        link.near:wait_closed()
      end
    end
  end)
end)

describe("Our own abort", function()
  at_every_point("ends all who wait, and the connection", any,
    function(link)
      link.near:abort()
      for _, task in ipairs(users(link)) do
        net.raises("InvalidStateError", task.await, task)
      end
      if link.closer then link.closer:await() end
      link.near:wait_closed()
      assert.is_true(link.near:is_closing())
      for _, method in ipairs({ "read", "readline", "peek", "readexactly", "readuntil" }) do
        net.raises("InvalidStateError", link.near[method], link.near, method ~= "readuntil" and 1)
      end
      net.raises("InvalidStateError", link.near.write, link.near, "x")
      assert.is_true(#link:read_to_end() <= (link.filled or 4))
    end)
end)

describe("Our own close", function()
  at_every_point("ends all who wait, and lets out what was written", any,
    function(link, point)
      link.near:close()
      for _, task in ipairs(users(link)) do
        net.raises("InvalidStateError", task.await, task)
      end
      net.raises("InvalidStateError", link.near.read, link.near, 1)
      net.raises("InvalidStateError", link.near.write, link.near, "x")
      -- TCP makes a reset of a close with data unread, which drops what is under way.
      if not link.filled or point.left == "came" then return end
      link:read_filled(link.filled)
      assert.equal("", link:read_to_end())
      link.near:wait_closed()
      if link.closer then link.closer:await() end
    end)
end)

describe("Our own write_eof", function()
  it("ends the writes that wait, which have written nothing", function()
    for _, kind in ipairs(faults.KINDS) do
      local link <close> = faults.link(kind)
      local count = net.fill(link.near)
      local first = tasks.start(link.near.write, link.near, "a")
      local second = tasks.start(link.near.writelines, link.near, { "b" })
      link.near:write_eof()
      net.raises("InvalidStateError", link.near.write, link.near, "c")
      link:read_filled(count)
      net.raises("InvalidStateError", first.await, first)
      net.raises("InvalidStateError", second.await, second)
      assert.equal("", link:read_to_end())
      link:send("still open")
      assert.equal("still open", link.near:readexactly(10))
    end
  end)
end)

describe("Two Streams that are each other's peers", function()
  for _, kind in ipairs({ "TCP", "a socketpair" }) do
    it("know an abort as InvalidStateError here and as the end there, over " .. kind, function()
      local link <close> = delivery.link(kind)
      link.near:write("half")
      local here = tasks.start(link.near.read, link.near, 1)
      local there = tasks.start(link.far.readexactly, link.far, 8)
      link.near:abort()
      net.raises("InvalidStateError", here.await, here)
      assert.equal("half", net.raises("IncompleteReadError", there.await, there).partial)
      assert.is_nil(link.far:read(1))
      assert.is_true(link.far:at_eof())
      link.far:close()
      link.far:wait_closed()
    end)

    it("know an abort with data unread as a reset on the other side, over " .. kind, function()
      local link <close> = delivery.link(kind)
      net.fill(link.far)
      local reading = tasks.start(link.far.read, link.far, 10)
      local writing = tasks.start(link.far.write, link.far, "x")
      link.near:abort()
      net.raises("ConnectionResetError", reading.await, reading)
      local told = kind == "TCP" and "ConnectionResetError" or "ConnectionError"
      net.raises(told, writing.await, writing)
      net.raises("ConnectionResetError", link.far.write, link.far, "x")
      net.raises("ConnectionResetError", link.far.read, link.far, 1)
      net.raises("InvalidStateError", link.near.read, link.near, 1)
      net.raises("InvalidStateError", link.near.write, link.near, "x")
    end)
  end
end)
