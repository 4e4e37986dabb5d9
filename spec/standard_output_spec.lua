-- SPDX-License-Identifier: MIT
-- moonloop.stdout and moonloop.stderr, whatever they are: the order with print, outputs that the
-- reader takes slowly, what is flushed when a run ends, closing, and readers that have gone.
local script = require "spec.support.script"

-- How the command's output is led to the file `out`, by what it is then.
local KINDS = {
  ["a pipe"] = '"$MOONLOOP" script.lua | cat >out',
  ["a file"] = '"$MOONLOOP" script.lua >out',
  ["a file that grows at its end"] = ': >out; "$MOONLOOP" script.lua >>out',
  ["a terminal"] = "script -qec '\"$MOONLOOP\" script.lua' /dev/null </dev/null >out",
  ["a socket"] = "socat -u EXEC:\"'$MOONLOOP' script.lua\" OPEN:out,creat,wronly",
}

-- What /proc says that descriptor 1 is open on.
local TARGETS = {
  ["a pipe"] = "^pipe:", ["a file"] = "/out$", ["a file that grows at its end"] = "/out$",
  ["a terminal"] = "^/dev/pts/", ["a socket"] = "^socket:",
}

-- Runs `source` with its standard output of that kind.
-- @return what came out of it, errors of the command itself
local function output_of(kind, source)
  local folder <close> = script.folder()
  folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
  local status, _, err = folder:shell(KINDS[kind])
  assert.equal(0, status, err)
  return (folder:read("out"):gsub("\r\n", "\n")), err
end

-- Runs `source` in a folder with `line` of the shell.
local function shell(source, line)
  local folder <close> = script.folder()
  folder:write("script.lua", 'local moonloop = require "moonloop"\n' .. source)
  return folder:shell(line)
end

for kind in pairs(KINDS) do
  describe("moonloop.stdout as " .. kind, function()
    it("writes after what print has said before", function()
      local out = output_of(kind, [[
        print("one")
        moonloop.stdout:write("two\n")
        io.write("three ")
        moonloop.stdout:write("four\n", "five\n")
        moonloop.stdout:writelines({ "six\n", "seven\n" })
        print("eight")
      ]])
      assert.equal("one\ntwo\nthree four\nfive\nsix\nseven\neight\n", out)
    end)

    it("leaves what print says last to the end of the process", function()
      local out = output_of(kind, [[
        moonloop.stdout:write("one\n")
        moonloop.stderr:write("")
        io.write("two\n")
      ]])
      assert.equal("one\ntwo\n", out)
    end)

    it("is what it is said to be", function()
      local out = output_of(kind, [[
        local target = require("lfs").symlinkattributes("/proc/self/fd/1", "target")
        moonloop.stdout:write(target, "\n")
      ]])
      assert.matches(TARGETS[kind], out:match("^[^\n]*"))
    end)

    it("brings much, all of it", function()
      local out = output_of(kind, [[
        local lines = {}
        for i = 1, 1000 do lines[i] = ("%06d\n"):format(i) end
        for i = 1, 50 do
          moonloop.stdout:write(table.concat(lines))
          moonloop.stdout:write("round ", i, "\n")
        end
      ]])
      local lines = {}
      for i = 1, 1000 do lines[i] = ("%06d\n"):format(i) end
      local block, expected = table.concat(lines), {}
      for i = 1, 50 do expected[i] = block .. "round " .. i .. "\n" end
      assert.is_true(out == table.concat(expected))
    end)

    it("is flushed at the end of the run, also of what try_write queued", function()
      local out = output_of(kind, [[
        assert(moonloop.stdout:try_write(("a line of text\n"):rep(60000)))
      ]])
      assert.is_true(out == ("a line of text\n"):rep(60000))
    end)
  end)
end

describe("moonloop.stdout", function()
  it("writes to /dev/null", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      moonloop.stdout:write(("x"):rep(1000000))
      moonloop.stdout:drain()
      moonloop.stderr:write("written\n")
    ]])
    local status, _, err = folder:shell('"$MOONLOOP" script.lua >/dev/null')
    assert.same({ 0, "written\n" }, { status, err })
  end)

  it("sends at once what there is room for", function()
    local status, out, err = shell([[
      moonloop.stdout:write("one\n")
      os.execute("echo two")
      moonloop.stdout:write("three\n")
      moonloop.stderr:write("four\n")
    ]], '"$MOONLOOP" script.lua 2>&1 | cat')
    assert.same({ 0, "one\ntwo\nthree\nfour\n", "" }, { status, out, err })
  end)

  it("sends a file by sendfile, in its turn", function()
    local status, out = shell([[
      moonloop.stdout:write("before\n")
      print(moonloop.stdout:sendfile("numbers"))
      moonloop.stdout:write("after\n")
    ]], 'seq 1 50000 >numbers; "$MOONLOOP" script.lua | cat >out; sed /^288894$/d out >rest\n'
      .. '{ echo before; cat numbers; echo after; } | cmp - rest && wc -l <out')
    assert.same({ 0, "50003\n" }, { status, out })
  end)

  it("belongs to no run, and is no leak", function()
    local status, out, err = shell([[
      for i = 1, 3 do
        moonloop.run(function() moonloop.stdout:write("run ", i, "\n") end)
      end
      collectgarbage()
      moonloop.stdout:write(#moonloop.testing.leaks(), "\n")
      print(moonloop.stdout == moonloop.stdout, moonloop.stdout:is_closing())
    ]], '"$MOONLOOP" --debug script.lua | cat')
    assert.same({ 0, "run 1\nrun 2\nrun 3\n0\ntrue\tfalse\n", "" }, { status, out, err })
  end)

  it("refuses to be read where it is a pipe", function()
    local status, out = shell([[
      for _, name in ipairs { "stdout", "stderr" } do
        local stream = moonloop[name]
        local ok, err = pcall(stream.read, stream, 1)
        print(ok, err.kind)
      end
    ]], '"$MOONLOOP" script.lua 2>&1 | cat')
    assert.same({ 0, "false\tInvalidStateError\nfalse\tInvalidStateError\n" }, { status, out })
  end)
end)

