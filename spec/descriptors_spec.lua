-- SPDX-License-Identifier: MIT
-- Descriptors that are not the stream's alone: closed by somebody else, of a Lua file that the
-- program closes, of kinds that are neither pipe, file nor terminal, and shared with others who
-- must not find them non-blocking.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local script = require "spec.support.script"
local stock = require "spec.support.stock"

local loop = moonloop.get_event_loop()

-- Runs `source` in a process of its own, which what goes wrong would end or block.
-- @return the lines it printed
local function apart(source)
  local status, out, err = stock.moonloop('local moonloop = require "moonloop"\n' .. source)
  assert.equal("", err)
  assert.equal(0, status)
  return out
end

describe("A descriptor that somebody else has closed", function()
  local PRELUDE = [[
    local function close_under(object) moonloop.connect_read_pipe(object:fileno()):abort() end
    local function tell(err)
      print(moonloop.is_error(err, "OSError") and err.code or err)
    end
    local function try(fn, ...) tell(select(2, pcall(fn, ...))) end
  ]]

  local CASES = {
    ["Stream:read"] = [[
      local near, far = moonloop.socketpair()
      close_under(near)
      try(near.read, near, 1)
    ]],
    ["Stream:write"] = [[
      local near, far = moonloop.socketpair()
      close_under(near)
      try(near.write, near, ("x"):rep(1000000))
    ]],
    ["Stream:write to a pseudo-terminal that nobody reads"] = [[
      local master, slave = moonloop.open_pty()
      io.open(slave, "r+"):close()
      local task = moonloop.create_task(function()
        for _ = 1, 100 do master:write(("x\n"):rep(5000)) end
      end)
      moonloop.testing.wait_all_blocked()
      close_under(master)
      try(moonloop.wait_for, task, 20)
    ]],
    ["a Transport when a sendfile hands its turn back"] = [[
      local loop, one, other = moonloop.get_running_loop(), moonloop.socket.socketpair()
      local lost = moonloop.Future()
      local transport = loop:connect_accepted_socket(function()
        return { connection_lost = function(_, err) lost:set_result(err) end }
      end, one)
      local silent, its_peer = moonloop.socket.socketpair()
      transport:pause_reading()
      local task = moonloop.create_task(function()
        loop:sendfile(transport, silent:fileno())
      end)
      moonloop.testing.wait_all_blocked()
      transport:write("queued")
      close_under(transport)
      task:cancel()
      loop:call_later(5, print, "only when a timer comes")
      tell(lost:await())
    ]],
    ["Socket:recv"] = [[
      local near, far = moonloop.socket.socketpair()
      close_under(near)
      try(near.recv, near)
    ]],
    ["Socket:sendall"] = [[
      local near, far = moonloop.socket.socketpair()
      close_under(near)
      try(near.sendall, near, ("x"):rep(1000000))
    ]],
    ["Socket:accept"] = [[
      local listener = moonloop.socket.tcp()
      listener:bind({ host = "127.0.0.1", port = 0 })
      listener:listen()
      close_under(listener)
      try(listener.accept, listener)
    ]],
  }

  for what, source in pairs(CASES) do
    it("is an OSError with the code EBADF: " .. what, function()
      assert.equal("EBADF\ngoes on\n",
        apart(PRELUDE .. source .. '\nprint("goes on") io.stdout:flush() os.exit(0)'))
    end)
  end

  it("does not end the process when the program has closed the Lua file of a pipe", function()
    local out = apart(PRELUDE .. [[
      local file = io.popen("echo text")
      local stream = moonloop.connect_read_pipe(file)
      file:close()
      try(stream.read, stream, 5)
    ]])
    assert.is_true(out == "text\n\n" or out == "EBADF\n", out)
  end)
end)

describe("A Lua file that the program closes although a Stream has it", function()
  -- A Stream of a file, closed, whose number somebody else has got; Awaits.
  -- @return the Stream, both ends of the socketpair that one end of has the number
  local function overtaken()
    local file = assert(io.open("/dev/zero", "rb"))
    local stream = moonloop.connect_read_pipe(file)
    local fd = stream:fileno()
    file:close()
    local near, far = moonloop.socket.socketpair()
    assert(near:fileno() == fd, "the number was not taken again")
    return stream, near, far
  end

  local function check(near, far)
    near:send("hello")
    assert.equal("hello", far:recv())
    near:close()
    far:close()
  end

  it("leaves whoever has its number now alone when the Stream is closed", function()
    local stream, near, far = overtaken()
    stream:close()
    check(near, far)
  end)

  it("leaves whoever has its number now alone when the Stream is aborted", function()
    local stream, near, far = overtaken()
    stream:abort()
    check(near, far)
  end)

  it("leaves whoever has its number now alone when the Stream is collected", function()
    local near, far
    do
      local stream
      stream, near, far = overtaken()
      assert.is_false(stream:is_closing())
    end
    collectgarbage()
    collectgarbage()
    check(near, far)
  end)

  it("makes a later read raise, which takes nothing from whoever has its number", function()
    local stream, near, far = overtaken()
    far:send("for near")
    local err = net.raises("OSError", stream.read, stream, 8)
    assert.equal("EBADF", err.code)
    assert.equal("for near", near:recv())
    stream:abort()
    check(near, far)
  end)

  it("makes a later write raise, which sends nothing to whoever has its number", function()
    local place <close> = pipes.file("")
    local file = assert(io.open(place.path, "wb"))
    local stream = moonloop.connect_write_pipe(file)
    local fd = stream:fileno()
    file:close()
    local near, far = moonloop.socket.socketpair()
    assert.equal(fd, near:fileno())
    local err = net.raises("OSError", stream.write, stream, "lost")
    assert.equal("EBADF", err.code)
    stream:abort()
    check(near, far)
  end)
end)

