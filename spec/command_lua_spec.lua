-- SPDX-License-Identifier: MIT
-- The command beside stock Lua: the same scripts print the same and end with the
-- same status, C modules of the distribution load, busted runs under it both
-- ways, and an installed copy needs nothing of the current folder.
local command = require "spec.support.command"
local script = require "spec.support.script"

-- Each runs under lua5.4 and under the command: {source, stdin=, args=}.
local PLAIN = {
  ["closures and varargs"] = { [[
    local function count(...) return select("#", ...), (...) end
    print(count(nil, nil), count(), pcall(select, -5))
    local fns = {}
    for i = 1, 3 do fns[i] = function() i = i + 1 return i end end
    print(fns[1](), fns[1](), fns[2](), ...)
  ]], args = { "x", "y" } },
  ["coroutines"] = { [[
    local co = coroutine.create(function(a, b)
      local c = coroutine.yield(a + b)
      local d, e = coroutine.yield(c * 2)
      return d + e
    end)
    print(coroutine.resume(co, 1, 10))
    print(coroutine.status(co), coroutine.resume(co, 5))
    print(coroutine.resume(co, 2, 3))
    print(coroutine.status(co), coroutine.resume(co))
    local gen = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
    for i in gen do io.write(i, " ") end
    print(pcall(gen))
    local dead = coroutine.create(function() error({code = 5}) end)
    local ok, err = coroutine.resume(dead)
    print(ok, err.code, (coroutine.close(dead)))
    local held = coroutine.create(function()
      local _ <close> = setmetatable({}, {__close = function() print("closed") end})
      coroutine.yield()
    end)
    coroutine.resume(held)
    print(coroutine.close(held), coroutine.status(held))
    print(coroutine.isyieldable(held), select(2, coroutine.running()) == nil)
  ]] },
  ["numbers and strings"] = { [[
    print(7 // 2, -7 // 2, 7 % -3, 1 / 0, -(0 / 0) ~= 0, 3 | 4, "10" + 5, 2^53, math.maxinteger + 1)
    print(("%5.2f|%-6s|%q|%x"):format(3.14159, "ab", "a\n\0b", 255))
    print(("hello world"):gsub("o", {o = "0"}), ("k=v, x=y"):gsub("(%w)=(%w)", "%2=%1"))
    print(string.pack("<i4", 100):byte(1, -1), utf8.char(228, 8364), utf8.len("äö"))
    print(#table.pack(table.unpack({1, 2, nil, 4}, 1, 4)), table.concat({1, 2, 3}, "-"))
  ]] },
  ["metamethods, goto and <close>"] = { [[
    local v = setmetatable({}, {__index = function(_, k) return k .. "!" end,
      __call = function(_, a) return a * 2 end, __len = function() return 42 end,
      __eq = function() return true end, __lt = function() return true end})
    print(v.key, v(21), #v, v < v)
    for i = 1, 3 do
      if i == 2 then goto continue end
      io.write(i, ";")
      ::continue::
    end
    do local _ <close> = setmetatable({}, {__close = function(_, e) print("closed", e) end}) end
    print(pcall(function()
      local _ <close> = setmetatable({}, {__close = function(_, e) print("closed by", e) end})
      error("x", 0)
    end))
  ]] },
  ["load, require and package"] = { [[
    print(load("return 1 +"), load("return ...", "=chunk", "t", {})(5))
    print(pcall(require, "no.such.module") == false, package.config:sub(1, 1))
    package.preload.made = function(name) return {name = name} end
    print(require("made").name, package.loaded.made == require("made"))
    print(xpcall(error, function(m) return "handled " .. tostring(m) end, "it"))
    print(dofile == nil, _VERSION, type(_G), _ENV == _G)
  ]] },
  ["io.read and io.lines"] = { [[
    print(io.read(), io.read("n"), io.read("n"), io.read("L"), io.read(3))
    for line in io.lines() do print("[" .. line .. "]") end
    print(io.read("a") == "", io.read("l"), io.read(0))
  ]], stdin = "first\n12 0x1F rest\nabcdef\n\nlast without newline" },
  ["io.write and files"] = { [[
    local name = os.tmpname()
    local file = assert(io.open(name, "w"))
    print(file:write("a", 1, "\n", 2.5, "\n"):seek("cur"))
    file:close()
    for l in io.lines(name, "L") do io.write(l) end
    print(pcall(file.write, file, "x"))
    print(io.type(file), io.open("/no/such"))
    io.stdout:write("direct\n")
    local pipe = io.popen("echo piped; exit 3")
    print(pipe:read("a"), pipe:close())
    print(os.execute("exit 4"))
    os.remove(name)
  ]] },
  ["the collector"] = { [[
    local weak = setmetatable({}, {__mode = "v"})
    weak[1] = {}
    collectgarbage()
    print(weak[1], collectgarbage("count") > 0, collectgarbage("isrunning"))
    do local x = setmetatable({}, {__gc = function() print("collected") end}) end
    collectgarbage()
    setmetatable({}, {__gc = function() print("at the end") end})
  ]] },
  ["an error with a string"] = { "print('before') error('plain')" },
  ["an error with a table"] = { "error({})" },
  ["an error with nothing"] = { "error()" },
  ["assert"] = { "print(pcall(assert, false)) assert(nil, 'asserted')" },
  ["os.exit in a function"] = { "(function() io.write('x') os.exit(5) end)()" },
  ["deep recursion"] = { [[
    local function deep(n) return 1 + deep(n + 1) end
    local ok, err = pcall(deep, 1)
    print(ok, (err:match("stack overflow")))
    print(pcall(string.rep, "x", -1), pcall(string.rep))
  ]] },
  ["debug library"] = { [[
    local function f() return debug.getinfo(1, "l").currentline, debug.getinfo(1, "S").short_src end
    print(f())
    local x = 5
    print(debug.getlocal(1, 2), debug.getinfo(1, "S").what)
    print(debug.sethook(), debug.gethook())
  ]] },
}

describe("A plain Lua script", function()
  for name, case in pairs(PLAIN) do
    it("about " .. name .. " does what it does under lua5.4", function()
      local opts = { stdin = case.stdin, args = case.args }
      local status, out, err = script.run(case[1], opts)
      opts.program = "lua5.4"
      local lua_status, lua_out, lua_err = script.run(case[1], opts)
      assert.equal(lua_out, out)
      assert.equal(lua_status, status)
      assert.equal(lua_err == "", err == "")
    end)
  end
end)

describe("A C module of the distribution", function()
  local CODE = {
    cjson = "local c = require 'cjson' print(c.encode({1, 2}), c.decode('[3]')[1])",
    lfs = "local l = require 'lfs' print(l.attributes('script.lua').size > 0)",
    posix = "local u = require 'posix.unistd' print(u.getpid() > 1, u.getcwd() ~= nil)",
    term = "local t = require 'term' print(type(t.isatty))",
    socket = "local s = require 'socket' print(s.bind('127.0.0.1', 0):getfd() > 2)",
    system = "local s = require 'system' print(s.monotime() > 0)",
  }
  for name, code in pairs(CODE) do
    it("loads: " .. name, function()
      local lua_status, lua_out = script.run(code, { program = "lua5.4" })
      if lua_status ~= 0 then
        return pending(name .. " is not there for lua5.4")
      end
      local status, out, err = script.run(code)
      assert.same({ 0, lua_out, "" }, { status, out, err })
    end)
  end
end)

describe("busted", function()
  local SUITE = [[
    local moonloop = require "moonloop"
    describe("a suite", function()
      before_each(function() moonloop.sleep(0) end)
      it("awaits in its bodies", function()
        local task = moonloop.create_task(function() moonloop.sleep(0.001) return "value" end)
        assert.equal("value", task:await())
      end)
      it("goes on with the next", function() assert.is_true(coroutine.isyieldable()) end)
    end)
  ]]
  local FAILING = SUITE:gsub('"value", task', '"another", task')

  local function suite(source, argv)
    local folder <close> = script.folder()
    folder:write("spec/async_spec.lua", source)
    return folder:run(argv)
  end

  local as_flag = { "busted", "-o", "plainTerminal", "--lua=" .. script.binary, "spec" }
  local as_script = { script.binary, "/usr/bin/busted", "-o", "plainTerminal", "spec" }

  it("runs its bodies as tasks with --lua=moonloop", function()
    local status, out = suite(SUITE, as_flag)
    assert.matches("2 successes / 0 failures / 0 errors", out, 1, true)
    assert.equal(0, status)
  end)

  it("runs them as tasks when moonloop runs busted", function()
    local status, out = suite(SUITE, as_script)
    assert.matches("2 successes / 0 failures / 0 errors", out, 1, true)
    assert.equal(0, status)
  end)

  it("keeps the status of a suite that fails", function()
    for _, argv in ipairs({ as_flag, as_script }) do
      local status, out = suite(FAILING, argv)
      assert.matches("1 success / 1 failure / 0 errors", out, 1, true)
      assert.equal(1, status)
    end
  end)
end)

describe("The current folder", function()
  -- A folder full of files that fail when something loads them.
  local function poisoned()
    local folder = script.folder()
    for name in io.popen("cd lua 2>/dev/null && find . -name '*.lua'"):lines() do
      folder:write("lua/" .. name:sub(3), "error('loaded from the current folder')")
    end
    folder:write("lua/moonloop.lua", "error('loaded from the current folder')")
    folder:write("lua/moonloop/init.lua", "error('loaded from the current folder')")
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      local server <close> = moonloop.start_server(print, "127.0.0.1", 0)
      moonloop.sleep(0)
      print("fine")
    ]])
    return folder
  end

  it("is not searched for the library by the built command", function()
    local folder <close> = poisoned()
    local status, out, err = folder:moonloop({ "script.lua" })
    assert.same({ 0, "fine\n", "" }, { status, out, err })
  end)

  it("is not searched by an installed command, which needs no LUA_PATH #load", function()
    local folder <close> = poisoned()
    local argv = { "make", "-s", "install", "PREFIX=" .. folder.path .. "/usr" }
    local status, _, err = command.run(argv, { timeout = 300 })
    assert.equal(0, status, err)
    local env = { LUA_PATH = "./?.lua", LUA_CPATH = "./?.so" }
    local installed = { folder.path .. "/usr/bin/moonloop", "script.lua" }
    local run_status, out, run_err = folder:run(installed, { env = env })
    assert.same({ 0, "fine\n", "" }, { run_status, out, run_err })
  end)
end)
