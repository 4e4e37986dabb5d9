-- SPDX-License-Identifier: MIT
-- Streams on descriptors that are no TCP sockets: connect_read_pipe and connect_write_pipe with
-- programs, FIFOs, descriptors and files, what these take over, and what a stream of one direction
-- says when it is used in the other.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Streams on both ends of a new FIFO, which has no name any more.
-- @return the one that reads, the one that writes
local function fifo_streams(opts)
  local fifo <close> = pipes.fifo()
  local reading, writing = pipes.ends(fifo)
  return moonloop.connect_read_pipe(reading, opts), moonloop.connect_write_pipe(writing, opts)
end

-- Writes until an error comes.
local function write_on(stream)
  for _ = 1, 1000 do
    stream:write("x")
    wait_all_blocked()
  end
end

describe("connect_read_pipe", function()
  it("reads what a program of io.popen writes, to its end", function()
    local stream <close> = moonloop.connect_read_pipe(io.popen("seq 1 20000"))
    assert.equal("1\n", stream:readline())
    local count = 1
    for line in stream:lines() do
      count = count + 1
      assert(line == tostring(count))
    end
    assert.equal(20000, count)
    assert.is_nil(stream:read(1))
    assert.is_true(stream:at_eof())
  end)

  it("waits for what comes later, while the loop goes on", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    local task = tasks.start(function() return reader:readline() end)
    assert.is_false(task:done())
    net.trickle(writer, "a line\n", 1)
    assert.equal("a line\n", task:await())
    local rest = tasks.start(function() return reader:read() end)
    writer:write("the rest")
    writer:close()
    assert.equal("the rest", rest:await())
  end)

  it("takes a descriptor, and owns it from then on", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local fd = pipes.descriptor(fifo.path, "rb")
    reading:close()
    local stream = moonloop.connect_read_pipe(fd)
    assert.equal(fd, stream:fileno())
    writing:write("by number")
    writing:close()
    assert.equal("by number", stream:read())
    stream:close()
    stream:wait_closed()
    assert.is_false(pipes.is_open(fd))
  end)

  it("takes an object with fileno or getfd", function()
    for _, name in ipairs({ "fileno", "getfd" }) do
      local fifo <close> = pipes.fifo()
      local reading, writing = pipes.ends(fifo)
      local fd = pipes.descriptor(fifo.path, "rb")
      reading:close()
      local stream <close> = moonloop.connect_read_pipe({ [name] = function() return fd end })
      writing:write("by object")
      writing:close()
      assert.equal("by object", stream:read())
    end
  end)

  it("keeps the Lua file alive, and ends its use with the stream", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local writer <close> = moonloop.connect_write_pipe(writing)
    local weak = setmetatable({ reading }, { __mode = "v" })
    local stream = moonloop.connect_read_pipe(reading)
    reading = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    writer:write("x")
    assert.equal("x", stream:read(1))
    assert.is_truthy(weak[1])
    stream:abort()
    net.raises("BrokenPipeError", write_on, writer)
    assert.is_true(weak[1] == nil or not pcall(weak[1].read, weak[1]) or not weak[1]:read(1))
  end)

  it("reads a regular file", function()
    local text = net.text(300000)
    local file <close> = pipes.file(text)
    local stream <close> = moonloop.connect_read_pipe(io.open(file.path, "rb"))
    assert.equal(text:sub(1, 100), stream:readexactly(100))
    assert.is_true(stream:read() == text:sub(101))
    assert.is_nil(stream:read(1))
  end)

  it("reads on where a Lua file stands", function()
    local file <close> = pipes.file("first\nsecond\nthird\n")
    local lua_file = io.open(file.path, "rb")
    assert.equal("first", lua_file:read("l"))
    local stream <close> = moonloop.connect_read_pipe(lua_file)
    assert.equal("second\nthird\n", stream:read())
  end)

  it("keeps the limit it is given", function()
    local reader, writer = fifo_streams({ limit = 10 })
    local _ <close> = reader
    writer:write(("x"):rep(20), "\n")
    writer:close()
    net.raises("LimitOverrunError", reader.readline, reader)
    assert.equal(("x"):rep(20) .. "\n", reader:read())
  end)

  it("loses nothing when a read is cancelled", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    writer:write("half a ")
    local task = tasks.start(function() return reader:readline() end)
    assert.is_true(tasks.cancel(task))
    writer:write("line\n")
    writer:close()
    assert.equal("half a line\n", reader:readline())
  end)

  it("raises InvalidStateError in a read that waits when the stream is closed", function()
    local reader, writer = fifo_streams()
    local task = tasks.start(function() return reader:read(1) end)
    reader:close()
    net.raises("InvalidStateError", task.await, task)
    writer:abort()
  end)
end)

