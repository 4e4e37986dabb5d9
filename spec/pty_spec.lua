-- SPDX-License-Identifier: MIT
-- moonloop.open_pty: a terminal whose other side programs use, read and written as a Stream; what
-- the terminal does with what is typed, and its end when no program has it any more.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Runs a piece of shell on the terminal `slave`. What it gives back is closed once the program
-- has ended, since closing it waits for that.
local function program_on(slave, line)
  return assert(io.popen(("sh -c %s <%s >%s 2>&1"):format(command.quote(line), slave, slave)))
end

describe("open_pty", function()
  it("gives a Stream and the path of the other side", function()
    local master <close>, slave = moonloop.open_pty()
    assert.matches("^/dev/pts/%d+$", slave)
    assert.matches("Stream", tostring(master), 1, true)
    assert.is_true(master:fileno() >= 0)
  end)

  it("is a terminal to the program on the other side", function()
    local master <close>, slave = moonloop.open_pty()
    local program <close> = program_on(slave, "test -t 0 && test -t 1 && tty")
    assert.equal(slave .. "\r\n", master:read())
    program:close()
  end)

  it("brings what a program writes, the last of it after its end", function()
    local master <close>, slave = moonloop.open_pty()
    local program <close> = program_on(slave, "stty -opost; seq 1 5000")
    local count = 0
    for line in master:lines() do
      count = count + 1
      assert.equal(tostring(count), line)
    end
    assert.equal(5000, count)
    program:close()
  end)

  it("hands over what is typed, line by line, and echoes it", function()
    local master <close>, slave = moonloop.open_pty()
    local line = "echo ready; read -r a; read -r b; echo \"<$a> <$b>\""
    local program <close> = program_on(slave, line)
    assert.equal("ready\r\n", master:readline())
    master:write("some words\n")
    assert.equal("some words\r\n", master:readline())
    master:write("more")
    assert.equal("more", master:readexactly(4))
    master:write("\n")
    assert.equal("\r\n<some words> <more>\r\n", master:read())
    program:close()
  end)

  it("ends a program's input by the end-of-file key", function()
    local master <close>, slave = moonloop.open_pty()
    local program <close> = program_on(slave, "stty -echo; echo ready; cat; echo done")
    assert.equal("ready\r\n", master:readline())
    master:write("a line\n")
    assert.equal("a line\r\n", master:readline())
    master:write("\4")
    assert.equal("done\r\n", master:read())
    program:close()
  end)

  it("talks with an interactive shell", function()
    local master <close>, slave = moonloop.open_pty()
    local program <close> = program_on(slave, "stty -echo; PS1='$ ' exec sh -i")
    master:readuntil("$ ")
    for i = 1, 20 do
      master:write("echo $((", i, " * 7))\n")
      assert.equal(i * 7 .. "\r\n$ ", master:readuntil("$ "))
    end
    master:write("exit\n")
    master:read()
    program:close()
  end)

  it("takes the limit it is given", function()
    local master <close>, slave = moonloop.open_pty({ limit = 10 })
    local program <close> = program_on(slave, "echo a line that is too long")
    net.raises("LimitOverrunError", master.readline, master)
    assert.equal("a line that is too long\r\n", master:read())
    program:close()
  end)

  it("refuses an option that does not exist", function()
    net.refuses("bad argument #1 to 'open_pty'", moonloop.open_pty, { limits = 5 })
    net.refuses("bad argument #1 to 'open_pty'", moonloop.open_pty, "text")
  end)
end)

describe("The master of a pty", function()
  it("waits for the first program to open the other side", function()
    local master <close>, slave = moonloop.open_pty()
    local task = tasks.start(function() return master:readline() end)
    assert.is_false(task:done())
    local program <close> = program_on(slave, "echo here")
    assert.equal("here\r\n", task:await())
    assert.equal("", master:read())
    program:close()
  end)

  it("is at its end when the last program has closed the other side", function()
    local master <close>, slave = moonloop.open_pty()
    local one = assert(io.open(slave, "r+b"))
    local two = assert(io.open(slave, "r+b"))
    local task = tasks.start(function() return master:read(100) end)
    one:close()
    wait_all_blocked()
    assert.is_false(task:done())
    two:close()
    assert.is_nil(task:await())
    assert.is_true(master:at_eof())
    assert.is_nil(master:readline())
    assert.is_nil(master:read(10))
  end)

  it("takes what is typed before a program is there", function()
    local master <close>, slave = moonloop.open_pty()
    master:write("typed ahead\n")
    local program <close> = program_on(slave, "read -r line; echo \"<$line>\"")
    assert.equal("typed ahead\r\n<typed ahead>\r\n", master:read())
    program:close()
  end)

  it("cannot end its writing alone", function()
    local master <close> = moonloop.open_pty()
    assert.is_false(master:can_write_eof())
    net.raises("InvalidStateError", master.write_eof, master)
    assert.is_true(master:try_write("still open\n"))
  end)

  it("waits with its writing while no program reads", function()
    local master <close>, slave = moonloop.open_pty()
    local terminal <close> = assert(io.open(slave, "r+b"))
    os.execute("stty raw -echo <" .. slave)
    local text = ("0123456789abcdef"):rep(16384)
    local task = tasks.start(function()
      master:write(text)
      master:drain()
    end)
    assert.is_false(task:done())
    local reader <close> = moonloop.connect_read_pipe(terminal)
    assert.is_true(reader:readexactly(#text) == text)
    task:await()
  end)

  it("loses nothing when a read is cancelled", function()
    local master <close>, slave = moonloop.open_pty()
    local terminal <close> = assert(io.open(slave, "r+b"))
    terminal:setvbuf("no")
    terminal:write("half a ")
    local task = tasks.start(function() return master:readline() end)
    assert.is_true(tasks.cancel(task))
    terminal:write("line\n")
    assert.equal("half a line\r\n", master:readline())
  end)

  it("raises InvalidStateError in a read that waits when it is closed", function()
    for _, ending in ipairs({ "close", "abort" }) do
      local master = moonloop.open_pty()
      local task = tasks.start(function() return master:read(1) end)
      master[ending](master)
      net.raises("InvalidStateError", task.await, task)
      master:wait_closed()
    end
  end)

  it("ends the input of the program on the other side when it is closed", function()
    local master, slave = moonloop.open_pty()
    local out <close> = pipes.file("")
    local line = ("echo ready; cat; echo ended >%s"):format(out.path)
    local program <close> = program_on(slave, line)
    assert.equal("ready\r\n", master:readline())
    master:close()
    master:wait_closed()
    program:close()
    assert.equal("ended\n", out:read())
  end)

  it("is not handed on to programs that are started", function()
    local master, slave = moonloop.open_pty()
    local _ <close> = assert(io.popen("cat >/dev/null", "w"))
    local terminal = assert(io.open(slave, "r+b"))
    master:close()
    master:wait_closed()
    local reader <close> = moonloop.connect_read_pipe(terminal)
    assert.is_true(moonloop.move_on_after(10, pcall, reader.read, reader, 1))
  end)

  it("tells no addresses", function()
    local master <close> = moonloop.open_pty()
    assert.is_nil(master:get_extra_info("peername"))
    assert.equal("none", master:get_extra_info("peercred", "none"))
  end)
end)
