-- SPDX-License-Identifier: MIT
-- moonloop.run inside a task: a scope of its own. Outside one, and the Runner:
-- runner_spec.lua.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local create_task, run = moonloop.create_task, moonloop.run

describe("run inside a task", function()
  it("passes arguments and returns every value", function()
    local values = table.pack(run(function(...) return ... end, 1, nil, 3, nil))
    assert.same({ 1, nil, 3, nil, n = 4 }, values)
  end)

  it("returns what comes later", function()
    assert.equal("later", run(moonloop.sleep, 0.001, "later"))
  end)

  it("raises the error as it is", function()
    local problem = {}
    local ok, err = pcall(run, function() error(problem) end)
    assert.is_false(ok)
    assert.equal(problem, err)
    assert.same({ false, "text" }, { pcall(run, error, "text", 0) })
  end)

  it("uses the loop that runs", function()
    local loop = moonloop.get_running_loop()
    assert.equal(loop, run(moonloop.get_running_loop))
    assert.is_true(loop:is_running())
  end)

  it("cancels and awaits the tasks that are left over", function()
    local list = {}
    local left
    run(function()
      left = create_task(function()
        local _ <close> = moonloop.defer(function()
          moonloop.sleep(0.001)
          list[#list + 1] = "cleaned"
        end)
        moonloop.sleep_forever()
      end)
      moonloop.sleep(0)
      list[#list + 1] = "main ends"
    end)
    assert.same({ "main ends", "cleaned" }, list)
    assert.is_true(left:cancelled())
  end)

  it("cancels also those that the leftover tasks make", function()
    local made
    run(function()
      create_task(function()
        pcall(moonloop.sleep_forever)
        made = create_task(moonloop.sleep_forever)
      end)
      moonloop.sleep(0)
    end)
    assert.is_true(made:done())
  end)

  it("cancels them also when its function fails, whose error it raises", function()
    local left
    local ok, err = pcall(run, function()
      left = create_task(moonloop.sleep_forever)
      moonloop.sleep(0)
      error("main", 0)
    end)
    assert.is_false(ok)
    assert.equal("main", err)
    assert.is_true(left:cancelled())
  end)

  it("reports the untaken errors of its tasks when it ends", function()
    local reports <close> = tasks.reports()
    local held = {}
    run(function()
      held[1] = create_task(error, "first", 0)
      held[2] = create_task(function()
        pcall(moonloop.sleep_forever)
        error("while cancelled", 0)
      end)
      moonloop.sleep(0)
    end)
    assert.equal(2, #held)
    assert.equal(2, #reports)
    for _, expected in ipairs { "first", "while cancelled" } do
      assert.is_not_nil(tasks.find(reports, function(report) return report.error == expected end))
    end
  end)

  it("leaves the tasks made outside it alone", function()
    local gate = moonloop.Future()
    local outside = tasks.start(function() return gate:await() end)
    run(function() moonloop.sleep(0) end)
    assert.is_false(outside:done())
    gate:set_result("outside")
    assert.equal("outside", moonloop.await(outside))
  end)

  it("is cancelled while it waits, and takes its tasks with it", function()
    local list, left = {}, nil
    local task = tasks.start(function()
      run(function()
        left = create_task(moonloop.sleep_forever)
        local _ <close> = tasks.mark(list, "main cleaned")
        moonloop.sleep_forever()
      end)
      list[#list + 1] = "not reached"
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "main cleaned" }, list)
    assert.is_true(left:cancelled())
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.run(moonloop.sleep_forever)")
    assert.equal(0, status)
    assert.equal(stock.closed_output, out)
  end)

  it("may be nested and run again and again", function()
    local before = #testing.leaks()
    for i = 1, 100 do
      local value = run(function()
        create_task(moonloop.sleep_forever)
        return run(function()
          create_task(moonloop.sleep_forever)
          moonloop.sleep(0)
          return i
        end)
      end)
      assert.equal(i, value)
    end
    testing.wait_all_blocked()
    assert.equal(before, #testing.leaks())
  end)

  it("makes what its function changes in the context stay there", function()
    local var = moonloop.ContextVar("v")
    var:set("outside")
    run(function()
      assert.equal("outside", var:get())
      var:set("inside")
    end)
    assert.equal("outside", var:get())
  end)

  it("is a task of its own for its function", function()
    local outer = moonloop.current_task()
    assert.is_true(run(function() return moonloop.current_task() ~= outer end))
    assert.equal(outer, moonloop.current_task())
  end)

  it("runs two at the same time, each with its own tasks", function()
    local gate = moonloop.Future()
    local first_left, second_left
    local first = tasks.start(run, function()
      first_left = create_task(moonloop.sleep_forever)
      gate:await()
      return "first"
    end)
    local second = create_task(run, function()
      second_left = create_task(moonloop.sleep_forever)
      moonloop.sleep(0)
      return "second"
    end)
    assert.equal("second", moonloop.await(second))
    assert.is_true(second_left:cancelled())
    assert.is_false(first_left:done())
    gate:set_result()
    assert.equal("first", moonloop.await(first))
    assert.is_true(first_left:cancelled())
  end)

  it("takes its callbacks back when it ends", function()
    local before, called = #testing.leaks(), false
    local function note() called = true end
    run(function() moonloop.get_running_loop():call_later(0.001, note) end)
    assert.equal(before, #testing.leaks())
    local _ <close> = testing.virtual_clock { threshold = 0 }
    moonloop.sleep(10)
    assert.is_false(called)
  end)
end)
