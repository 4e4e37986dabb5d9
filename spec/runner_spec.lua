-- SPDX-License-Identifier: MIT
-- moonloop.run and Runner outside any task: programs for stock Lua.
local stock = require "spec.support.stock"

-- Runs `code` with `moonloop` at hand and compares its output.
local function prints(expected, code)
  local status, out, err = stock.lua('local moonloop = require "moonloop"\n' .. code)
  assert.equal(expected, out, err)
  assert.equal(0, status)
  return err
end

describe("run in stock Lua", function()
  it("passes arguments, awaits and returns every value", function()
    prints("1\tnil\tv\tnil\n", [[
      local function main(a, b) return a, b, moonloop.sleep(0.001, "v"), nil end
      print(moonloop.run(main, 1, nil))
    ]])
  end)

  it("raises the error as it is", function()
    prints("true\ttext\tTimeoutError: late\n", [[
      local problem = {}
      local _, a = pcall(moonloop.run, error, problem)
      local _, b = pcall(moonloop.run, error, "text", 0)
      local _, c = pcall(moonloop.run, error, moonloop.TimeoutError:new("late"))
      print(a == problem, b, c)
    ]])
  end)

  it("ends a program whose error nobody catches with its message", function()
    local status, _, err = stock.lua([[
      require "moonloop".run(function() error("fatal") end)
    ]])
    assert.equal(1, status)
    assert.matches("fatal", err)
  end)

  it("runs again and again, whatever ended the one before", function()
    prints("300\n", [[
      local sum = 0
      for i = 1, 100 do
        sum = sum + moonloop.run(moonloop.sleep, 0, 3)
        pcall(moonloop.run, error, "x")
        moonloop.run(function() moonloop.create_task(moonloop.sleep_forever) end)
      end
      print(sum)
    ]])
  end)

  it("cancels and awaits what is left over before it returns", function()
    prints("main\ncleaned\nreturned\ttrue\n", [[
      local left
      moonloop.run(function()
        left = moonloop.create_task(function()
          local _ <close> = moonloop.defer(function()
            moonloop.sleep(0.001)
            print "cleaned"
          end)
          moonloop.sleep_forever()
        end)
        moonloop.sleep(0)
        print "main"
      end)
      print("returned", left:cancelled())
    ]])
  end)

  it("does not wait for timers that are left", function()
    prints("returned\n", [[
      moonloop.run(function()
        moonloop.get_running_loop():call_later(3600, print, "timer")
      end)
      print "returned"
    ]])
  end)

  it("reports untaken errors when it ends", function()
    local err = prints("returned\n", [[
      local held
      moonloop.run(function()
        held = moonloop.create_task({name = "loser"}, error, "lost", 0)
        moonloop.sleep(0)
      end)
      print "returned"
    ]])
    assert.matches("lost", err)
    assert.matches("loser", err)
  end)

  it("leaves no running loop behind", function()
    prints("false\ttrue\tfalse\n", [[
      local loop = moonloop.run(moonloop.get_running_loop)
      print((pcall(moonloop.get_running_loop)), moonloop.current_task() == nil, loop:is_running())
    ]])
  end)

  it("may be called by a program that is a coroutine itself", function()
    prints("v\n", [[
      coroutine.wrap(function() print(moonloop.run(moonloop.sleep, 0.001, "v")) end)()
    ]])
  end)

  it("raises CancelledError when its task was cancelled", function()
    prints("false\tCancelledError\n", [[
      local ok, err = pcall(moonloop.run, function()
        moonloop.current_task():cancel()
        moonloop.sleep(0)
      end)
      print(ok, err.kind)
    ]])
  end)
end)

describe("moonloop.exit", function()
  it("unwinds the tasks before it ends the program with its status", function()
    local status, out = stock.moonloop([[
      local moonloop = require "moonloop"
      moonloop.create_task(function()
        local _ <close> = setmetatable({}, {__close = function() print "task" end})
        moonloop.sleep_forever()
      end)
      moonloop.sleep(0)
      local _ <close> = setmetatable({}, {__close = function() print "main" end})
      moonloop.exit(3)
    ]])
    assert.equal("main\ntask\n", out)
    assert.equal(3, status)
  end)
end)

describe("Runner", function()
  it("gives several runs one loop", function()
    prints("true\ttrue\n1\t2\n", [[
      local runner <close> = moonloop.Runner{}
      local a = runner:run(moonloop.get_running_loop)
      local b = runner:run(moonloop.get_running_loop)
      print(a == b, a == runner:get_loop())
      print(runner:run(function(...) return ... end, 1, 2))
    ]])
  end)

  it("raises what its function raises, and runs again", function()
    prints("false\tx\nagain\n", [[
      local runner <close> = moonloop.Runner()
      print(pcall(runner.run, runner, error, "x", 0))
      print(runner:run(moonloop.sleep, 0, "again"))
    ]])
  end)

  it("is closed twice without harm, and runs no more", function()
    prints("false\tInvalidStateError\n", [[
      local runner = moonloop.Runner{}
      runner:run(moonloop.sleep, 0)
      runner:close()
      runner:close()
      local ok, err = pcall(runner.run, runner, moonloop.sleep, 0)
      print(ok, err.kind)
    ]])
  end)

  it("cancels what is left over when it is closed, at the latest", function()
    prints("cleaned\nend\n", [[
      do
        local runner <close> = moonloop.Runner{}
        runner:run(function()
          moonloop.create_task(function()
            local _ <close> = setmetatable({}, {__close = function() print "cleaned" end})
            moonloop.sleep_forever()
          end)
          moonloop.sleep(0)
        end)
      end
      print "end"
    ]])
  end)

  it("sets the debug flag it is given", function()
    prints("true\n", [[
      local runner <close> = moonloop.Runner{debug = true}
      print(runner:run(function() return moonloop.get_running_loop():get_debug() end))
    ]])
  end)

  it("waits shutdown_timeout at most, then reports what is left and closes it", function()
    local err = prints("closed\nend\n", [[
      do
        local runner <close> = moonloop.Runner{shutdown_timeout = 0.02}
        runner:run(function()
          moonloop.create_task({name = "laggard"}, function()
            local _ <close> = setmetatable({}, {__close = function() print "closed" end})
            local function where_it_hangs()
              local _ <close> = moonloop.defer(moonloop.sleep_forever)
            end
            where_it_hangs()
          end)
          moonloop.sleep(0)
        end)
      end
      print "end"
    ]])
    assert.matches("laggard", err)
    assert.matches("where_it_hangs", err)
  end)

  it("closes in the same way when shutdown_timeout is 0", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      local runner <close> = moonloop.Runner{shutdown_timeout = 0}
      runner:run(function()
        moonloop.create_task(function()
          local _ <close> = moonloop.defer(moonloop.sleep_forever)
        end)
        moonloop.sleep(0)
      end)
      runner:close()
      print "end"
    ]])
    assert.equal("end\n", out)
  end)

  it("refuses a run inside a run", function()
    prints("false\n", [[
      local runner <close> = moonloop.Runner{}
      runner:run(function() print((pcall(runner.run, runner, moonloop.sleep, 0))) end)
    ]])
  end)
end)
