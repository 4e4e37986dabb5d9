-- SPDX-License-Identifier: MIT
-- Running the loop by hand, which only a program outside any task can do: each
-- spec is a program for stock Lua and what it prints.
local stock = require "spec.support.stock"

-- Runs `code` with `moonloop` and `loop` at hand and compares its output.
local function prints(expected, code)
  local status, out, err = stock.lua([[
    local moonloop = require "moonloop"
    local loop = moonloop.get_event_loop()
  ]] .. code)
  assert.equal(expected, out)
  assert.equal(0, status)
  return err
end

describe("get_running_loop", function()
  it("raises where no loop runs", function()
    prints("false\ttrue\ntrue\n", [[
      local ok, err = pcall(moonloop.get_running_loop)
      print(ok, moonloop.is_error(err))
      loop:call_soon(function() print(moonloop.get_running_loop() == loop) loop:stop() end)
      loop:run_forever()
    ]])
  end)
end)

describe("run_forever", function()
  it("runs callbacks until stop is called", function()
    prints("false\ttrue\nsecond\nfalse\tfalse\n", [[
      print(loop:is_running(), not loop:is_closed())
      loop:call_later(0.001, function()
        assert(loop:is_running())
        loop:call_soon(print, "second")
        loop:call_soon(loop.stop, loop)
      end)
      loop:run_forever()
      print(loop:is_running(), loop:is_closed())
    ]])
  end)

  it("runs what is ready once when stop was called before", function()
    prints("ready\nreturned\nlater\n", [[
      loop:call_soon(print, "ready")
      loop:stop()
      loop:run_forever()
      print "returned"
      loop:call_soon(print, "later")
      loop:stop()
      loop:run_forever()
    ]])
  end)

  it("can be run again, and keeps the tasks it had", function()
    prints("1\nstopped\n2\n", [[
      loop:create_task(function()
        print(1)
        loop:stop()
        moonloop.sleep(0.001)
        print(2)
        loop:stop()
      end)
      loop:run_forever()
      print "stopped"
      loop:run_forever()
    ]])
  end)

  it("goes on after a callback that raises, and says so on stderr", function()
    local err = prints("after\n", [[
      loop:call_soon(error, "broken callback", 0)
      loop:call_soon(function() print "after" loop:stop() end)
      loop:run_forever()
    ]])
    assert.matches("broken callback", err, 1, true)
  end)

  it("goes on after an exception handler that raises, and says both", function()
    local err = prints("after\n", [[
      loop:set_exception_handler(function() error("broken handler", 0) end)
      loop:call_soon(error, "broken callback", 0)
      loop:call_soon(function() print "after" loop:stop() end)
      loop:run_forever()
    ]])
    assert.matches("broken handler", err, 1, true)
    assert.matches("broken callback", err, 1, true)
  end)

  it("reports an exception handler's own await outside a task", function()
    local err = prints("after\n", [[
      loop:set_exception_handler(function() moonloop.sleep(0) end)
      loop:call_soon(error, "broken callback", 0)
      loop:call_later(0.001, function() print "after" loop:stop() end)
      loop:run_forever()
    ]])
    assert.matches("no running task", err, 1, true)
  end)
end)