describe("A slow reader of moonloop.stdout", function()
  -- The reader begins when the writer has nothing left to do but to end.
  local READER = [[
    mkfifo gate
    { "$MOONLOOP" script.lua 2>err; echo $? >status; } | { read -r go <gate; cat >out; }
    echo "$(cat status) $(wc -c <out)"
  ]]
  local WRITER = [[
    assert(moonloop.stdout:try_write(("x"):rep(1000000)))
    assert(not moonloop.stdout:try_write("no room\n"))
    local gate <close> = io.open("gate", "w")
    gate:write("go\n")
  ]]

  local ENDINGS = {
    ["its main task returns"] = { "return", 0 },
    ["its main task fails"] = { "error('the reason')", 1 },
    ["it is left by moonloop.exit"] = { "gate:flush() moonloop.exit(3)", 3 },
  }

  for what, ending in pairs(ENDINGS) do
    it("has all of it although the run ends before: " .. what, function()
      local _, out = shell(WRITER .. ending[1], READER)
      assert.equal(ending[2] .. " 1000000\n", out)
    end)
  end

  it("makes a writer wait, and other tasks go on", function()
    local _, out = shell([[
      local task = moonloop.create_task(function()
        for _ = 1, 100 do moonloop.stdout:write(("x"):rep(10000)) end
      end)
      moonloop.testing.wait_all_blocked()
      assert(not task:done())
      local gate <close> = io.open("gate", "w")
      gate:write("go\n")
      gate:flush()
      task:await()
    ]], READER)
    assert.equal("0 1000000\n", out)
  end)

  it("gets nothing of a write that was cancelled while it waited", function()
    local _, out = shell([[
      assert(moonloop.stdout:try_write(("x"):rep(1000000)))
      local task = moonloop.create_task(function() moonloop.stdout:write("never") end)
      moonloop.testing.wait_all_blocked()
      task:cancel()
      pcall(moonloop.await, task)
      local gate <close> = io.open("gate", "w")
      gate:write("go\n")
    ]], READER)
    assert.equal("0 1000000\n", out)
  end)
end)

describe("Closing a standard stream", function()
  for fd, name in ipairs({ "stdout", "stderr" }) do
    it("ends the pipe for its reader: " .. name, function()
      local source = ([[
        moonloop.%s:write("last words\n")
        moonloop.%s:close()
        moonloop.%s:wait_closed()
        local seen <close> = io.open("seen")
        local file <close> = io.open("result", "w")
        file:write(seen:read("l"))
      ]]):gsub("%%s", name)
      local status, out = shell(source, ([[
        mkfifo seen
        { "$MOONLOOP" script.lua %s | { cat; echo "end of file" >seen; }; } 2>/dev/null
        cat result
      ]]):format(fd == 1 and "" or "2>&1 >/dev/null"))
      assert.same({ 0, "last words\nend of file" }, { status, out })
    end)
  end

  it("leaves /dev/null in the descriptor's place", function()
    local status, out, err = shell([[
      local lfs = require "lfs"
      moonloop.stdout:write("before\n")
      moonloop.stdout:close()
      moonloop.stdout:wait_closed()
      print("this goes nowhere")
      io.stdout:flush()
      local ok, err = pcall(moonloop.stdout.write, moonloop.stdout, "nor this")
      io.stderr:write(lfs.symlinkattributes("/proc/self/fd/1", "target"), " ", err.kind, "\n")
      local server <close> = moonloop.start_server(print, "127.0.0.1", 0)
      io.stderr:write(lfs.symlinkattributes("/proc/self/fd/1", "target"), "\n")
    ]], '"$MOONLOOP" script.lua | cat')
    assert.same({ 0, "before\n", "/dev/null InvalidStateError\n/dev/null\n" }, { status, out, err })
  end)

  it("flushes what was queued before", function()
    local _, out = shell([[
      assert(moonloop.stdout:try_write(("x"):rep(1000000)))
      moonloop.stdout:close()
      local gate <close> = io.open("gate", "w")
      gate:write("go\n")
    ]], [[
      mkfifo gate
      "$MOONLOOP" script.lua | { read -r go <gate; wc -c; }
    ]])
    assert.equal("1000000\n", out)
  end)
end)

describe("A reader of moonloop.stdout that has gone", function()
  it("is a BrokenPipeError for a writer, and no signal ends the process", function()
    local _, out, err = shell([[
      local gone <close> = io.open("gone")
      gone:read("a")
      local ok, err = pcall(function()
        while true do moonloop.stdout:write(("x"):rep(100000)) end
      end)
      io.stderr:write(err.kind, " ", err.code, "\n")
    ]], [[
      mkfifo gone
      { "$MOONLOOP" script.lua; echo $? >status; } | { exec <&-; echo >gone; }
      cat status
    ]])
    assert.same({ "0\n", "BrokenPipeError EPIPE\n" }, { out, err })
  end)

  it("does not hold up the end of the run", function()
    local _, out, err = shell([[
      assert(moonloop.stdout:try_write(("x"):rep(1000000)))
      local gate <close> = io.open("gate", "w")
      gate:write("go\n")
    ]], [[
      mkfifo gate
      { "$MOONLOOP" script.lua; echo $? >status; } | { read -r go <gate; exec <&-; }
      cat status
    ]])
    assert.same({ "0\n", "" }, { out, err })
  end)
end)
