-- SPDX-License-Identifier: MIT
-- Protocols over pipes: connect_read_pipe and connect_write_pipe on FIFOs, on pipes to other
-- programs and on files.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local function read_pipe(file, extra)
  local protocol = protocols.recorder(extra)
  loop:connect_read_pipe(function() return protocol end, file)
  return protocol
end

local function write_pipe(file, extra)
  local protocol = protocols.recorder(extra)
  loop:connect_write_pipe(function() return protocol end, file)
  return protocol
end

-- A transport on either end of a FIFO: the reader's protocol, the writer's. Awaits.
local function both_ends(fifo)
  local from, to = pipes.ends(fifo)
  return read_pipe(from), write_pipe(to)
end

local function end_both(reader, writer)
  for _, protocol in ipairs { reader, writer } do
    protocol.transport:abort()
    protocol:lost()
    protocol:check()
  end
end

describe("connect_read_pipe", function()
  it("gives the transport and the protocol, whose connection_made has been called", function()
    local fifo <close> = pipes.fifo()
    local from, to = pipes.ends(fifo)
    local protocol = protocols.recorder()
    local transport, same = loop:connect_read_pipe(function() return protocol end, from)
    assert.equal(protocol, same)
    assert.equal(transport, protocol.transport)
    assert.equal("made", protocol:order())
    assert.is_true(transport:get_extra_info("pipe") >= 0)
    to:write("text")
    to:close()
    assert.equal("text", protocol:finished())
    assert.is_nil(protocol:lost())
    assert.equal("made data eof lost", protocol:order())
    protocol:check()
  end)

  it("reads what another program prints", function()
    local protocol = read_pipe(io.popen("printf 'one '; printf two"))
    assert.equal("one two", protocol:finished())
    assert.is_nil(protocol:lost())
    protocol:check()
  end)

  it("reads a file to its end", function()
    local text = net.text(300 * 1024)
    local file <close> = pipes.file(text)
    local protocol = read_pipe(assert(io.open(file.path, "rb")))
    assert.is_true(protocol:finished() == text)
    assert.is_nil(protocol:lost())
    protocol:check()
  end)

  it("owns a descriptor that it is given as a number", function()
    local fifo <close> = pipes.fifo()
    local writer <close> = assert(io.open(fifo.path, "r+b"))
    local fd = pipes.descriptor(fifo.path, "rb")
    local protocol = read_pipe(fd)
    assert.equal(fd, protocol.transport:get_extra_info("pipe"))
    writer:write("by number")
    writer:flush()
    assert.equal("by number", protocol:received(9))
    protocol.transport:close()
    assert.is_nil(protocol:lost())
    assert.is_false(pipes.is_open(fd))
  end)

  it("pauses and resumes", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    reader.transport:pause_reading()
    writer.transport:write("patience")
    writer.transport:close()
    writer:lost()
    wait_all_blocked()
    assert.equal("made", reader:order())
    reader.transport:resume_reading()
    assert.equal("patience", reader:finished())
    end_both(reader, writer)
  end)

  it("has a transport that is for reading only", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    net.raises("InvalidStateError", reader.transport.write, reader.transport, "x")
    assert.is_false(reader.transport:can_write_eof())
    end_both(reader, writer)
  end)

  it("calls connection_lost with what a callback raised", function()
    local reports <close> = tasks.reports()
    local function data_received() error("bad", 0) end
    local protocol = read_pipe(io.popen("echo x"), { data_received = data_received })
    assert.equal("bad", protocol:lost())
    assert.equal(1, #reports)
    protocol:check()
  end)
end)

describe("connect_write_pipe", function()
  it("writes to another program, which sees the end when the transport closes", function()
    local file <close> = pipes.free_path()
    local fifo <close> = pipes.fifo()
    local from, to <close> = pipes.ends(fifo)
    local program = read_pipe(from) -- says that it has ended
    local line = ("cat >%s; echo done >%s"):format(file.path, fifo.path)
    local writer = write_pipe(io.popen(line, "w"))
    local text = net.text(400 * 1024)
    writer.transport:write(text)
    writer.transport:close()
    assert.is_nil(writer:lost())
    assert.equal("done\n", program:received(5))
    assert.is_true(file:read() == text)
    assert.equal("file", io.type(to))
    end_both(program, writer)
  end)

  it("closes the pipe on write_eof, once all is out", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    reader.transport:pause_reading()
    local count = protocols.fill(writer)
    assert.is_true(writer.transport:can_write_eof())
    writer.transport:write_eof()
    net.raises("InvalidStateError", writer.transport.write, writer.transport, "x")
    wait_all_blocked()
    assert.is_nil(writer.is_lost)
    reader.transport:resume_reading()
    local text = reader:finished()
    assert.equal(count, #text)
    assert.is_true(protocols.is_filling(text))
    assert.is_nil(writer:lost())
    end_both(reader, writer)
  end)

  it("pauses and resumes its protocol", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    reader.transport:pause_reading()
    local count = protocols.fill(writer)
    assert.is_true(writer.transport:get_write_buffer_size() > 64 * 1024)
    reader.transport:resume_reading()
    reader:received(count)
    writer:wait(function() return writer.paused == false end)
    assert.equal("made pause resume", writer:order())
    end_both(reader, writer)
  end)

  it("calls connection_lost with BrokenPipeError when the reader goes away", function()
    for _, full in ipairs { false, true } do
      local fifo <close> = pipes.fifo()
      local reader, writer = both_ends(fifo)
      reader.transport:pause_reading()
      if full then protocols.fill(writer) end
      reader.transport:abort()
      reader:lost()
      assert.equal("BrokenPipeError", writer:lost().kind)
      writer.transport:write("into the void") -- which is dropped
      end_both(reader, writer)
    end
  end)

  it("drops what is unsent on abort", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    reader.transport:pause_reading()
    local count = protocols.fill(writer)
    writer.transport:abort()
    assert.is_nil(writer:lost())
    reader.transport:resume_reading()
    assert.is_true(#reader:finished() < count)
    end_both(reader, writer)
  end)

  it("lets data through in order to the end, whatever the sizes", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    local text = net.text(512 * 1024)
    local from, step = 1, 1
    while from <= #text do
      writer.transport:write(text:sub(from, from + step - 1))
      from, step = from + step, step * 2
      if step > 65536 then step = 1 end
      if writer.paused then writer:wait(function() return not writer.paused end) end
    end
    writer.transport:close()
    assert.is_true(reader:finished() == text)
    assert.is_nil(writer:lost())
    end_both(reader, writer)
  end)
end)

describe("Either pipe", function()
  it("leaves /dev/null in a Lua file that it was given, which it keeps alive", function()
    local fifo <close> = pipes.fifo()
    local held = setmetatable({ pipes.ends(fifo) }, { __mode = "v" })
    local reader, writer = read_pipe(held[1]), write_pipe(held[2])
    collectgarbage()
    collectgarbage()
    writer.transport:write("still there")
    assert.equal("still there", reader:received(11))
    local from, to = held[1], held[2]
    end_both(reader, writer)
    wait_all_blocked()
    assert.is_nil(from:read(1))
    assert.is_truthy(to:write("nowhere"))
    assert.is_true(from:close())
    assert.is_true(to:close())
  end)

  it("is closed when the factory raises or gives no table", function()
    for _, name in ipairs { "connect_read_pipe", "connect_write_pipe" } do
      for _, factory in ipairs { function() error("no", 0) end, function() return "no" end } do
        local fifo <close> = pipes.fifo()
        local _ <close> = assert(io.open(fifo.path, "r+b"))
        local fd = pipes.descriptor(fifo.path, name == "connect_read_pipe" and "rb" or "wb")
        assert.is_false(pcall(loop[name], loop, factory, fd))
        assert.is_false(pipes.is_open(fd))
      end
    end
  end)

  it("raises for a descriptor that is not there and a file that is closed", function()
    for _, name in ipairs { "connect_read_pipe", "connect_write_pipe" } do
      local err = net.raises("OSError", loop[name], loop, protocols.recorder, 9999)
      assert.equal("EBADF", err.code)
      local file = assert(io.open("/dev/null"))
      file:close()
      assert.is_false(pcall(loop[name], loop, protocols.recorder, file))
    end
  end)

  it("is told apart in words", function()
    local fifo <close> = pipes.fifo()
    local reader, writer = both_ends(fifo)
    assert.matches("^Transport: pipe .*%(open%)$", tostring(reader.transport))
    assert.matches("^Transport: pipe .*%(open%)$", tostring(writer.transport))
    end_both(reader, writer)
    assert.matches("%(closed%)$", tostring(reader.transport))
  end)
end)