describe("connect_write_pipe", function()
  it("writes to a program of io.popen, all of it", function()
    local out <close> = pipes.file("")
    local text = net.text(1024 * 1024)
    local program = io.popen("cat >" .. out.path, "w")
    local stream <close> = moonloop.connect_write_pipe(program)
    stream:write(text)
    stream:write("\n")
    stream:close()
    stream:wait_closed()
    assert.is_true(program:close()) -- waits for the program
    assert.is_true(out:read() == text .. "\n")
  end)

  it("sends what Lua held back of a file first", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local reader <close> = moonloop.connect_read_pipe(reading)
    writing:write("held back, ")
    local stream = moonloop.connect_write_pipe(writing)
    stream:write("sent at once")
    stream:close()
    assert.equal("held back, sent at once", reader:read())
  end)

  it("waits while the reader does not read", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    local count = net.fill(writer)
    local task = tasks.start(function() writer:write("after") end)
    assert.is_false(task:done())
    net.drain_filled(reader, count)
    assert.equal("after", reader:readexactly(5))
    task:await()
    writer:close()
    assert.equal("", reader:read())
  end)

  it("raises BrokenPipeError when the reader has gone", function()
    local reader, writer = fifo_streams()
    local _ <close> = writer
    reader:abort()
    local err = net.raises("BrokenPipeError", write_on, writer)
    assert.equal("EPIPE", err.code)
    net.raises("BrokenPipeError", writer.write, writer, "x")
  end)

  it("raises BrokenPipeError in a write that waits when the reader goes", function()
    local reader, writer = fifo_streams()
    local _ <close> = writer
    net.fill(writer)
    local task = tasks.start(function() writer:write("x") end)
    reader:abort()
    net.raises("BrokenPipeError", task.await, task)
  end)

  it("ends the pipe by write_eof, once all is out", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    assert.is_true(writer:can_write_eof())
    local count = net.fill(writer)
    writer:write_eof()
    net.raises("InvalidStateError", writer.write, writer, "x")
    net.drain_filled(reader, count)
    assert.equal("", reader:read())
    writer:close()
    writer:wait_closed()
  end)

  it("writes to a regular file, where it stands", function()
    local file <close> = pipes.file("there already, ")
    local stream <close> = moonloop.connect_write_pipe(io.open(file.path, "ab"))
    local text = net.text(200000)
    stream:write("more: ")
    stream:write(text)
    stream:close()
    stream:wait_closed()
    assert.is_true(file:read() == "there already, more: " .. text)
  end)
end)

describe("A stream of one direction", function()
  it("that reads refuses to write", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    for _, call in ipairs({
      function() reader:write("x") end, function() reader:try_write("x") end,
      function() reader:writelines({ "x" }) end, function() reader:write_eof() end,
      function() reader:sendfile("/dev/null") end,
    }) do
      local err = net.raises("InvalidStateError", call)
      assert.matches("for reading only", err.message, 1, true)
    end
    assert.is_false(reader:can_write_eof())
    writer:write("reads on")
    writer:close()
    assert.equal("reads on", reader:read())
  end)

  it("that writes refuses to read", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    for _, call in ipairs({
      function() writer:read(1) end, function() writer:read() end,
      function() writer:readline() end, function() writer:readexactly(1) end,
      function() writer:readuntil("x") end, function() writer:peek(1) end,
    }) do
      local err = net.raises("InvalidStateError", call)
      assert.matches("for writing only", err.message, 1, true)
    end
    writer:write("writes on")
    writer:close()
    assert.equal("writes on", reader:read())
  end)

  it("tells its descriptor as extra information", function()
    local reader, writer = fifo_streams()
    local _ <close> = reader
    assert.equal(reader:fileno(), reader:get_extra_info("pipe"))
    assert.equal(writer:fileno(), writer:get_extra_info("pipe"))
    assert.is_nil(reader:get_extra_info("peername"))
    assert.equal("none", reader:get_extra_info("peername", "none"))
    writer:abort()
  end)

  it("is closed when nobody holds it any more", function()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local reader <close> = moonloop.connect_read_pipe(reading)
    moonloop.connect_write_pipe(writing):write("left open")
    writing = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
    assert.equal("left open", reader:read())
  end)
end)

describe("connect_read_pipe and connect_write_pipe", function()
  it("refuse what is no descriptor", function()
    for _, name in ipairs({ "connect_read_pipe", "connect_write_pipe" }) do
      local what = ("bad argument #1 to '%s'"):format(name)
      for _, wrong in ipairs({ "text", true, 1.5, {}, print }) do
        net.refuses(what, moonloop[name], wrong)
      end
      net.refuses(what, moonloop[name])
      local file <close> = assert(io.open("/dev/null", "r+"))
      what = ("bad argument #2 to '%s'"):format(name)
      net.refuses(what, moonloop[name], file, { limits = 5 })
    end
  end)

  it("raise an OSError for a descriptor that is not there", function()
    for _, name in ipairs({ "connect_read_pipe", "connect_write_pipe" }) do
      local err = net.raises("OSError", moonloop[name], 9999)
      assert.equal("EBADF", err.code)
    end
  end)

  it("refuse a Lua file that is closed", function()
    for _, name in ipairs({ "connect_read_pipe", "connect_write_pipe" }) do
      local file = assert(io.open("/dev/null", "r+"))
      file:close()
      net.refuses("closed", moonloop[name], file)
    end
  end)
end)

describe("A write to a pipe that nobody reads", function()
  it("does not end the process by a signal", function()
    local status, out, err = script.run([[
      local moonloop = require "moonloop"
      local stream = moonloop.connect_write_pipe(io.popen("exec 0<&-; exec true", "w"))
      local ok, err
      repeat
        ok, err = pcall(stream.write, stream, ("x"):rep(100000))
      until not ok
      stream:abort()
      print(err.kind)
    ]])
    assert.same({ 0, "BrokenPipeError\n", "" }, { status, out, err })
  end)
end)
