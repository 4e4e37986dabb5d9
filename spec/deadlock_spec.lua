-- SPDX-License-Identifier: MIT
-- A program whose every task waits for what nothing can wake: DeadlockError in
-- the main task, which unwinds; and what is no deadlock.
local command = require "spec.support.command"
local script = require "spec.support.script"
local stock = require "spec.support.stock"

local HEAD = 'local moonloop = require "moonloop"\n'

local STUCK = HEAD .. [[
  local late = moonloop.create_task({name = "late"}, function() moonloop.Future():await() end)
  local function wait()
    local _ <close> = moonloop.defer(function() moonloop.sleep(0.001) print("cleaned up") end)
    late:await()  -- line 5
    return 1
  end
  wait()  -- line 8
  print("not reached")]]

describe("A program in which nothing can wake any task", function()
  it("ends with status 1 and a DeadlockError that says who waits for what", function()
    local status, _, err = script.run(STUCK)
    assert.equal(1, status)
    assert.matches("DeadlockError: ", err, 1, true)
    assert.matches("task 'main' waits for task 'late'", err, 1, true)
    assert.matches("task 'late' waits for a future", err, 1, true)
  end)

  it("runs the main task's clean-up, which may await", function()
    local _, out = script.run(STUCK)
    assert.equal("cleaned up\n", out)
  end)

  it("shows the await at which the main task hangs", function()
    local _, _, err = script.run(STUCK)
    local trace = err:match("stack traceback:\n(.*)")
    local frames = "^[^\n]*'await'\n[^\n]*script.lua:5: in [^\n]*\n[^\n]*script.lua:8: in main"
    assert.matches(frames, trace)
    assert.is_nil(trace:find("pcall", 1, true))
  end)

  it("lists its tasks with names, waits and tracebacks in the error", function()
    local status, out, err = script.run(HEAD .. [[
      local function hang() moonloop.Future():await() end  -- line 2
      local late = moonloop.create_task({name = "late"}, hang)
      local ok, e = pcall(late.await, late)
      print(ok, e.kind, #e.tasks)
      for _, task in ipairs(e.tasks) do
        print(task.name, task.awaiting, task.traceback:match("script.lua:%d+"))
      end
    ]])
    assert.equal("", err)
    assert.equal("false\tDeadlockError\t2\n" ..
      "main\ttask 'late'\tscript.lua:4\nlate\ta future\tscript.lua:2\n", out)
    assert.equal(0, status)
  end)

  it("raises it from run in stock Lua, after cancelling the others", function()
    local status, out, err = stock.lua(HEAD .. [[
      local ok, e = pcall(moonloop.run, function()
        moonloop.create_task(function()
          local _ <close> = setmetatable({}, {__close = function() print("closed") end})
          moonloop.Future():await()
        end)
        moonloop.Future():await()
      end)
      print(ok, moonloop.is_error(e, "DeadlockError"))
      print(moonloop.run(moonloop.sleep, 0, "runs again"))
    ]])
    assert.equal("", err)
    assert.equal("closed\nfalse\ttrue\nruns again\n", out)
    assert.equal(0, status)
  end)
end)

describe("What can still wake a task", function()
  -- Under the command, with a line on standard input for those who look at it.
  local function prints(expected, code)
    local status, out, err = command.run({ script.binary, "-e", code }, { stdin = "a line\n" })
    assert.equal("", err)
    assert.equal(expected, out)
    assert.equal(0, status)
  end

  it("is a timer", function()
    prints("woken\n", [[
      local future = moonloop.Future()
      moonloop.get_running_loop():call_later(0.001, future.set_result, future, "woken")
      print(future:await())
    ]])
  end)

  it("is a task that sleeps", function()
    prints("woken\n", [[
      local future = moonloop.Future()
      moonloop.create_task(function() moonloop.sleep(0.001) future:set_result("woken") end)
      print(future:await())
    ]])
  end)

  it("is a descriptor", function()
    prints("a line\n", [[
      local loop, future = moonloop.get_running_loop(), moonloop.Future()
      local server <close> = moonloop.start_server(function(stream)
        stream:write(io.read("l"), "\n")
      end, "127.0.0.1", 0)
      local stream <close> = moonloop.connect("127.0.0.1", server:port())
      loop:add_reader(stream:fileno(), function()
        loop:remove_reader(stream:fileno())
        future:set_result()
      end)
      future:await()
      io.write(stream:readline())
    ]])
  end)
end)

describe("What can wake nobody", function()
  -- Runs a program that opens the block in a generator, which it drops or not, and
  -- waits for ever. No collection helps it.
  local function deadlock(block, dropped)
    local status, out, err = script.run(([[
      local moonloop = require "moonloop"
      collectgarbage("stop")
      local gen = coroutine.wrap(function() %s end)
      gen()
      %s
      local ok, e = pcall(function() moonloop.Event():wait() end)
      print(ok, e.kind, gen == nil)
    ]]):format(block, dropped and "gen = nil" or ""), { timeout = 10 })
    assert.equal("", err)
    assert.equal(("false\tDeadlockError\t%s\n"):format(dropped), out)
    assert.equal(0, status)
  end

  local BLOCKS = {
    timeout = "local _ <close> = moonloop.timeout(3600) coroutine.yield()",
    move_on_after = "moonloop.move_on_after(3600, coroutine.yield)",
  }
  for name, block in pairs(BLOCKS) do
    it("is the timer of a " .. name .. " in a generator that has yielded", function()
      deadlock(block, false)
    end)

    it("is the timer of a " .. name .. " in a generator that was dropped", function()
      deadlock(block, true)
    end)
  end

  it("is such a timer only while the generator is suspended", function()
    local status, out, err = script.run([[
      local moonloop = require "moonloop"
      local gen = coroutine.wrap(function()
        local _ <close> = moonloop.timeout(0.01)
        coroutine.yield()
        moonloop.sleep_forever()
      end)
      gen()
      local ok, e = pcall(gen)
      print(ok, e.kind)
    ]])
    assert.equal("", err)
    assert.equal("false\tTimeoutError\n", out)
    assert.equal(0, status)
  end)
end)

describe("A deadlock after a deadlock", function()
  it("is told again, as long as the main task goes on", function()
    local status, out = script.run([[
      local moonloop = require "moonloop"
      for i = 1, 3 do
        local future = moonloop.Future()
        local ok, err = pcall(future.await, future)
        print(i, ok, moonloop.is_error(err, "DeadlockError"))
        moonloop.sleep(0)
      end
    ]])
    assert.equal("1\tfalse\ttrue\n2\tfalse\ttrue\n3\tfalse\ttrue\n", out)
    assert.equal(0, status)
  end)
end)
