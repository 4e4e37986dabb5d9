-- SPDX-License-Identifier: MIT
-- The standard streams and the others who hold the same descriptors: a shell that shares terminal,
-- pipe, file or socket with the command never sees them non-blocking, before, meanwhile or after,
-- and all that both write and read is whole.
local script = require "spec.support.script"

-- Uses all three streams in every way that waits, and looks each time whether the shell's
-- descriptors, whose process is its argument, are blocking. Writes to the file `seen` on what
-- they are open, each moment at which one is not, and how many moments there were.
local USER = [[
  local moonloop = require "moonloop"
  local lfs = require "lfs"
  local shell = "/proc/" .. arg[1]
  local seen = io.open("seen", "w")
  local moments = 0
  local function flags(fd)
    for line in io.lines(shell .. "/fdinfo/" .. fd) do
      local octal = line:match("^flags:%s*(%d+)")
      if octal then return tonumber(octal, 8) end
    end
  end
  local function look(moment)
    moments = moments + 1
    for fd = 0, 2 do
      if flags(fd) & 2048 ~= 0 then seen:write(moment, ": ", fd, " is non-blocking\n") end
    end
  end
  for fd = 0, 2 do
    seen:write((lfs.symlinkattributes(shell .. "/fd/" .. fd, "target"):gsub("[^%a/].*", "")), "\n")
  end
  look("at first")
  local stdin, stdout, stderr = moonloop.stdin, moonloop.stdout, moonloop.stderr
  look("with the streams there")
  local reader = moonloop.create_task(function() return stdin:read(1) end)
  moonloop.testing.wait_all_blocked()
  look("while a read waits")
  print("printed")
  look("after print")
  stdout:write("written\n")
  stderr:write("written too\n")
  look("after a write")
  local writer = moonloop.create_task(function()
    for i = 1, 40 do stdout:write(("x"):rep(9999), "\n") end
  end)
  moonloop.sleep(0)
  look("while a write may wait")
  writer:await()
  look("after a write that waited")
  stdout:drain()
  look("after drain")
  assert(stdout:try_write(("y"):rep(99999) .. "\n"))
  look("with output unsent")
  reader:cancel()
  pcall(moonloop.await, reader)
  look("after a read was cancelled")
  io.write("printed last\n")
  seen:write(moments, " moments\n")
  seen:close()
]]

-- Its descriptors are those that the command shares.
local SHELL = [[
  "$MOONLOOP" user.lua $$ || echo "status $?" >>seen
  cat /proc/$$/fdinfo/0 /proc/$$/fdinfo/1 /proc/$$/fdinfo/2 | grep flags >after
  echo "the shell goes on"
]]

-- How the shell gets its descriptors, by what they are; and that as USER writes it.
local KINDS = {
  ["pipes"] = {
    "mkfifo way; exec 3<>way; sh shell.sh <way 3>&- 2>&1 | cat >out",
    "file", "pipe", "pipe",
  },
  ["files"] = { "sh shell.sh <user.lua >out 2>err; cat err >>out", "file", "file", "file" },
  ["a terminal"] = {
    "script -qec 'sh shell.sh' /dev/null </dev/null | tr -d '\\r' >out",
    "/dev/pts/", "/dev/pts/", "/dev/pts/",
  },
  ["pipes of another user, which cannot be opened again"] = {
    "mkfifo -m 600 way; exec 3<>way; $AS sh shell.sh <way 3>&- 2>&1 | cat >out",
    "file", "pipe", "pipe", as_another = true,
  },
  ["a terminal of another user, which cannot be opened again"] = {
    "script -qec \"$AS sh shell.sh\" /dev/null </dev/null | tr -d '\\r' >out",
    "/dev/pts/", "/dev/pts/", "/dev/pts/", as_another = true,
  },
  ["a socket"] = {
    "mkfifo way; exec 3<>way; socat EXEC:'sh shell.sh',stderr STDIO <way >out 3>&-",
    "socket", "socket", "socket",
  },
}

-- Begins a line that needs another user; status 77 when there is none who can run the command.
local AS_ANOTHER = [[
  [ $(id -u) -eq 0 ] && chmod 777 . || exit 77
  AS="setpriv --reuid=65534 --regid=65534 --clear-groups"
  $AS "$MOONLOOP" -e "" || exit 77
]]

-- What USER saw: what the descriptors were, everything else.
local function parse(seen)
  local words, rest = {}, {}
  for line in seen:gmatch("[^\n]+") do
    if #words < 3 then
      local file = line:find("^/") and not line:find("^/dev/pts/")
      words[#words + 1] = file and "file" or line
    else
      rest[#rest + 1] = line
    end
  end
  return words, rest
end

local function count(text, pattern)
  return select(2, text:gsub(pattern, ""))
end

for kind, case in pairs(KINDS) do
  describe("The standard streams on " .. kind, function()
    local function run()
      local folder = script.folder()
      folder:write("user.lua", USER)
      folder:write("shell.sh", SHELL)
      local status, _, err = folder:shell((case.as_another and AS_ANOTHER or "") .. case[1])
      if status == 77 then
        local _ <close> = folder
        pending("no other user can run the command")
      end
      assert.same({ 0, "" }, { status, err })
      return folder
    end

    it("stay blocking for who shares them", function()
      local folder <close> = run()
      local words, rest = parse(folder:read("seen"))
      assert.same({ table.unpack(case, 2, 4) }, words)
      assert.same({ "10 moments" }, rest)
      local after = {}
      for octal in folder:read("after"):gmatch("flags:%s*(%d+)") do
        after[#after + 1] = tonumber(octal, 8) & 2048
      end
      assert.same({ 0, 0, 0 }, after)
    end)

    it("bring all of both, in order", function()
      local folder <close> = run()
      local out = folder:read("out"):gsub("\r", "")
      assert.equal(40 * 9999, count(out, "x"))
      assert.equal(99999, count(out, "y"))
      local order = { "printed\n", "written\n", "xx", "yy", "the shell goes on\n" }
      local at = 1
      for _, what in ipairs(order) do
        local found = out:find(what, at, true)
        assert.is_number(found, what .. " is not where it belongs")
        at = found
      end
      assert.equal(1, count(out, "written too\n"))
      assert.equal(1, count(out, "printed last\n"))
    end)
  end)
end

describe("A standard stream that the run leaves behind", function()
  it("shares its place in a file with the programs before and after", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      moonloop.stdout:write("one\n")
    ]])
    local line = '{ "$MOONLOOP" script.lua; echo two; "$MOONLOOP" script.lua; } >out; cat out'
    local _, out = folder:shell(line)
    assert.equal("one\ntwo\none\n", out)
  end)

  it("leaves a shell's input as it was", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      assert(moonloop.move_on_after(0.02, moonloop.stdin.read, moonloop.stdin, 1) == false)
    ]])
    local status, out, err = folder:shell([[
      mkfifo way
      exec 3<>way
      { "$MOONLOOP" script.lua && echo line >&3 && read -r got && echo "<$got>"; } <way
    ]])
    assert.same({ 0, "<line>\n", "" }, { status, out, err })
  end)
end)
