-- SPDX-License-Identifier: MIT
-- loop:sendfile on a transport: a file goes out between what is written before and after it,
-- whatever kind of file and of transport, and what becomes of it when the connection ends.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local MIB = 1024 * 1024

describe("loop:sendfile", function()
  for _, kind in ipairs(protocols.kinds) do
    it(("sends a file between what is written before and after (%s)"):format(kind), function()
      local text = net.text(2 * MIB + 11)
      local file <close> = pipes.file(text)
      local pair <close> = protocols.pair { kind = kind }
      local transport = pair.client.transport
      transport:write("before ")
      assert.equal(#text, loop:sendfile(transport, file.path))
      transport:write(" after")
      transport:close()
      assert.is_true(pair.peer:finished() == "before " .. text .. " after")
      assert.is_nil(pair.client:lost())
    end)
  end

  it("takes a path, a Lua file or a descriptor, with offset and count", function()
    local text = net.text(100 * 1024)
    local file <close> = pipes.file(text)
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    local total = 0
    local function check(expected, ...)
      assert.equal(#expected, loop:sendfile(transport, ...))
      total = total + #expected
      assert.is_true(pair.peer:received(total):sub(-#expected) == expected)
    end
    check(text, file.path)
    check(text:sub(1001), file.path, 1000)
    check(text:sub(1001, 1500), file.path, 1000, 500)
    check(text:sub(-10), file.path, #text - 10, 500)
    local handle <close> = assert(io.open(file.path, "rb"))
    check(text:sub(11, 30), handle, 10, 20)
    assert.equal(30, handle:seek())
    local fd_file <close>, fd = pipes.open(file.path, "rb")
    check(text:sub(101, 300), fd, 100, 200)
    assert.equal(300, pipes.position(fd))
    assert.equal("file", io.type(fd_file))
  end)

  it("sends nothing where there is nothing to send", function()
    local file <close> = pipes.file("four")
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    assert.equal(0, loop:sendfile(transport, file.path, 0, 0))
    assert.equal(0, loop:sendfile(transport, file.path, 4))
    assert.equal(0, loop:sendfile(transport, file.path, 100, 10))
    transport:write("!")
    assert.equal("!", pair.peer:received(1))
  end)

  it("waits for a peer that does not read, while the loop goes on", function()
    local text = net.text(16 * MIB)
    local file <close> = pipes.file(text)
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local task = tasks.start(function() return loop:sendfile(pair.client.transport, file.path) end)
    assert.is_false(task:done())
    pair.peer.transport:write("still there")
    assert.equal("still there", pair.client:received(11))
    pair.peer.transport:resume_reading()
    assert.is_true(pair.peer:received(#text) == text)
    assert.equal(#text, task:await())
  end)

  it("lets nothing that is written meanwhile get into the file", function()
    local text = net.text(12 * MIB)
    local file <close> = pipes.file(text)
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local task = tasks.start(function() return loop:sendfile(pair.client.transport, file.path) end)
    pair.client.transport:write("written meanwhile")
    pair.peer.transport:resume_reading()
    assert.equal(#text, task:await())
    assert.is_true(pair.peer:received(#text + 17) == text .. "written meanwhile")
  end)

  it("sends one file after the other where two tasks send", function()
    local one, other = ("1"):rep(6 * MIB), ("2"):rep(6 * MIB)
    local first <close> = pipes.file(one)
    local second <close> = pipes.file(other)
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local transport = pair.client.transport
    local sending = tasks.start(function() return loop:sendfile(transport, first.path) end)
    local waiting = tasks.start(function() return loop:sendfile(transport, second.path) end)
    pair.peer.transport:resume_reading()
    assert.is_true(pair.peer:received(#one + #other) == one .. other)
    assert.equal(#one, sending:await())
    assert.equal(#other, waiting:await())
  end)

  it("goes through a pipe, too", function()
    local text = net.text(MIB)
    local file <close> = pipes.file(text)
    local fifo <close> = pipes.fifo()
    local from, to = pipes.ends(fifo)
    local reader, writer = protocols.recorder(), protocols.recorder()
    loop:connect_read_pipe(function() return reader end, from)
    loop:connect_write_pipe(function() return writer end, to)
    assert.equal(#text, loop:sendfile(writer.transport, file.path))
    writer.transport:close()
    assert.is_true(reader:finished() == text)
    reader:lost()
    writer:lost()
    reader:check()
    writer:check()
  end)

  it("raises FileNotFoundError, and the transport is as it was", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    local err = net.raises("FileNotFoundError", loop.sendfile, loop, transport, "/no/such/file")
    assert.matches("/no/such/file", tostring(err), 1, true)
    transport:write("goes on")
    assert.equal("goes on", pair.peer:received(7))
  end)

  it("can be cancelled, and what is written then comes after what was sent", function()
    local text = net.text(16 * MIB)
    local file <close> = pipes.file(text)
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local task = tasks.start(function() loop:sendfile(pair.client.transport, file.path) end)
    assert.is_true(tasks.cancel(task))
    pair.client.transport:write("the end")
    pair.client.transport:close()
    pair.peer.transport:resume_reading()
    local got = pair.peer:finished()
    assert.is_true(#got < #text)
    assert.equal("the end", got:sub(-7))
    assert.is_true(got:sub(1, -8) == text:sub(1, #got - 7))
  end)

  it("raises when the transport is closing, and when it is lost", function()
    local file <close> = pipes.file("text")
    for _, ending in ipairs { "close", "abort", "write_eof" } do
      local pair <close> = protocols.pair()
      pair.client.transport[ending](pair.client.transport)
      net.raises("InvalidStateError", loop.sendfile, loop, pair.client.transport, file.path)
    end
    local pair <close> = protocols.pair()
    protocols.reset(pair.peer.transport)
    pair.client:lost()
    net.raises("Error", loop.sendfile, loop, pair.client.transport, file.path)
  end)

  it("raises InvalidStateError when the program aborts the transport meanwhile", function()
    local file <close> = pipes.file(net.text(16 * MIB))
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local task = tasks.start(function() loop:sendfile(pair.client.transport, file.path) end)
    pair.client.transport:abort()
    net.raises("InvalidStateError", task.await, task)
    assert.is_nil(pair.client:lost())
  end)

  it("raises what ended the connection, which connection_lost gets as well", function()
    local file <close> = pipes.file(net.text(16 * MIB))
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local task = tasks.start(function() loop:sendfile(pair.client.transport, file.path) end)
    protocols.reset(pair.peer.transport)
    net.raises("ConnectionError", task.await, task)
    assert.is_true(moonloop.is_error(pair.client:lost(), "ConnectionError"))
    wait_all_blocked()
  end)

  it("refuses what is no transport, no file, no offset", function()
    local file <close> = pipes.file("text")
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    net.refuses("#1 to 'sendfile'", loop.sendfile, loop, {}, file.path)
    net.refuses("#1 to 'sendfile'", loop.sendfile, loop, nil, file.path)
    net.refuses("#2 to 'sendfile'", loop.sendfile, loop, transport)
    net.refuses("#2 to 'sendfile'", loop.sendfile, loop, transport, {})
    net.refuses("#3 to 'sendfile'", loop.sendfile, loop, transport, file.path, -1)
    net.refuses("#3 to 'sendfile'", loop.sendfile, loop, transport, file.path, "x")
    net.refuses("#4 to 'sendfile'", loop.sendfile, loop, transport, file.path, 0, -1)
    transport:write("fine")
    assert.equal("fine", pair.peer:received(4))
  end)
end)
