-- SPDX-License-Identifier: MIT
-- sendfile holds the stream while it sends: what becomes of its turn when it is given up before
-- the first byte, when the file fails, when either end of the connection ends meanwhile, and when
-- two of them read from one pipe.
local moonloop = require "moonloop"
local faults = require "spec.support.faults"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local start = tasks.start

local PATIENCE <const> = 20 -- seconds after which a spec that waits in vain fails
local PIECE <const> = ("x"):rep(1000)
local LARGE <const> = net.text(3 * 1024 * 1024)

-- What the task comes to, if it comes to an end. Awaits.
local function result(task)
  return moonloop.wait_for(task, PATIENCE)
end

-- Writes until the system takes no more, so that a sendfile, which has nothing to send itself,
-- waits for the queue to go out. Awaits.
-- @return that sendfile's task, how many bytes were written
local function flushing(stream, path)
  local count, task = 0
  repeat
    assert(stream:try_write(PIECE))
    count = count + #PIECE
    task = start(function() return stream:sendfile(path, 0, 0) end)
  until not task:done()
  return task, count
end

describe("Stream:sendfile that waits for what was written before", function()
  it("gives its turn back when it is cancelled", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file("file")
    local task, count = flushing(pair.client, file.path)
    assert.is_true(tasks.cancel(task))
    assert.equal(count, #pair.peer:readexactly(count))
    assert.is_true(pair.client:try_write("after"))
    assert.equal("after", pair.peer:readexactly(5))
  end)

  it("gives its turn to who waits for it when it is cancelled", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file("file")
    local task, count = flushing(pair.client, file.path)
    local second = start(function() return pair.client:sendfile(file.path) end)
    local third = start(function() pair.client:write("third") end)
    assert.is_false(third:done())
    assert.is_true(tasks.cancel(task))
    assert.equal(count, #pair.peer:readexactly(count))
    assert.equal(4, result(second))
    result(third)
    assert.equal("filethird", pair.peer:readexactly(9))
  end)

  it("goes on although write_eof is called meanwhile", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file("file")
    local task, count = flushing(pair.client, file.path)
    pair.client:write_eof()
    local reading = start(function() return pair.peer:read() end)
    assert.equal(count, #result(reading))
    assert.equal(0, task:await())
  end)

  it("raises InvalidStateError when the stream is closed, and the peer sees its end", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file("file")
    local task, count = flushing(pair.client, file.path)
    pair.client:close()
    net.raises("InvalidStateError", task.await, task)
    local reading = start(function() return pair.peer:read() end)
    assert.is_true(#result(reading) <= count)
  end)
end)

describe("loop:sendfile on a transport that has paused its protocol", function()
  it("calls resume_writing when what was written before is out", function()
    local pair <close> = protocols.pair { kind = "socketpair" }
    local client, peer = pair.client, pair.peer
    local file <close> = pipes.file("file")
    peer.transport:pause_reading()
    client.transport:set_write_buffer_limits(100, 0)
    local count = protocols.fill(client)
    client.transport:set_write_buffer_limits(2 * count, 0)
    local task = start(function() return loop:sendfile(client.transport, file.path) end)
    assert.is_false(task:done())
    peer.transport:resume_reading()
    assert.equal(4, result(task))
    client:wait(function() return not client.paused end)
    assert.equal("file", peer:received(count + 4):sub(-4))
    assert.equal("made pause resume", client:order())
  end)
end)

describe("sendfile of a file that fails", function()
  local function failing_files(check)
    local file <close> = pipes.file("text")
    local unreadable <close> = assert(io.open(file.path, "a"))
    check(unreadable)
    check("/proc/self/mem") -- nothing is at its beginning
    check("/tmp")
  end

  it("raises the file's error and leaves the stream alone", function()
    local pair <close> = net.pair()
    failing_files(function(file)
      net.raises("OSError", pair.client.sendfile, pair.client, file)
      pair.client:write("goes on")
      assert.equal("goes on", pair.peer:readexactly(7))
    end)
  end)

  it("raises the file's error and leaves the transport alone", function()
    local pair <close> = protocols.pair()
    local size = 0
    failing_files(function(file)
      net.raises("OSError", loop.sendfile, loop, pair.client.transport, file)
      pair.client.transport:write("goes on")
      size = size + 7
      assert.equal("goes on", pair.peer:received(size):sub(-7))
    end)
    assert.is_nil(pair.client.is_lost)
  end)

  it("leaves the stream alone where the offset is beyond all files", function()
    local pair <close> = net.pair()
    local file <close> = pipes.file("text")
    pcall(pair.client.sendfile, pair.client, file.path, 1 << 62)
    pair.client:write("goes on")
    assert.equal("goes on", pair.peer:readexactly(7))
  end)
end)

-- A transport that is sending LARGE to a Stream that does not read yet. Awaits.
-- @return the recorder, the Stream, the task
local function sending(extra)
  local protocol = protocols.recorder(extra)
  local one, other = moonloop.socket.socketpair()
  local stream = moonloop.connect(nil, nil, { sock = other })
  loop:connect_accepted_socket(function() return protocol end, one)
  local file <close> = pipes.file(LARGE)
  local task = start(function() return loop:sendfile(protocol.transport, file.path) end)
  assert(not task:done(), "all was sent at once")
  return protocol, stream, task
end

describe("loop:sendfile whose peer ends its own sending meanwhile", function()
  it("sends the whole file, and the transport closes then", function()
    local protocol, stream, task = sending()
    local _ <close> = stream
    stream:write_eof()
    protocol:finished()
    assert.is_true(stream:read() == LARGE)
    assert.equal(#LARGE, result(task))
    assert.is_nil(protocol:lost())
    protocol:check()
  end)

  it("sends what was written behind the file, too", function()
    local protocol, stream, task = sending()
    local _ <close> = stream
    protocol.transport:write("after")
    stream:write_eof()
    assert.is_true(stream:read() == LARGE .. "after")
    assert.equal(#LARGE, result(task))
    assert.is_nil(protocol:lost())
  end)

  it("leaves the transport open where eof_received says so", function()
    local protocol, stream, task = sending { eof_received = function() return true end }
    local _ <close> = stream
    stream:write_eof()
    assert.is_true(stream:readexactly(#LARGE) == LARGE)
    assert.equal(#LARGE, result(task))
    protocol.transport:write("after")
    protocol.transport:close()
    assert.equal("after", stream:read())
    assert.is_nil(protocol:lost())
  end)
end)

describe("loop:sendfile during which its own transport", function()
  it("says write_eof sends the whole file, what was written behind it, and the end", function()
    local protocol, stream, task = sending()
    local _ <close> = stream
    protocol.transport:write("after")
    protocol.transport:write_eof()
    assert.is_true(stream:read() == LARGE .. "after")
    assert.equal(#LARGE, result(task))
    protocol.transport:close()
    assert.is_nil(protocol:lost())
  end)

  it("is closed is cut short, and nothing that was written behind it is sent", function()
    local protocol, stream, task = sending()
    local _ <close> = stream
    protocol.transport:write("after")
    protocol.transport:close()
    net.raises("InvalidStateError", task.await, task)
    local got = stream:read()
    assert.is_true(#got < #LARGE)
    assert.is_true(got == LARGE:sub(1, #got))
    assert.is_nil(protocol:lost())
  end)
end)

describe("Stream:sendfile during which its own stream says write_eof", function()
  it("sends the whole file, and the end", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file(LARGE)
    local task = start(function() return pair.client:sendfile(file.path) end)
    pair.client:write_eof()
    assert.is_true(pair.peer:read() == LARGE)
    assert.equal(#LARGE, result(task))
  end)
end)

describe("Stream:sendfile that waits for a silent pipe", function()
  it("raises ConnectionResetError when the peer resets and somebody reads", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local _ <close> = writing
    local link <close> = faults.link("TCP")
    local task = start(function() link.near:sendfile(reading) end)
    local reader = start(function() link.near:read(1) end)
    link:reset()
    net.raises("ConnectionResetError", result, reader)
    net.raises("ConnectionResetError", result, task)
  end)

  it("sends what comes although write_eof is called meanwhile", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local pair <close> = pipes.pair()
    local task = start(function() return pair.client:sendfile(reading) end)
    pair.client:write_eof()
    writing:write("from the pipe")
    writing:close()
    assert.equal("from the pipe", pair.peer:read())
    assert.equal(13, result(task))
  end)

  -- The second one's read would block the whole process.
  it("lets the loop go on when another one takes what comes", function()
    local fifo <close> = pipes.fifo()
    local status, out = stock.moonloop(([[
      local moonloop = require "moonloop"
      local pipe = io.open(%q, "r+")
      local jobs, peers = {}, {}
      for i = 1, 2 do
        local stream
        stream, peers[i] = moonloop.socketpair()
        jobs[i] = moonloop.create_task(function() return stream:sendfile(pipe, 0, 3) end)
      end
      moonloop.testing.wait_all_blocked()
      pipe:write("one")
      pipe:flush()
      moonloop.wait(jobs, { return_when = "FIRST_COMPLETED" })
      moonloop.testing.wait_all_blocked()
      print(jobs[1]:done() ~= jobs[2]:done())
      pipe:write("two")
      pipe:flush()
      print(moonloop.gather(table.unpack(jobs)))
    ]]):format(fifo.path))
    assert.same({ 0, "true\n3\t3\n" }, { status, out })
  end)
end)

describe("Stream:sendfile whose task is closed by force", function()
  it("leaves nothing that the loop would look at", function()
    local fifo <close> = pipes.fifo()
    local status, out = stock.lua(([[
      local moonloop = require "moonloop"
      local pipe = io.open(%q, "r+")
      local runner = moonloop.Runner { shutdown_timeout = 0.05 }
      runner:run(function()
        moonloop.get_running_loop():set_exception_handler(function() end)
        local stream, peer = moonloop.socketpair()
        moonloop.create_task(function()
          local _ <close> = stream
          while true do pcall(moonloop.sleep, 0.01) end
        end)
        moonloop.create_task(function()
          while true do pcall(stream.sendfile, stream, pipe) pcall(moonloop.sleep, 0.01) end
        end)
        moonloop.testing.wait_all_blocked()
      end)
      for _ = 1, 5 do collectgarbage() end
      local list = {}
      for i = 1, 20000 do list[i] = ("x"):rep(100) .. i end
      pipe:write("hello")
      pipe:flush()
      runner:run(moonloop.sleep, 0.01)
      print("fine")
    ]]):format(fifo.path))
    assert.same({ 0, "fine\n" }, { status, out })
  end)
end)
