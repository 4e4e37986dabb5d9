-- SPDX-License-Identifier: MIT
-- Stream:sendfile where the system call does it and where it can't: plain sockets, then sources
-- that are no regular files and targets that are no sockets, and a file far larger than memory
-- ought to grow.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local function all_of(pair)
  pair.client:write_eof()
  return pair.peer:read()
end

describe("Stream:sendfile from a pipe", function()
  it("sends all that the program writes", function()
    local pair <close> = net.pair()
    local source <close> = assert(io.popen("seq 1 30000"))
    local got = moonloop.create_task(function() return pair.peer:read() end)
    local lines = {}
    for i = 1, 30000 do lines[i] = i .. "\n" end
    local text = table.concat(lines)
    assert.equal(#text, pair.client:sendfile(source))
    pair.client:write_eof()
    assert.is_true(got:await() == text)
  end)

  it("takes an offset of 0 and no other", function()
    local pair <close> = net.pair()
    local source <close> = assert(io.popen("printf abcdef"))
    assert.is_false(pcall(pair.client.sendfile, pair.client, source, 2))
    assert.equal(6, pair.client:sendfile(source, 0))
    assert.equal("abcdef", all_of(pair))
  end)

  it("takes no more from it than the count", function()
    local pair <close> = net.pair()
    local source <close> = assert(io.popen("printf abcdef"))
    assert.equal(2, pair.client:sendfile(source, nil, 2))
    pair.client:write("|")
    assert.equal(4, pair.client:sendfile(source, nil, 100))
    assert.equal("ab|cdef", all_of(pair))
  end)

  it("begins with what Lua has not read yet", function()
    local pair <close> = net.pair()
    local source <close> = assert(io.popen("printf 'first line\nthe rest'"))
    assert.equal("first line", source:read("l"))
    assert.equal(8, pair.client:sendfile(source))
    assert.equal("the rest", all_of(pair))
  end)

  it("lets the loop go on while the pipe has nothing", function()
    local pair <close> = net.pair()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local task = tasks.start(function() return pair.client:sendfile(reading) end)
    for _, word in ipairs({ "one ", "two ", "three" }) do
      assert.is_false(task:done())
      writing:write(word)
      writing:flush()
      assert.equal(word, pair.peer:readexactly(#word))
    end
    writing:close()
    assert.equal(13, task:await())
  end)

  it("can be cancelled while the pipe has nothing, and takes nothing then", function()
    local pair <close> = net.pair()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local task = tasks.start(function() return pair.client:sendfile(reading) end)
    assert.is_true(tasks.cancel(task))
    pair.client:write("between ")
    writing:write("kept")
    writing:close()
    assert.equal(4, pair.client:sendfile(reading))
    assert.equal("between kept", all_of(pair))
  end)

  it("raises InvalidStateError when the stream is closed meanwhile", function()
    local pair <close> = net.pair()
    local fifo <close> = pipes.fifo()
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local task = tasks.start(function() return pair.client:sendfile(reading) end)
    pair.client:abort()
    assert.is_true(moonloop.move_on_after(5, net.raises, "InvalidStateError", task.await, task))
    writing:close()
  end)

  it("may go on beside another one from the same pipe", function()
    local one <close>, fifo = pipes.pair(), pipes.fifo()
    local other <close> = pipes.pair()
    local _ <close> = fifo
    local reading, writing = pipes.ends(fifo)
    local _ <close> = reading
    local jobs = {}
    for i, pair in ipairs({ one, other }) do
      jobs[i] = tasks.start(function() return pair.client:sendfile(reading) end)
    end
    writing:write("for either")
    writing:close()
    local sent = 0
    assert.is_true(moonloop.move_on_after(5, function()
      for _, job in ipairs(jobs) do sent = sent + job:await() end
    end))
    assert.equal(10, sent)
    assert.equal(10, #(all_of(one) .. all_of(other)))
  end)

  it("leaves the pipe blocking for those who share it", function()
    local pair <close> = net.pair()
    local fifo <close> = pipes.fifo()
    local _, writing <close> = pipes.ends(fifo)
    local reading <close>, fd = pipes.open(fifo.path, "rb")
    local task = tasks.start(function() return pair.client:sendfile(reading) end)
    assert.is_true(pipes.is_blocking("self", fd))
    writing:write("x")
    writing:close()
    task:await()
    assert.is_true(pipes.is_blocking("self", fd))
  end)
end)

describe("Stream:sendfile from a file that the system makes up", function()
  it("sends all of one that tells no size", function()
    local pair <close> = net.pair()
    local sent = pair.client:sendfile("/proc/self/status")
    local text = all_of(pair)
    assert.equal(#text, sent)
    assert.matches("^Name:", text)
    assert.matches("\nPid:", text, 1, true)
  end)

  it("sends a part of one that tells no size", function()
    local pair <close> = net.pair()
    assert.equal(4, pair.client:sendfile("/proc/self/status", 0, 4))
    assert.equal("Name", all_of(pair))
  end)

  it("sends as much of an endless one as the count says", function()
    local pair <close> = net.pair()
    local got = moonloop.create_task(function() return pair.peer:read() end)
    assert.equal(300000, pair.client:sendfile("/dev/zero", 0, 300000))
    pair.client:write_eof()
    assert.is_true(got:await() == ("\0"):rep(300000))
  end)
end)

describe("Stream:sendfile to a pipe", function()
  local LARGE <const> = net.text(1024 * 1024 + 5)

  it("sends a file, and what is written comes after it", function()
    local file <close>, out = pipes.file(LARGE), pipes.file("")
    local _ <close> = out
    local program = io.popen("cat >" .. out.path, "w")
    local stream <close> = moonloop.connect_write_pipe(program)
    stream:write("before\n")
    assert.equal(#LARGE, stream:sendfile(file.path))
    stream:write("\nafter")
    stream:close()
    stream:wait_closed()
    program:close() -- waits for the program
    assert.is_true(out:read() == "before\n" .. LARGE .. "\nafter")
  end)

  it("waits for a reader that is slow, in its turn", function()
    local file <close>, fifo = pipes.file(LARGE), pipes.fifo()
    local _ <close> = fifo
    local reading, writing = pipes.ends(fifo)
    local stream = moonloop.connect_write_pipe(writing)
    local reader <close> = moonloop.connect_read_pipe(reading)
    local task = tasks.start(function() return stream:sendfile(file.path) end)
    local later = tasks.start(function() stream:write("later") end)
    assert.is_false(task:done())
    assert.is_false(stream:try_write("pushed in"))
    assert.is_true(reader:readexactly(#LARGE) == LARGE)
    assert.equal("later", reader:readexactly(5))
    assert.equal(#LARGE, task:await())
    later:await()
    stream:close()
    assert.equal("", reader:read())
  end)

  it("raises BrokenPipeError when the reader goes away", function()
    local file <close>, fifo = pipes.file(LARGE), pipes.fifo()
    local _ <close> = fifo
    local reading, writing = pipes.ends(fifo)
    local stream <close> = moonloop.connect_write_pipe(writing)
    local task = tasks.start(function() return stream:sendfile(file.path) end)
    reading:close()
    net.raises("BrokenPipeError", task.await, task)
  end)

  it("stays usable when it is cancelled in the middle", function()
    local file <close>, fifo = pipes.file(LARGE), pipes.fifo()
    local _ <close> = fifo
    local reading, writing = pipes.ends(fifo)
    local stream = moonloop.connect_write_pipe(writing)
    local reader <close> = moonloop.connect_read_pipe(reading)
    local lua_file <close> = assert(io.open(file.path, "rb"))
    local task = tasks.start(function() return stream:sendfile(lua_file) end)
    assert.is_true(tasks.cancel(task))
    local sent = lua_file:seek()
    assert.is_true(sent > 0 and sent < #LARGE)
    local got = moonloop.create_task(function() return reader:read() end)
    stream:write("after")
    stream:close()
    assert.is_true(got:await() == LARGE:sub(1, sent) .. "after")
  end)
end)

describe("Stream:sendfile to a terminal", function()
  it("sends a file", function()
    local file <close>, out = pipes.file(("a line of text\n"):rep(10000)), pipes.file("")
    local _ <close> = out
    local master <close>, slave = moonloop.open_pty()
    local line = ("stty raw -echo; echo ready; head -c 150000 >%s"):format(out.path)
    local program <close> = io.popen(("sh -c %s <%s >%s 2>&1")
      :format(command.quote(line), slave, slave))
    assert.matches("^ready", master:readline())
    assert.equal(150000, master:sendfile(file.path))
    assert.equal("", master:read())
    program:close()
    assert.is_true(out:read() == file:read())
  end)
end)

describe("Stream:sendfile of a large file", function()
  -- Prints what was sent, by how many KiB the process grew, and what another one received.
  local SCRIPT = [[
    local moonloop = require "moonloop"
    local function resident()
      collectgarbage()
      return tonumber(io.open("/proc/self/status"):read("a"):match("VmHWM:%s*(%d+)"))
    end
    local server = moonloop.start_server(function(stream)
      stream:sendfile("small")
      local before = resident()
      print(stream:sendfile("large"), resident() - before)
    end, "127.0.0.1", 0)
    local line = "bash -c 'cat </dev/tcp/127.0.0.1/%d | wc -c'"
    local receiver = io.popen(line:format(server:port()))
    local count <close> = moonloop.connect_read_pipe(receiver)
    io.write(count:readline())
    server:close()
    server:wait_closed()
  ]]

  it("keeps memory flat #load", function()
    local folder <close> = script.folder()
    folder:write("script.lua", SCRIPT)
    local status, out, err = folder:shell([[
      truncate -s 1M small && truncate -s 512M large && exec "$MOONLOOP" script.lua
    ]], { timeout = 120 })
    assert.equal(0, status, err)
    local sent, grown, got = out:match("^(%d+)\t(%d+)\n(%d+)\n$")
    assert.equal(512 * 1024 * 1024, math.tointeger(sent))
    assert.equal(513 * 1024 * 1024, math.tointeger(got))
    assert.is_true(tonumber(grown) < 16 * 1024, grown .. " KiB")
  end)

  it("is left to the system call #load", function()
    if command.run({ "sh", "-c", "strace true" }) ~= 0 then
      return pending("strace is not there or may not trace")
    end
    local folder <close> = script.folder()
    folder:write("script.lua", SCRIPT)
    local status, out, err = folder:shell([[
      truncate -s 1M small && truncate -s 32M large &&
      exec strace -o calls -e trace=sendfile "$MOONLOOP" script.lua
    ]], { timeout = 120, env = { ASAN_OPTIONS = "detect_leaks=0" } })
    assert.equal(0, status, err)
    assert.matches("^33554432\t", out)
    local calls, bytes = folder:read("calls"), 0
    for count in calls:gmatch("sendfile[^\n]* = (%d+)\n") do bytes = bytes + count end
    assert.equal(33 * 1024 * 1024, math.tointeger(bytes))
  end)
end)
