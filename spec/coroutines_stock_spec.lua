-- SPDX-License-Identifier: MIT
-- Plain coroutine use inside a task is what it is in stock Lua: each program
-- here prints the same under lua5.4 alone, under the command, and under
-- moonloop.run with and without patch_coroutines.
local stock = require "spec.support.stock"
local command = require "spec.support.command"

local function plain(code)
  return command.run({ "lua5.4", "-" }, { stdin = code })
end

local function in_run(patch, code)
  local head = 'local m = require "moonloop" %s m.run(function() %s\nend)'
  return stock.lua(head:format(patch and "m.patch_coroutines()" or "", code))
end

local function same_everywhere(what, code)
  it(what, function()
    local status, expected, complaint = plain(code)
    assert.equal("", complaint)
    assert.equal(0, status)
    assert.not_equal("", expected)
    assert.equal(expected, (select(2, stock.moonloop(code))), "under the command")
    assert.equal(expected, (select(2, in_run(true, code))), "with patch_coroutines")
    assert.equal(expected, (select(2, in_run(false, code))), "without patch_coroutines")
  end)
end

describe("Plain coroutine use inside a task", function()
  same_everywhere("answers isyieldable and running", [[
    local co
    co = coroutine.create(function()
      print(coroutine.isyieldable(), coroutine.running() == co, select(2, coroutine.running()))
    end)
    print(coroutine.isyieldable(co), coroutine.resume(co))
    print(coroutine.wrap(function() return coroutine.isyieldable() end)())
  ]])

  same_everywhere("passes values both ways", [[
    local co = coroutine.create(function(...)
      print("in", ...)
      print("back", coroutine.yield(1, nil, 3))
      return "out", nil
    end)
    print(coroutine.resume(co, "a", nil))
    print(coroutine.resume(co, nil, "b"))
    print(coroutine.resume(co))
  ]])

  same_everywhere("answers status in every state", [[
    local outer, inner
    inner = coroutine.create(function()
      print(coroutine.status(inner), coroutine.status(outer))
      coroutine.yield()
    end)
    outer = coroutine.create(function()
      coroutine.resume(inner)
      print(coroutine.status(inner))
    end)
    print(coroutine.status(outer), coroutine.resume(outer))
    print(coroutine.status(outer), coroutine.status(inner))
  ]])

  same_everywhere("puts positions on the errors of wrap", [[
    local gen = coroutine.wrap(function() coroutine.yield() error("boom") end)
    gen()
    print(pcall(gen))
    print(pcall(gen))
    local plain = coroutine.wrap(function() error("bare", 0) end)
    print(pcall(function() plain() end))
    local t = {}
    print(select(2, pcall(coroutine.wrap(function() error(t) end))) == t)
    print(pcall(coroutine.wrap(function() error() end)))
  ]])

  same_everywhere("yields across pcall, xpcall, metamethods and iterators", [[
    local t = setmetatable({}, {__index = function(_, k) return coroutine.yield(k) end,
      __concat = function() return coroutine.yield("concat") end,
      __eq = function() return coroutine.yield("eq") end})
    local gen = coroutine.wrap(function()
      print(pcall(function() coroutine.yield(1) error("x", 0) end))
      local function loud(e) return e .. "!" end
      print(xpcall(function() coroutine.yield(2) error("y", 0) end, loud))
      print(t.key, t .. "s", t == setmetatable({}, getmetatable(t)))
      for v in function() return coroutine.yield("next") end do print(v) end
      return "end"
    end)
    for _, reply in ipairs { 1, 2, 3, 4, 5, false, "v" } do print(gen(reply)) end
    print(gen(nil))
  ]])

  same_everywhere("closes suspended coroutines and their variables", [[
    local function closing(fail)
      return coroutine.create(function()
        local _ <close> = setmetatable({}, {__close = function(_, e)
          print("close", e)
          if fail then error("in close", 0) end
        end})
        coroutine.yield()
      end)
    end
    local good, bad, fresh = closing(), closing(true), closing()
    coroutine.resume(good) coroutine.resume(bad)
    print(coroutine.close(good)) print(coroutine.close(bad)) print(coroutine.close(fresh))
    print(coroutine.status(good), coroutine.status(bad), coroutine.status(fresh))
    print(coroutine.close(good))
    local failed = coroutine.create(error)
    print(coroutine.resume(failed, "why"))
    print(coroutine.close(failed))
  ]])

  same_everywhere("closes the variables of a wrapped coroutine that fails", [[
    local gen = coroutine.wrap(function()
      local _ <close> = setmetatable({}, {__close = function(_, e) print("close", e) end})
      error("boom", 0)
    end)
    print(pcall(gen))
  ]])

  same_everywhere("refuses what stock Lua refuses, in its words", [[
    local co
    co = coroutine.create(function() print(coroutine.resume(co)) end)
    coroutine.resume(co)
    print(coroutine.resume(co))
    local self_wrap
    self_wrap = coroutine.wrap(function() self_wrap() end)
    print(pcall(function() self_wrap() end))
    co = coroutine.create(function() print(pcall(coroutine.close, co)) end)
    coroutine.resume(co)
    print(pcall(function() coroutine.resume(5) end))
    print(pcall(function() coroutine.wrap(5) end))
    print(pcall(function() coroutine.create() end))
    print(pcall(function() coroutine.status({}) end))
    print(pcall(function() coroutine.close(nil) end))
  ]])

  same_everywhere("refuses a yield across a C function", [[
    print(coroutine.resume(coroutine.create(function()
      table.sort({2, 1}, function() coroutine.yield() end)
    end)))
    print(coroutine.resume(coroutine.create(function()
      return ("abc"):gsub("b", coroutine.yield)
    end)))
  ]])

  same_everywhere("keeps the stack of a failed coroutine for debug.traceback", [[
    local co = coroutine.create(function() local function deep() error("x") end deep() end)
    print(coroutine.resume(co))
    print((debug.traceback(co):gsub("%[C%]: in %S+[^\n]*", "[C]")))
  ]])

  same_everywhere("propagates errors through nested coroutines", [[
    local function level(n)
      if n == 0 then error({ "deep" }) end
      coroutine.wrap(level)(n - 1)
    end
    local ok, err = pcall(level, 20)
    print(ok, err[1])
    print(coroutine.resume(coroutine.create(function() coroutine.wrap(error)("s", 0) end)))
  ]])

  same_everywhere("collects what nobody holds", [[
    local weak = setmetatable({}, {__mode = "k"})
    do
      local co = coroutine.create(function() coroutine.yield() end)
      coroutine.resume(co)
      weak[co] = true
    end
    collectgarbage() collectgarbage()
    print(next(weak))
  ]])

  same_everywhere("overflows with an error", [[
    local function nest() return coroutine.wrap(nest)() end
    local ok, err = pcall(nest)
    print(ok, err:match("C stack overflow"))
  ]])
end)

