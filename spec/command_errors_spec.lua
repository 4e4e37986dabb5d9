-- SPDX-License-Identifier: MIT
-- What the command says about errors that nobody caught: the message, the
-- traceback through the task's own frames, where the task comes from; and which
-- status it ends with.
local script = require "spec.support.script"

local HEAD = 'local moonloop = require "moonloop"\n'

-- The line of `text` in which `plain` first stands, as a number.
local function line_of(text, plain)
  local count = 1
  for line in text:gmatch("([^\n]*)\n") do
    if line:find(plain, 1, true) then return count end
    count = count + 1
  end
  error("no " .. plain .. " in the text:\n" .. text)
end

-- Every traceback line of `err` that is not about script.lua or the C function
-- that raised.
local function foreign_frames(err)
  local found = {}
  for line in err:gmatch("\n\t([^\n]*)") do
    local ours = line:find("script.lua:", 1, true) or line:find("^%[C%]: in function ")
      or line:find("^%[C%]: in for iterator ")
    if not ours and not line:find("^%.%.%.") then found[#found + 1] = line end
  end
  return found
end

describe("An uncaught error", function()
  local source = HEAD .. [[
    local function inner() error("boom") end  -- line 2
    local function outer() moonloop.sleep(0) inner() return 1 end  -- line 3
    local function top() outer() return 1 end  -- line 4
    top()  -- line 5
    print("not reached")]]

  it("ends the command with status 1, its message on standard error", function()
    local status, out, err = script.run(source)
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("script.lua:2: boom", err, 1, true)
  end)

  it("comes with the traceback from where it was raised to the main chunk", function()
    local _, _, err = script.run(source)
    local first = line_of(err, "stack traceback:")
    local raised = line_of(err, "script.lua:2: in ")
    local outer = line_of(err, "script.lua:3: in ")
    local top = line_of(err, "script.lua:4: in ")
    local main = line_of(err, "script.lua:5: in main chunk")
    assert.is_true(first < raised and raised < outer and outer < top and top < main)
  end)

  it("shows no frames of the scheduler", function()
    local _, _, err = script.run(source)
    assert.same({}, foreign_frames(err))
  end)

  it("shows the frames of inner coroutines and of those who resumed them", function()
    local _, _, err = script.run(HEAD .. [[
      local function generate()  -- line 2
        moonloop.sleep(0)
        coroutine.yield(1)
        error("in the generator")  -- line 5
      end
      local function consume()
        for _ in coroutine.wrap(generate) do moonloop.sleep(0) end  -- line 8
      end
      consume()  -- line 10
    ]])
    assert.matches("script.lua:5: in the generator", err, 1, true)
    local inner = line_of(err, "script.lua:5: in ")
    local outer = line_of(err, "script.lua:8: in ")
    assert.is_true(inner < outer and outer < line_of(err, "script.lua:10: in main chunk"))
    assert.same({}, foreign_frames(err))
  end)

  it("in a child names the task and shows where it was created", function()
    local status, _, err = script.run(HEAD .. [[
      local function work() error("child failed") end
      local function begin()
        local task = moonloop.create_task({name = "worker seven"}, work)  -- line 4
        return task
      end
      local task = begin()  -- line 7
      task:await()
    ]])
    assert.equal(1, status)
    assert.matches("script.lua:2: child failed", err, 1, true)
    assert.matches("worker seven", err, 1, true)
    assert.matches("[Cc]reated.*script%.lua:4", err)
    assert.same({}, foreign_frames(err))
  end)

  it("is reported once", function()
    local _, _, err = script.run(HEAD .. [[
      moonloop.create_task(function() error("only once") end):await()
    ]])
    local _, count = err:gsub("only once", "")
    assert.equal(1, count)
  end)

  it("leaves through the <close> variables, which may await", function()
    local status, out, err = script.run(HEAD .. [[
      local _ <close> = setmetatable({}, {__close = function(_, e)
        moonloop.sleep(0.001)
        print("closed after", tostring(e):match("boom"))
      end})
      error("boom")
    ]])
    assert.equal("closed after\tboom\n", out)
    assert.matches("script.lua:6: boom", err, 1, true)
    assert.equal(1, status)
  end)
end)

describe("An uncaught error value", function()
  -- Runs code that fails and gives what stands in front of the traceback.
  local function message(code)
    local status, _, err = script.run(HEAD .. code)
    assert.equal(1, status)
    return err:match("^(.-)\n%s*stack traceback") or err
  end

  it("that is a string is shown as it is", function()
    assert.matches("as it is", message("error('as it is', 0)"), 1, true)
    assert.is_nil(message("error('as it is', 0)"):find("script.lua", 1, true))
  end)

  it("that is a number is shown", function()
    assert.matches("42", message("error(42)"), 1, true)
  end)

  it("that is nil is an error too", function()
    assert.matches("nil", message("error()"), 1, true)
    assert.matches("nil", message("moonloop.sleep(0) error(nil)"), 1, true)
  end)

  it("that is a table is named by its type, as Lua does", function()
    assert.matches("error object is a table value", message("error({code = 2})"), 1, true)
  end)

  it("with __tostring is shown by it", function()
    local code = "error(setmetatable({}, {__tostring = function() return 'spoken' end}))"
    assert.matches("spoken", message(code), 1, true)
  end)

  it("that is an Error object is shown as its one line", function()
    local code = "error(moonloop.Error.new{kind = 'TimeoutError', message = 'too slow'})"
    assert.matches("TimeoutError: too slow", message(code), 1, true)
  end)

  it("that the library raised has its line and the script's traceback", function()
    local status, _, err = script.run(HEAD .. [[
      moonloop.sleep("soon")
    ]])
    assert.equal(1, status)
    assert.matches("bad argument #1 to 'sleep' (number expected, got string)", err, 1, true)
    assert.matches("script.lua:2: in main chunk", err, 1, true)
  end)

  it("with a broken __tostring still ends the command with status 1", function()
    local status, _, err = script.run(
      "error(setmetatable({}, {__tostring = function() error('worse') end}))")
    assert.equal(1, status)
    assert.is_true(#err > 0)
  end)

  it("that is a CancelledError the script raised itself ends it with status 1", function()
    local status, _, err = script.run(HEAD .. [[
      error(moonloop.Error.new{kind = "CancelledError", message = "mine"})
    ]])
    assert.equal(1, status)
    assert.matches("CancelledError: mine", err, 1, true)
  end)
end)

describe("A script that cannot be run", function()
  it("is an error without a traceback, which would be the command's own", function()
    local folder <close> = script.folder()
    folder:write("bad.lua", "x = = 1")
    for _, args in ipairs({ { "nosuch.lua" }, { "." }, { "bad.lua" }, { "-m", "nosuch" } }) do
      local status, out, err = folder:moonloop(args)
      assert.equal(1, status)
      assert.equal("", out)
      assert.matches("^moonloop: ", err)
      assert.is_nil(err:find("traceback", 1, true))
      assert.is_nil(err:find("[C]", 1, true))
    end
  end)
end)

describe("A failed background task", function()
  local source = HEAD .. [[
    local function background() moonloop.sleep(0) error("lost and found") end
    moonloop.create_task({name = "the lost one"}, background)  -- line 3
    moonloop.sleep(0.01)
    print("main goes on")]]

  it("is reported on standard error with its name, traceback and creation", function()
    local _, out, err = script.run(source)
    assert.equal("main goes on\n", out)
    assert.matches("the lost one", err, 1, true)
    assert.matches("script.lua:2: lost and found", err, 1, true)
    assert.matches("stack traceback:", err, 1, true)
    assert.matches("[Cc]reated.*script%.lua:3", err)
    assert.same({}, foreign_frames(err))
  end)

  it("does not change the status", function()
    assert.equal(0, (script.run(source)))
  end)

  it("whose error is nil is reported too", function()
    local status, _, err = script.run(HEAD .. [[
      moonloop.create_task({name = "says nil"}, function() error(nil) end)
      moonloop.sleep(0)
    ]])
    assert.equal(0, status)
    assert.matches("says nil", err, 1, true)
  end)

  it("is not reported when its error was taken", function()
    local status, out, err = script.run(HEAD .. [[
      local task = moonloop.create_task(function() error("taken", 0) end)
      print(pcall(task.await, task))
    ]])
    assert.same({ 0, "false\ttaken\n", "" }, { status, out, err })
  end)

  it("that fails while the run ends is reported and changes nothing", function()
    local status, _, err = script.run(HEAD .. [[
      moonloop.create_task(function()
        local _ <close> = setmetatable({}, {__close = function() error("in the clean-up") end})
        moonloop.sleep_forever()
      end)
      moonloop.sleep(0)
    ]])
    assert.equal(0, status)
    assert.matches("in the clean-up", err, 1, true)
  end)
end)

describe("A failed callback", function()
  it("is reported on standard error and changes neither loop nor status", function()
    local status, out, err = script.run(HEAD .. [[
      local loop = moonloop.get_running_loop()
      loop:call_soon(function() error("from a callback") end)
      loop:call_soon(function() print("the next one runs") end)
      moonloop.sleep(0)
      moonloop.sleep(0)
      print("main too")
    ]])
    assert.equal(0, status)
    assert.equal("the next one runs\nmain too\n", out)
    assert.matches("from a callback", err, 1, true)
    assert.same({}, foreign_frames(err))
  end)
end)