describe("run_until_complete", function()
  it("runs a function as a task and gives its values", function()
    prints("1\tnil\t3\n", [[
      print(loop:run_until_complete(function() return 1, moonloop.sleep(0), 3 end))
    ]])
  end)

  it("waits for a task or a future", function()
    prints("task\nfuture\ttwo\nready\n", [[
      print(loop:run_until_complete(loop:create_task(function() return "task" end)))
      local future = loop:create_future()
      loop:call_later(0.001, future.set_result, future, "future", "two")
      print(loop:run_until_complete(future))
      local ready = loop:create_future()
      ready:set_result("ready")
      print(loop:run_until_complete(ready))
    ]])
  end)

  it("raises the error as it is", function()
    prints("true\nplain\n", [[
      local problem = {}
      local function failure(fn) return select(2, pcall(loop.run_until_complete, loop, fn)) end
      print(failure(function() error(problem) end) == problem)
      print(failure(function() error("plain", 0) end))
    ]])
  end)

  it("leaves other tasks for the next run", function()
    prints("first\nother\n", [[
      local other = loop:create_task(function()
        moonloop.sleep(0.001)
        return "other"
      end)
      print(loop:run_until_complete(function() return "first" end))
      print(loop:run_until_complete(other))
    ]])
  end)

  it("refuses what cannot be awaited", function()
    prints("false\ttrue\n", [[
      local ok, err = pcall(function() loop:run_until_complete(5) end)
      print(ok, err:find("bad argument #1 to 'run_until_complete'", 1, true) ~= nil)
    ]])
  end)

  it("raises when stop is called before it is complete", function()
    prints("false\n", [[
      loop:call_soon(loop.stop, loop)
      print((pcall(loop.run_until_complete, loop, loop:create_future())))
    ]])
  end)
end)

describe("close", function()
  it("may be called twice, and says so afterwards", function()
    prints("true\ttrue\n", [[
      loop:close()
      local closed = loop:is_closed()
      loop:close()
      print(closed, loop:is_closed())
    ]])
  end)

  it("makes every later use an InvalidStateError", function()
    prints(("InvalidStateError\n"):rep(5), [[
      loop:close()
      for _, use in ipairs {
        function() loop:call_soon(print) end,
        function() loop:call_later(1, print) end,
        function() loop:run_forever() end,
        function() loop:create_task(print) end,
        function() loop:add_reader(0, print) end,
      } do
        local _, err = pcall(use)
        print(moonloop.is_error(err) and err.kind or err)
      end
    ]])
  end)

  it("drops callbacks, timers and tasks that never ran", function()
    prints("end\n", [[
      loop:call_soon(print, "soon")
      loop:call_later(0, print, "later")
      loop:create_task(function() print "task" end)
      loop:close()
      print "end"
    ]])
  end)

  it("closes the tasks that wait, their variables too", function()
    prints("waiting\nclosed\nend\n", [[
      loop:create_task(function()
        local _ <close> = setmetatable({}, {__close = function() print "closed" end})
        print "waiting"
        moonloop.sleep_forever()
      end)
      loop:stop()
      loop:run_forever()
      loop:close()
      print "end"
    ]])
  end)
end)

describe("Descriptors", function()
  it("are watched while the loop runs, and only then", function()
    prints("read\tx\n", [[
      local reader, writer = require "spec.support.descriptors".pair()
      loop:add_reader(reader.fd, function()
        print("read", reader:read())
        loop:stop()
      end)
      writer:write("x")
      loop:run_forever()
    ]])
  end)
end)

describe("A program's end", function()
  it("is clean with everything pending", function()
    local err = prints("end\n", [[
      local reader = require "spec.support.descriptors".pair()
      loop:add_reader(reader.fd, print)
      loop:call_later(60, print)
      loop:call_soon(function() end)
      local tasks = {}
      for i = 1, 10 do
        tasks[i] = loop:create_task(function()
          moonloop.await(tasks[i + 1] or loop:create_future())
        end)
      end
      loop:run_until_complete(function() moonloop.sleep(0) end)
      loop:call_soon(print, "never")
      print "end"
    ]])
    assert.not_matches("traceback", err)
  end)

  it("runs nothing more after os.exit in a task", function()
    local status, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        moonloop.create_task(function()
          local _ <close> = setmetatable({}, {__close = function() print "closed" end})
          moonloop.sleep_forever()
        end)
        moonloop.sleep(0)
        io.stdout:write("out\n")
        os.exit(7)
      end)
    ]])
    assert.equal("out\n", out)
    assert.equal(7, status)
  end)

  it("closes the waiting tasks when os.exit closes the state", function()
    local status, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        moonloop.create_task(function() moonloop.sleep_forever() end)
        moonloop.get_running_loop():call_later(60, print)
        moonloop.sleep(0)
        os.exit(5, true)
      end)
    ]])
    assert.equal("", out)
    assert.equal(5, status)
  end)
end)