describe("In stock Lua", function()
  it("an await in an inner coroutine raises and names patch_coroutines", function()
    local status, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        local ok, err = coroutine.resume(coroutine.create(function() moonloop.sleep(0) end))
        print(ok, err)
        print(moonloop.sleep(0, "on"))
      end)
    ]])
    assert.equal(0, status)
    assert.matches("^false\t[^\n]*patch_coroutines[^\n]*\non\n$", out)
  end)

  for name, code in pairs {
    timeout = "local _ <close> = moonloop.timeout(1)",
    TaskGroup = "local _ <close> = moonloop.TaskGroup()",
    task_group = "moonloop.task_group(print)",
    move_on_after = "moonloop.move_on_after(1, print)",
    ["CancelScope:run"] = "moonloop.CancelScope({}):run(print)",
    shield = "moonloop.shield(print)",
  } do
    it("a " .. name .. " in an inner coroutine raises and names patch_coroutines", function()
      local _, out = stock.lua(([[
        local moonloop = require "moonloop"
        moonloop.run(function()
          local ok, err = pcall(coroutine.wrap(function() %s end))
          print(ok, err)
        end)
      ]]):format(code))
      assert.matches("^false\t[^\n]*patch_coroutines[^\n]*\n$", out)
    end)
  end

  it("an await in an inner coroutine works after patch_coroutines", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.patch_coroutines()
      moonloop.patch_coroutines()
      moonloop.run(function()
        local gen = coroutine.wrap(function()
          for i = 1, 2 do moonloop.sleep(0) coroutine.yield(i) end
        end)
        for i in gen do print(i) end
      end)
    ]])
    assert.equal("1\n2\n", out)
  end)

  it("patch_coroutines leaves coroutines outside any run alone", function()
    local _, out = stock.lua([[
      require "moonloop".patch_coroutines()
      local gen = coroutine.wrap(function(a) print(coroutine.yield(a)) return "end" end)
      print(gen(1)) print(gen(2)) print(pcall(gen))
    ]])
    assert.equal("1\n2\nend\nfalse\tcannot resume dead coroutine\n", out)
  end)

  it("the coroutine functions are not replaced by require alone", function()
    local _, out = stock.lua([[
      local before = {}
      for name, fn in pairs(coroutine) do before[name] = fn end
      local moonloop = require "moonloop"
      moonloop.run(function() moonloop.sleep(0) end)
      for name, fn in pairs(before) do assert(coroutine[name] == fn, name) end
      print("same")
    ]])
    assert.equal("same\n", out)
  end)

  it("an await outside any task raises and names moonloop.run", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      local future = moonloop.get_event_loop():create_future()
      for _, fn in ipairs {
        function() moonloop.sleep(0) end,
        function() future:await() end,
        function() coroutine.wrap(moonloop.sleep)(0) end,
      } do
        local ok, err = pcall(fn)
        local text = tostring(err)
        print(ok, moonloop.is_error(err) and err.kind,
          text:find("no running task", 1, true) and text:find("moonloop.run", 1, true) and "named")
      end
    ]])
    assert.equal(("false\tError\tnamed\n"):rep(3), out)
  end)

  it("an await in a loop callback raises and names moonloop.run", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      local loop = moonloop.get_event_loop()
      loop:call_soon(function()
        local ok, err = pcall(moonloop.sleep, 0)
        print(ok, moonloop.is_error(err, "Error"), tostring(err):match("no running task"))
        loop:stop()
      end)
      loop:run_forever()
    ]])
    assert.equal("false\ttrue\tno running task\n", out)
  end)
end)
