-- SPDX-License-Identifier: MIT
-- moonloop.stdin, whatever it is: every way to read it, its end, reading on in a later run, reads
-- that are cancelled, and a terminal that somebody types into.
local moonloop = require "moonloop"
local command = require "spec.support.command"
local script = require "spec.support.script"
local stock = require "spec.support.stock"

-- How the file `in` becomes the command's input, by what that is then.
local KINDS = {
  ["a pipe"] = 'cat in | "$MOONLOOP" script.lua',
  ["a file"] = '"$MOONLOOP" script.lua <in',
  ["a FIFO"] = 'mkfifo way; cat in >way & "$MOONLOOP" script.lua <way',
  ["a socket"] = "mkfifo done; exec 5>out; socat -u OPEN:in EXEC:'sh to5.sh'; cat done out",
}

local TARGETS = {
  ["a pipe"] = "^pipe:", ["a file"] = "/in$", ["a FIFO"] = "/way$", ["a socket"] = "^socket:",
}

-- Runs `source` with `input` on its standard input of that kind.
-- @return what it wrote to its standard output
local function read_by(kind, source, input)
  local folder <close> = script.folder()
  folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
  folder:write("in", input)
  -- socat does not wait for its program, and ends it half a second later.
  folder:write("to5.sh", 'trap "" TERM HUP; "$MOONLOOP" script.lua >&5; : >done')
  local status, out, err = folder:shell(KINDS[kind])
  assert.same({ 0, "" }, { status, err })
  return out
end

-- Runs `source` in a folder with `line` of the shell.
local function shell(source, line)
  local folder <close> = script.folder()
  folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
  return folder:shell(line)
end

for kind in pairs(KINDS) do
  describe("moonloop.stdin as " .. kind, function()
    it("is what it is said to be", function()
      local out = read_by(kind, [[
        print((require("lfs").symlinkattributes("/proc/self/fd/0", "target")))
        moonloop.stdin:read()
      ]], "x")
      assert.matches(TARGETS[kind], out:match("^[^\n]*"))
    end)

    it("is read by every method, to its end", function()
      local out = read_by(kind, [[
        local stdin = moonloop.stdin
        print(stdin:readline())
        print(stdin:peek(2), stdin:readexactly(3), stdin:readuntil(";"), stdin:read(1))
        for line in stdin:lines() do
          io.write("<", line, ">")
          if line == "last of these" then break end
        end
        print(stdin:at_eof(), stdin:read())
        print(stdin:read(), stdin:read(1), stdin:readline(), stdin:at_eof())
      ]], "a line\nabcdef;g\nfirst\nlast of these\nthe rest\n")
      assert.equal("a line\n\nab\tabc\tdef;\tg\n<><first><last of these>false\tthe rest\n\n"
        .. "\tnil\tnil\ttrue\n", out)
    end)

    it("brings much, all of it", function()
      local text = ("0123456789abcdef\n"):rep(100000)
      local out = read_by(kind, [[
        for piece in moonloop.stdin:chunks() do moonloop.stdout:write(piece) end
      ]], text)
      assert.is_true(out == text)
    end)

    it("is at its end when nothing is in it", function()
      local out = read_by(kind, [[
        print(moonloop.stdin:readline(), moonloop.stdin:read(), moonloop.stdin:at_eof())
      ]], "")
      assert.equal("nil\t\ttrue\n", out)
    end)
  end)
end

