-- SPDX-License-Identifier: MIT
-- moonloop.relay: bytes both ways between two streams, half-closes passed on, the counts it
-- returns, and what errors, cancellation and the end of a stream make of wire.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local Line = {}
Line.__index = Line
Line.__close = function(self)
  self.task:cancel()
  pcall(moonloop.await, self.task)
  local _ <close> = self.left_pair
  local _ <close> = self.right_pair
end

-- Two ends, `left` and `right`, with a relay between them, whose streams are `a` and `b` and
-- which runs as `task`. Awaits.
local function line(new_pair)
  new_pair = new_pair or net.pair
  local left, right = new_pair(), new_pair()
  return setmetatable({
    left_pair = left, right_pair = right,
    left = left.client, a = left.peer, b = right.client, right = right.peer,
    task = tasks.start(moonloop.relay, left.peer, right.client),
  }, Line)
end

local PAIRS = { ["TCP"] = net.pair, ["socketpairs"] = pipes.pair }

for name, new_pair in pairs(PAIRS) do
  describe("relay over " .. name, function()
    it("copies both ways until both have ended, and counts", function()
      local wire <close> = line(new_pair)
      wire.left:write("to the right")
      assert.equal("to the right", wire.right:readexactly(12))
      wire.right:write("back")
      assert.equal("back", wire.left:readexactly(4))
      wire.left:write("!")
      wire.left:write_eof()
      wire.right:write_eof()
      assert.equal("!", wire.right:read())
      assert.equal("", wire.left:read())
      assert.same({ 13, 4 }, { wire.task:await() })
    end)

    it("passes a half-close on and goes on the other way", function()
      local wire <close> = line(new_pair)
      wire.left:write("question")
      wire.left:write_eof()
      assert.equal("question", wire.right:read())
      assert.is_false(wire.task:done())
      wire.right:write("ans")
      assert.equal("ans", wire.left:readexactly(3))
      wire.right:write("wer")
      wire.right:write_eof()
      assert.equal("wer", wire.left:read())
      assert.same({ 8, 6 }, { wire.task:await() })
    end)

    it("copies much in both directions at once", function()
      local wire <close> = line(new_pair)
      local text = net.text(4 * 1024 * 1024 + 1)
      local jobs = {}
      for i, from in ipairs({ wire.left, wire.right }) do
        local to = i == 1 and wire.right or wire.left
        jobs[#jobs + 1] = moonloop.create_task(function()
          from:write(text)
          from:write_eof()
        end)
        jobs[#jobs + 1] = moonloop.create_task(function() assert(to:read() == text) end)
      end
      for _, job in ipairs(jobs) do job:await() end
      assert.same({ #text, #text }, { wire.task:await() })
    end)
  end)
end

describe("relay", function()
  it("counts nothing where nothing comes", function()
    local wire <close> = line(pipes.pair)
    wire.right:write_eof()
    assert.equal("", wire.left:read())
    assert.is_false(wire.task:done())
    wire.left:write_eof()
    assert.same({ 0, 0 }, { wire.task:await() })
  end)

  it("passes on what had come before it began, read ahead or not", function()
    local left <close>, right = pipes.pair(), pipes.pair()
    local _ <close> = right
    left.client:write("first\nread ahead\n")
    assert.equal("first\n", left.peer:readline())
    left.client:write("not read yet")
    left.client:write_eof()
    right.peer:write_eof()
    assert.same({ 23, 0 }, { moonloop.relay(left.peer, right.client) })
    right.client:write_eof()
    assert.equal("read ahead\nnot read yet", right.peer:read())
  end)

  it("closes neither stream", function()
    local wire <close> = line(pipes.pair)
    wire.left:write_eof()
    wire.right:write_eof()
    wire.task:await()
    assert.is_false(wire.a:is_closing())
    assert.is_false(wire.b:is_closing())
  end)

  it("stops reading while the other end does not read", function()
    local wire <close> = line(pipes.pair)
    local count = net.fill(wire.left)
    local writer = tasks.start(function() wire.left:write("end") end)
    assert.is_false(writer:done())
    wire.right:write("the other way is free")
    assert.equal("the other way is free", wire.left:readexactly(21))
    net.drain_filled(wire.right, count)
    assert.equal("end", wire.right:readexactly(3))
    writer:await()
  end)

  it("holds both streams for reading", function()
    local wire <close> = line(pipes.pair)
    net.raises("InvalidStateError", wire.a.read, wire.a, 1)
    net.raises("InvalidStateError", wire.b.read, wire.b, 1)
  end)

  it("goes on one way where an end of file cannot be passed on", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local source <close> = moonloop.connect_read_pipe(reading)
    local master <close>, slave = moonloop.open_pty()
    local typed <close> = assert(io.open(slave, "r+b"))
    os.execute("stty raw -echo <" .. slave)
    local task = tasks.start(moonloop.relay, master, source)
    writing:write("to the terminal\n")
    writing:close()
    wait_all_blocked()
    assert.equal("to the terminal", typed:read("l"))
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
  end)

  it("refuses what is no Stream", function()
    local pair <close> = pipes.pair()
    net.refuses("bad argument #1 to 'relay'", moonloop.relay, nil, pair.client)
    net.refuses("bad argument #2 to 'relay'", moonloop.relay, pair.client)
    net.refuses("bad argument #2 to 'relay'", moonloop.relay, pair.client, {})
    net.refuses("bad argument #1 to 'relay'", moonloop.relay, io.stdout, pair.client)
  end)
end)

describe("relay that fails", function()
  it("raises the reset of one side and stops the other direction", function()
    local raw <close> = peers.raw()
    local port = raw:ask("listen 5")
    local a <close> = moonloop.connect("127.0.0.1", math.tointeger(port))
    raw:ask("accept")
    local right <close> = pipes.pair()
    local task = tasks.start(moonloop.relay, a, right.client)
    raw:ask("reset")
    net.raises("ConnectionResetError", task.await, task)
    assert.is_false(a:is_closing())
    assert.is_false(right.client:is_closing())
    right.peer:write("left for the next reader")
    assert.equal("left for the next reader", right.client:read(100))
  end)

  it("raises BrokenPipeError when one side takes no more", function()
    local wire <close> = line(pipes.pair)
    wire.right:write_eof()
    wire.right:abort()
    wait_all_blocked()
    pcall(function()
      for _ = 1, 100 do
        wire.left:write("x")
        wait_all_blocked()
        if wire.task:done() then break end
      end
    end)
    local err = net.raises("ConnectionError", wire.task.await, wire.task)
    assert.is_true(err.kind == "BrokenPipeError" or err.kind == "ConnectionResetError")
    assert.is_false(wire.a:is_closing())
  end)

  it("raises InvalidStateError when one of the streams is closed meanwhile", function()
    for _, which in ipairs({ "a", "b" }) do
      for _, ending in ipairs({ "close", "abort" }) do
        local wire <close> = line(pipes.pair)
        wire[which][ending](wire[which])
        net.raises("InvalidStateError", wire.task.await, wire.task)
        local other = which == "a" and wire.b or wire.a
        assert.is_false(other:is_closing())
      end
    end
  end)

  it("raises InvalidStateError at once for a stream that is closed", function()
    local left <close>, right = pipes.pair(), pipes.pair()
    local _ <close> = right
    right.client:close()
    net.raises("InvalidStateError", moonloop.relay, left.peer, right.client)
    left.client:write("still there")
    assert.equal("still there", left.peer:read(100))
  end)

  it("raises InvalidStateError while another task reads, naming that task", function()
    local left <close>, right = pipes.pair(), pipes.pair()
    local _ <close> = right
    local reader = tasks.start({ name = "the first reader" }, left.peer.read, left.peer, 10)
    local err = net.raises("InvalidStateError", moonloop.relay, left.peer, right.client)
    assert.matches("the first reader", err.message, 1, true)
    left.client:write("for it")
    assert.equal("for it", reader:await())
  end)
end)

describe("relay that is cancelled", function()
  it("stops both directions, and both streams stay usable", function()
    local wire <close> = line(pipes.pair)
    wire.left:write("before")
    assert.equal("before", wire.right:readexactly(6))
    assert.is_true(tasks.cancel(wire.task))
    wire.left:write("to a")
    wire.right:write("to b")
    assert.equal("to a", wire.a:read(10))
    assert.equal("to b", wire.b:read(10))
    wire.a:write("from a")
    wire.b:write("from b")
    assert.equal("from a", wire.left:read(10))
    assert.equal("from b", wire.right:read(10))
  end)

  it("stops while it waits for a slow reader", function()
    local wire <close> = line(pipes.pair)
    net.fill(wire.left)
    assert.is_true(tasks.cancel(wire.task))
    assert.is_false(wire.a:is_closing())
    assert.is_false(wire.b:is_closing())
  end)

  it("loses no byte when the other end reads slowly", function()
    local wire <close> = line(pipes.pair)
    local text = net.text(4 * 1024 * 1024)
    local writer = tasks.start(function()
      wire.left:write(text)
      wire.left:write_eof()
    end)
    assert.is_true(tasks.cancel(wire.task))
    local again = moonloop.create_task(moonloop.relay, wire.a, wire.b)
    assert.is_true(wire.right:read() == text)
    writer:await()
    wire.right:write_eof()
    again:await()
  end)

  it("leaves with its block when it is bound to a time", function()
    local left <close>, right = pipes.pair(), pipes.pair()
    local _ <close> = right
    assert.is_false(moonloop.move_on_after(0.02, moonloop.relay, left.peer, right.client))
    left.client:write("x")
    assert.equal("x", left.peer:read(1))
  end)
end)