describe("A Stream of a device that is no file", function()
  -- Runs `source` with an eventfd, which blocks, as descriptors 3 and 4.
  local function with_eventfd(source)
    local folder <close> = script.folder()
    folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
    folder:write("start.py", [[
import os, sys
made = os.eventfd(0, 0)
for number in (3, 4):
    os.dup2(made, number, inheritable=True)
os.execv(sys.argv[1], [sys.argv[1], "script.lua"])
]])
    local status, out, err = folder:shell('exec python3 start.py "$MOONLOOP"')
    assert.same({ 0, "" }, { status, err })
    return out
  end

  it("lets other tasks run while nothing comes", function()
    assert.equal("waits\n8\t1\n", with_eventfd([[
      local reader <close>, writer = moonloop.connect_read_pipe(3), moonloop.connect_write_pipe(4)
      local task = moonloop.create_task(function() return reader:read(8) end)
      moonloop.testing.wait_all_blocked()
      print(task:done() and "done" or "waits")
      writer:write(("<I8"):pack(1))
      local data = task:await()
      print(#data, (("<I8"):unpack(data)))
      writer:abort()
    ]]))
  end)

  it("may be cancelled, and a protocol's may be closed, while nothing comes", function()
    assert.equal("true\nlost\n", with_eventfd([[
      local reader <close> = moonloop.connect_read_pipe(3)
      local task = moonloop.create_task(function() return reader:read(8) end)
      moonloop.testing.wait_all_blocked()
      task:cancel()
      pcall(task.await, task)
      print(task:cancelled())
      local transport = moonloop.get_running_loop():connect_read_pipe(function()
        return { connection_lost = function() print("lost") end }
      end, 4)
      moonloop.testing.wait_all_blocked()
      transport:close()
      moonloop.testing.wait_all_blocked()
    ]]))
  end)

  it("reads what never blocks without waiting", function()
    local zero <close> = moonloop.connect_read_pipe(assert(io.open("/dev/zero", "rb")))
    assert.equal(("\0"):rep(1000), zero:readexactly(1000))
    local null <close> = moonloop.connect_read_pipe(assert(io.open("/dev/null", "rb")))
    assert.equal("", null:read())
  end)
end)

describe("A shared descriptor that is made a Stream", function()
  local NONBLOCKING = [[
    local function is_nonblocking(fd)
      for line in io.lines("/proc/self/fdinfo/" .. fd) do
        local flags = line:match("^flags:%s*(%d+)")
        if flags then return tonumber(flags, 8) & 0x800 ~= 0 end
      end
    end
  ]]

  local WAYS = {
    ["connect_read_pipe(io.stdin)"] = [[
      local stream = moonloop.connect_read_pipe(io.stdin)
      local line = stream:readline()
    ]],
    ["connect_read_pipe(0)"] = [[
      local stream = moonloop.connect_read_pipe(0)
      local line = stream:readline()
    ]],
    ["loop:connect_read_pipe(factory, io.stdin)"] = [[
      local came = moonloop.Future()
      moonloop.get_running_loop():connect_read_pipe(function()
        return { data_received = function(_, data) came:set_result(data) end }
      end, io.stdin)
      local line = came:await()
    ]],
  }
  local HOW = {
    ["a terminal"] = "echo typed | script -qec '\"$MOONLOOP\" script.lua' /dev/null",
    ["a pipe"] = 'echo typed | "$MOONLOOP" script.lua',
  }

  for what, source in pairs(WAYS) do
    for kind, line in pairs(HOW) do
      it(("stays blocking for the others: %s, %s"):format(what, kind), function()
        local folder <close> = script.folder()
        folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. NONBLOCKING .. source
          .. 'print(line:match("%w+"), is_nonblocking(0), is_nonblocking(1))\n'
          .. 'io.stdout:flush() os.exit(0)')
        local status, out = folder:shell(line)
        assert.equal(0, status)
        assert.matches("typed\tfalse\tfalse", out, 1, true)
      end)
    end
  end
end)

describe("An object that gives no proper descriptor", function()
  it("is refused by the function that got it", function()
    local pair <close> = pipes.pair()
    for _, fileno in ipairs { "x", -1, 1.5, 12345678901, false } do
      local object = { fileno = function() return fileno end }
      net.refuses("#1 to 'connect_read_pipe'", moonloop.connect_read_pipe, object)
      net.refuses("#1 to 'connect_write_pipe'", moonloop.connect_write_pipe, object)
      net.refuses("#2 to 'connect_read_pipe'", loop.connect_read_pipe, loop, moonloop.Protocol,
        object)
      net.refuses("#1 to 'sendfile'", pair.client.sendfile, pair.client, object)
    end
  end)
end)