describe("moonloop.stdin", function()
  it("is at its end on /dev/null", function()
    local status, out = shell("print(moonloop.stdin:read(1), moonloop.stdin:read())",
      '"$MOONLOOP" script.lua </dev/null')
    assert.same({ 0, "nil\t\n" }, { status, out })
  end)

  it("lets other tasks run while it waits", function()
    local status, out = shell([[
      local feed = io.open("way", "w")
      feed:setvbuf("no")
      local task = moonloop.create_task(function() return moonloop.stdin:readline() end)
      moonloop.testing.wait_all_blocked()
      print(task:done(), task:awaiting() ~= "")
      feed:write("late\n")
      print(task:await())
    ]], 'mkfifo way; exec 3<>way; "$MOONLOOP" script.lua <way 3>&-')
    assert.same({ 0, "false\ttrue\nlate\n\n" }, { status, out })
  end)

  it("loses nothing when a read is cancelled", function()
    local status, out = shell([[
      local feed = io.open("way", "w")
      feed:setvbuf("no")
      for _, name in ipairs { "readline", "read", "readline" } do
        local task = moonloop.create_task(moonloop.stdin[name], moonloop.stdin)
        feed:write(name, " ")
        moonloop.testing.wait_all_blocked()
        task:cancel()
        print(pcall(moonloop.await, task) == false, task:cancelled())
      end
      feed:write("end\n")
      io.write(moonloop.stdin:readline())
    ]], 'mkfifo way; exec 3<>way; "$MOONLOOP" script.lua <way 3>&-')
    assert.same({ 0, ("true\ttrue\n"):rep(3) .. "readline read readline end\n" }, { status, out })
  end)

  it("can be closed, which leaves /dev/null in the descriptor's place", function()
    for _, line in ipairs({ "cat script.lua | ", "<script.lua " }) do
      local status, out = shell([[
        moonloop.stdin:close()
        moonloop.stdin:wait_closed()
        local ok, err = pcall(moonloop.stdin.read, moonloop.stdin)
        print(ok, err.kind, io.read())
        print((require("lfs").symlinkattributes("/proc/self/fd/0", "target")))
      ]], line .. '"$MOONLOOP" script.lua')
      assert.same({ 0, "false\tInvalidStateError\tnil\n/dev/null\n" }, { status, out })
    end
  end)

  it("has one reader at a time", function()
    local status, out = shell([[
      local task = moonloop.create_task({ name = "the first reader" }, function()
        moonloop.stdin:readline()
      end)
      moonloop.testing.wait_all_blocked()
      local ok, err = pcall(moonloop.stdin.read, moonloop.stdin, 1)
      print(ok, err.kind, err.message:match("the first reader"))
      task:cancel()
    ]], 'mkfifo way; exec 3<>way; "$MOONLOOP" script.lua <way 3>&-')
    assert.same({ 0, "false\tInvalidStateError\tthe first reader\n" }, { status, out })
  end)

  it("refuses to be written to where it is a pipe", function()
    local status, out = shell([[
      local ok, err = pcall(moonloop.stdin.write, moonloop.stdin, "x")
      print(ok, err.kind, moonloop.stdin:can_write_eof())
    ]], 'echo | "$MOONLOOP" script.lua')
    assert.same({ 0, "false\tInvalidStateError\tfalse\n" }, { status, out })
  end)

  it("raises LimitOverrunError for a line beyond the limit, which stays readable", function()
    local status, out = shell([[
      local ok, err = pcall(moonloop.stdin.readline, moonloop.stdin)
      print(ok, err.kind, #moonloop.stdin:read())
    ]], 'head -c 1500000 /dev/zero | "$MOONLOOP" script.lua')
    assert.same({ 0, "false\tLimitOverrunError\t1500000\n" }, { status, out })
  end)

  it("is no leak, and is not closed by the collector", function()
    local status, out, err = shell([[
      moonloop.run(function() print(moonloop.stdin:readline()) end)
      collectgarbage()
      collectgarbage()
      print(#moonloop.testing.leaks(), moonloop.stdin:readline())
    ]], 'printf "one\ntwo\n" | "$MOONLOOP" --debug script.lua')
    assert.same({ 0, "one\n\n0\ttwo\n\n", "" }, { status, out, err })
  end)

  local RUNS = [[
    local moonloop = require "moonloop"
    local count = 0
    for _ = 1, 3 do
      moonloop.run(function()
        io.write("[", moonloop.stdin:readline():sub(1, -2), "]")
        count = count + 1
      end)
      collectgarbage()
    end
    moonloop.run(function()
      for line in moonloop.stdin:lines() do count = count + 1 end
    end)
    moonloop.run(function() print(count, moonloop.stdin:readline()) end)
  ]]

  for what, piped in pairs({ ["a file"] = false, ["a pipe"] = true }) do
    it("is read on by the next run where the last one stopped: " .. what, function()
      local folder <close> = script.folder()
      local path = folder:write("script.lua", RUNS)
      local lines = {}
      for i = 1, 5000 do lines[i] = "line " .. i .. "\n" end
      local status, out, err = stock.run({ path }, { stdin = table.concat(lines), piped = piped })
      assert.same({ 0, "[line 1][line 2][line 3]5000\tnil\n", "" }, { status, out, err })
    end)
  end
end)

describe("moonloop.stdin as a terminal", function()
  -- The command on a terminal, once it has said that it is ready. Awaits.
  local function typing(source)
    local folder = script.folder()
    local path = folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
    local master, slave = moonloop.open_pty()
    local line = ("stty -echo -opost; exec %s %s")
      :format(command.quote(script.binary), command.quote(path))
    local program = io.popen(("sh -c %s <%s >%s 2>&1"):format(command.quote(line), slave, slave))
    assert.equal("ready\n", master:readline())
    return setmetatable({ master = master }, { __close = function()
      local _ <close> = folder
      master:abort()
      program:close()
    end })
  end

  it("brings each line that is typed, while other tasks run, and the end of file", function()
    local session <close> = typing([[
      local task = moonloop.create_task(function()
        for line in moonloop.stdin:lines() do moonloop.stdout:write("<", line, ">\n") end
        moonloop.stdout:write("end of file\n")
      end)
      moonloop.testing.wait_all_blocked()
      print("ready")
      io.stdout:flush()
      task:await()
    ]])
    for i = 1, 5 do
      session.master:write("typed ", i, "\n")
      assert.equal("<typed " .. i .. ">\n", session.master:readline())
    end
    session.master:write("\4")
    assert.equal("end of file\n", session.master:read())
  end)

  it("loses nothing of what is typed when a read is cancelled", function()
    local session <close> = typing([[
      local task = moonloop.create_task(moonloop.stdin.readline, moonloop.stdin)
      moonloop.testing.wait_all_blocked()
      task:cancel()
      pcall(moonloop.await, task)
      moonloop.stdout:write("ready\n")
      moonloop.stdout:write(moonloop.stdin:readline(), moonloop.stdin:readline())
    ]])
    session.master:write("one\ntwo\n")
    assert.equal("one\ntwo\n", session.master:read())
  end)
end)
