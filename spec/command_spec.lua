-- SPDX-License-Identifier: MIT
-- The ways to give the command a program: a script, a line, a module, standard
-- input; what `...` and `arg` hold in each. The flags are in command_flags_spec.
local script = require "spec.support.script"

local HEAD = 'local moonloop = require "moonloop"\n'

describe("moonloop script.lua", function()
  it("lets the chunk await at its top level", function()
    local status, out, err = script.run(HEAD .. [[
      local order = {}
      local child = moonloop.create_task(function() order[#order + 1] = "child" end)
      moonloop.sleep(0)
      order[#order + 1] = "main"
      child:await()
      print(table.concat(order, " "), moonloop.sleep(0.001, "slept"))
    ]])
    assert.equal("child main\tslept\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("runs the chunk as the current task", function()
    local _, out = script.run(HEAD .. [[
      print(coroutine.isyieldable(), moonloop.current_task() ~= nil,
        moonloop.get_running_loop():is_running())
    ]])
    assert.equal("true\ttrue\ttrue\n", out)
  end)

  it("gives the arguments as ... and in arg, the command's own below 0 #bare", function()
    local folder <close> = script.folder()
    folder:write("s.lua", [[
      print(select("#", ...), ...)
      for i = -4, 3 do io.write(tostring(arg[i]), ";") end
      print(#arg)
    ]])
    local args = { "-e", "", "s.lua", "one", "", "two words" }
    local status, out = folder:moonloop(args)
    local lua_status, lua_out = folder:run({ "lua5.4", table.unpack(args) })
    assert.equal(lua_status, status)
    assert.equal(lua_out:gsub("lua5%.4;", script.binary:gsub("%%", "%%%%") .. ";"), out)
    assert.equal("3\tone\t\ttwo words\n", out:match("^[^\n]*\n"))
  end)

  it("passes what stands behind the script on, flags included", function()
    local _, out = script.run("print(...)", { args = { "-e", "--version", "--", "-x" } })
    assert.equal("-e\t--version\t--\t-x\n", out)
  end)

  it("skips a first line that begins with #", function()
    local status, out, err = script.run("#!/usr/bin/env moonloop\nprint('ran')\nerror('here')\n")
    assert.equal("ran\n", out)
    assert.matches("script.lua:3: here", err, 1, true)
    assert.equal(1, status)
  end)

  it("can be run by its own shebang line", function()
    local folder <close> = script.folder()
    folder:write("tool", "#!" .. script.binary .. "\n" .. HEAD .. "moonloop.sleep(0) print(...)\n")
    local status, out = folder:shell("chmod +x tool && ./tool a b")
    assert.equal("a\tb\n", out)
    assert.equal(0, status)
  end)

  it("runs precompiled chunks", function()
    local folder <close> = script.folder()
    folder:write("make.lua", [[
      local file = assert(io.open("chunk.luac", "wb"))
      file:write(string.dump(load("print('compiled', ...)", "=chunk")))
      file:close()
    ]])
    folder:run({ "lua5.4", "make.lua" })
    local status, out = folder:moonloop({ "chunk.luac", "x" })
    assert.equal("compiled\tx\n", out)
    assert.equal(0, status)
  end)

  it("has no global named moonloop", function()
    local _, out = script.run("print(moonloop)")
    assert.equal("nil\n", out)
  end)

  it("requires modules of the current folder as Lua does", function()
    local folder <close> = script.folder()
    folder:write("mine.lua", "return {name = ..., answer = 42}")
    folder:write("s.lua", "local mine = require 'mine' print(mine.name, mine.answer)")
    local _, out = folder:moonloop({ "s.lua" })
    assert.equal("mine\t42\n", out)
  end)

  it("ends with status 0 whatever the chunk returns", function()
    local status, out, err = script.run("return 7, 'ignored'")
    assert.same({ 0, "", "" }, { status, out, err })
  end)

  it("ends with status 1 and names a script that is missing", function()
    local folder <close> = script.folder()
    local status, out, err = folder:moonloop({ "nosuch.lua" })
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("nosuch.lua", err, 1, true)
    assert.matches("No such file", err, 1, true)
  end)

  it("ends with status 1 and names a folder given as the script", function()
    local folder <close> = script.folder()
    local status, _, err = folder:moonloop({ folder.path })
    assert.equal(1, status)
    assert.matches(folder.path, err, 1, true)
  end)

  it("ends with status 1 and names a script that may not be read", function()
    local folder <close> = script.folder()
    folder:write("sub/x.lua", "print 'ran'")
    local status, _, err = folder:moonloop({ "sub/x.lua/y.lua" })
    assert.equal(1, status)
    assert.matches("sub/x.lua/y.lua", err, 1, true)
  end)

  it("answers a syntax error with file and line, and status 1", function()
    local status, out, err = script.run("print('not run')\n\nlocal = 3\n")
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("script.lua:3: ", err, 1, true)
    assert.matches("near '='", err, 1, true)
  end)
end)

describe("moonloop -e", function()
  it("runs the code, which may await", function()
    local status, out = script.one_line("moonloop.sleep(0) print 'done'")
    assert.equal("done\n", out)
    assert.equal(0, status)
  end)

  it("has moonloop as a global", function()
    local _, out = script.one_line("print(moonloop == require 'moonloop')")
    assert.equal("true\n", out)
  end)

  it("takes the code joined to the flag", function()
    local folder <close> = script.folder()
    local _, out = folder:moonloop({ "-eprint(1 + 1)" })
    assert.equal("2\n", out)
  end)

  it("runs several pieces in order, then the script", function()
    local folder <close> = script.folder()
    folder:write("s.lua", "print('script', x, ...)")
    local _, out = folder:moonloop({ "-e", "x = 1", "-e", "x = x + 1 print(x)", "s.lua", "a" })
    assert.equal("2\nscript\t2\ta\n", out)
  end)

  it("lets tasks of one piece go on in the next", function()
    local folder <close> = script.folder()
    local _, out = folder:moonloop({
      "-e", "t = moonloop.create_task(function() moonloop.sleep(0) return 'kept' end)",
      "-e", "print(t:await())",
    })
    assert.equal("kept\n", out)
  end)

  it("fills arg as Lua does and gives the code no arguments", function()
    local folder <close> = script.folder()
    local args = { "-e", "print(#arg, arg[-2], select('#', ...))" }
    local _, out = folder:moonloop(args)
    local _, lua_out = folder:run({ "lua5.4", table.unpack(args) })
    assert.equal(lua_out, out)
  end)

  it("stops at an error, before the script, with status 1", function()
    local folder <close> = script.folder()
    folder:write("s.lua", "print 'script'")
    local status, out, err = folder:moonloop({ "-e", "error 'early'", "s.lua" })
    assert.equal("", out)
    assert.matches("(command line):1: early", err, 1, true)
    assert.equal(1, status)
  end)

  it("answers a syntax error with status 1", function()
    local status, _, err = script.one_line("x x")
    assert.equal(1, status)
    assert.matches("(command line):1:", err, 1, true)
  end)
end)

describe("moonloop -m", function()
  it("runs the module's file as the script, which may await", function()
    local folder <close> = script.folder()
    folder:write("tool/cli.lua",
      HEAD .. "moonloop.sleep(0) print('cli', ...) print(arg[1], arg[2])")
    local status, out, err = folder:moonloop({ "-m", "tool.cli", "one", "two" })
    assert.equal("cli\tone\ttwo\none\ttwo\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)

  it("finds the module by LUA_PATH", function()
    local folder <close> = script.folder()
    folder:write("deep/er/found.lua", "print('found')")
    local env = { LUA_PATH = folder.path .. "/deep/er/?.lua;;" }
    local _, out = folder:moonloop({ "-m", "found" }, { env = env })
    assert.equal("found\n", out)
  end)

  it("puts the module's file in arg[0]", function()
    local folder <close> = script.folder()
    folder:write("here.lua", "print(arg[0])")
    local _, out = folder:moonloop({ "-m", "here" })
    assert.matches("here.lua\n$", out)
  end)

  it("says where it looked for a module that is not there, with status 1", function()
    local folder <close> = script.folder()
    local status, out, err = folder:moonloop({ "-m", "nosuch" })
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("nosuch", err, 1, true)
    assert.matches("./nosuch.lua", err, 1, true)
  end)

  it("needs a name", function()
    local folder <close> = script.folder()
    local status, _, err = folder:moonloop({ "-m" })
    assert.equal(2, status)
    assert.matches("-m", err, 1, true)
  end)
end)

describe("moonloop -", function()
  it("runs standard input as the script, with arguments", function()
    local folder <close> = script.folder()
    local stdin = HEAD .. "moonloop.sleep(0) print(arg[0], ...)"
    local status, out = folder:moonloop({ "-", "a", "b" }, { stdin = stdin })
    assert.equal("-\ta\tb\n", out)
    assert.equal(0, status)
  end)

  it("names it stdin in messages", function()
    local folder <close> = script.folder()
    local status, _, err = folder:moonloop({ "-" }, { stdin = "\nerror 'second line'" })
    assert.equal(1, status)
    assert.matches("stdin:2: second line", err, 1, true)
  end)

  it("is what no arguments mean when standard input is no terminal", function()
    local folder <close> = script.folder()
    local status, out = folder:moonloop({}, { stdin = HEAD .. "moonloop.sleep(0) print 'piped'" })
    assert.equal("piped\n", out)
    assert.equal(0, status)
  end)
end)

describe("moonloop -l", function()
  it("requires a module and leaves it in a global of its name", function()
    local folder <close> = script.folder()
    folder:write("mod.lua", "return {x = 5}")
    local _, out = folder:moonloop({ "-l", "mod", "-e", "print(mod.x)" })
    assert.equal("5\n", out)
    local _, joined = folder:moonloop({ "-lmod", "-e", "print(mod.x)" })
    assert.equal("5\n", joined)
  end)

  it("takes g=mod for another global", function()
    local folder <close> = script.folder()
    folder:write("mod.lua", "return {x = 6}")
    local _, out = folder:moonloop({ "-l", "g=mod", "-e", "print(g.x, mod)" })
    assert.equal("6\tnil\n", out)
  end)

  it("requires moonloop itself", function()
    local _, out = script.run("print(m.current_task() ~= nil)", { flags = { "-l", "m=moonloop" } })
    assert.equal("true\n", out)
  end)

  it("ends with status 1 when there is no such module", function()
    local folder <close> = script.folder()
    local status, out, err = folder:moonloop({ "-l", "nosuch", "-e", "print 'ran'" })
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("module 'nosuch' not found", err, 1, true)
  end)
end)
