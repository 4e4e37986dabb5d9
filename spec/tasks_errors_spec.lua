-- SPDX-License-Identifier: MIT
-- Tasks that fail: what is reported, when, and errors in odd places.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local create_task, await = moonloop.create_task, moonloop.await
local loop = moonloop.get_running_loop()

local collect = tasks.collect

local function report_of(reports, err)
  return tasks.find(reports, function(context) return context.error == err end)
end

describe("An untaken error", function()
  it("is reported when its task is collected", function()
    local reports <close> = tasks.reports()
    local function culprit() error({ "dropped" }) end
    create_task({ name = "dropped" }, culprit)
    testing.wait_all_blocked()
    collect()
    assert.equal(1, #reports)
    assert.same({ "dropped" }, reports[1].error)
    assert.is_string(reports[1].message)
    collect()
    assert.equal(1, #reports)
  end)

  it("is reported 5 s after the task's end, and not before", function()
    local _ <close> = testing.virtual_clock()
    local reports <close> = tasks.reports()
    local task = create_task(error, "held", 0)
    moonloop.sleep(4.9)
    assert.equal(0, #reports)
    moonloop.sleep(0.2)
    assert.equal(1, #reports)
    assert.equal("held", reports[1].error)
    assert.equal(task, reports[1].task)
    moonloop.sleep(20)
    assert.equal(1, #reports)
  end)

  it("is reported after loop.untaken_error_delay, which may be set", function()
    local _ <close> = testing.virtual_clock()
    local reports <close> = tasks.reports()
    local before = loop.untaken_error_delay
    loop.untaken_error_delay = 1
    finally(function() loop.untaken_error_delay = before end)
    assert.equal(5, before)
    local task = create_task(error, "held", 0)
    moonloop.sleep(1.1)
    assert.equal(1, #reports)
    assert.is_true(task:done())
  end)

  it("is reported when its run ends", function()
    local reports <close> = tasks.reports()
    local task
    moonloop.run(function()
      task = create_task(error, "in the run", 0)
      moonloop.sleep(0)
    end)
    assert.equal(1, #reports)
    assert.equal("in the run", reports[1].error)
    assert.is_true(task:done())
  end)

  it("is still raised to who takes it later", function()
    local _ <close> = testing.virtual_clock()
    local reports <close> = tasks.reports()
    local task = create_task(error, "late", 0)
    moonloop.sleep(6)
    assert.equal(1, #reports)
    assert.same({ false, "late" }, { tasks.outcome(task) })
  end)

  it("is not reported when somebody takes it, in any way", function()
    local _ <close> = testing.virtual_clock()
    local reports <close> = tasks.reports()
    local ways = {
      function(task) tasks.outcome(task) end,
      function(task) pcall(task.result, task) end,
      function(task) task:error() end,
      function(task) task:exception() end,
    }
    for _, take in ipairs(ways) do
      local task = create_task(error, "taken", 0)
      testing.wait_all_blocked()
      take(task)
    end
    moonloop.sleep(6)
    collect()
    assert.equal(0, #reports)
  end)

  it("is not reported when a done-callback sees the task", function()
    local _ <close> = testing.virtual_clock()
    local reports <close> = tasks.reports()
    local seen = 0
    create_task(error, "seen", 0):add_done_callback(function() seen = seen + 1 end)
    moonloop.sleep(6)
    collect()
    assert.equal(1, seen)
    assert.equal(0, #reports)
  end)

  it("is not reported when a task waited for it", function()
    local reports <close> = tasks.reports()
    local gate = moonloop.Future()
    local failing = tasks.start(function() error(gate:await(), 0) end)
    local waiter = tasks.start(function() return (pcall(await, failing)) end)
    gate:set_result("why")
    assert.is_false(await(waiter))
    failing, waiter = nil, nil -- luacheck: ignore 311
    collect()
    assert.equal(0, #reports)
  end)

  it("is reported with nil, strings, tables and Error objects alike", function()
    local reports <close> = tasks.reports()
    local object = moonloop.TimeoutError:new("object")
    for _, problem in ipairs { "string", { "table" }, object, 5 } do
      create_task(error, problem, 0)
    end
    create_task(error, nil)
    testing.wait_all_blocked()
    collect()
    assert.equal(5, #reports)
    assert.is_not_nil(report_of(reports, "string"))
    assert.is_not_nil(report_of(reports, object))
    assert.is_not_nil(report_of(reports, 5))
  end)

  it("is told on stderr with both places: where it failed and where it was made", function()
    local status, out, err = stock.lua([[
      local moonloop = require "moonloop"
      local function culprit() error("lost") end
      local function spawner()
        moonloop.create_task({name = "worker-7"}, function() moonloop.sleep(0) culprit() end)
      end
      moonloop.run(function()
        spawner()
        moonloop.sleep(0.001)
        print "main ends"
      end)
    ]])
    assert.equal(0, status)
    assert.equal("main ends\n", out)
    assert.matches("lost", err)
    assert.matches("worker%-7", err)
    assert.matches("culprit", err)
    assert.matches("created at stdin:4", err)
  end)
end)

describe("The exception handler itself", function()
  it("may fail: the loop goes on and both errors are told on stderr", function()
    local status, out, err = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        local loop = moonloop.get_running_loop()
        loop:set_exception_handler(function() error("handler broke", 0) end)
        moonloop.create_task(error, "task broke", 0)
        moonloop.sleep(0)
        collectgarbage() collectgarbage()
        moonloop.sleep(0)
        print "on"
      end)
    ]])
    assert.equal(0, status)
    assert.equal("on\n", out)
    assert.matches("handler broke", err)
    assert.matches("task broke", err)
  end)

  it("may make tasks and callbacks", function()
    local ran = false
    loop:set_exception_handler(function()
      create_task(function() ran = true end)
    end)
    loop:call_soon(error, "x")
    testing.wait_all_blocked()
    loop:set_exception_handler(nil)
    assert.is_true(ran)
  end)

  it("may call the default one, which writes to stderr", function()
    local _, out, err = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        local loop = moonloop.get_running_loop()
        loop:set_exception_handler(function(l, context)
          print("got", context.message)
          l:default_exception_handler(context)
        end)
        loop:call_exception_handler { message = "by hand", error = "why" }
        loop:default_exception_handler { message = "direct" }
      end)
    ]])
    assert.equal("got\tby hand\n", out)
    assert.matches("by hand.*why", err)
    assert.matches("direct", err)
  end)
end)

describe("An error inside __close", function()
  local function breaking(what)
    return setmetatable({}, { __close = function() error(what, 0) end })
  end

  it("fails a task whose body ended well", function()
    assert.equal("in close", tasks.failure(function()
      local _ <close> = breaking("in close")
      return "value"
    end))
  end)

  it("replaces the error that is under way, and the rest is closed", function()
    local list = {}
    assert.equal("second", tasks.failure(function()
      local _ <close> = tasks.mark(list, "outer")
      local _ <close> = breaking("second")
      error("first", 0)
    end))
    assert.same({ "outer" }, list)
  end)

  it("replaces a cancellation, whose task then has failed", function()
    local task = tasks.start(function()
      local _ <close> = breaking("instead")
      moonloop.sleep_forever()
    end)
    task:cancel()
    assert.same({ false, "instead" }, { tasks.outcome(task) })
    assert.is_false(task:cancelled())
  end)
end)

describe("An error inside __gc", function()
  it("is a warning of Lua's and leaves the tasks alone", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      warn "@on"
      local task = moonloop.create_task(function()
        setmetatable({}, {__gc = function() error("finalizer", 0) end})
        collectgarbage() collectgarbage()
        return moonloop.sleep(0, "fine")
      end)
      print(moonloop.await(task))
    ]])
    assert.equal(0, status)
    assert.equal("fine\n", out)
    assert.matches("finalizer", err)
  end)

  it("may cancel, set and make what it likes", function()
    local future = moonloop.Future()
    local sleeper = tasks.start(moonloop.sleep_forever)
    setmetatable({}, { __gc = function()
      sleeper:cancel()
      future:set_result(create_task(function() return "made" end))
    end })
    collect()
    local made = future:await()
    assert.equal("made", await(made))
    tasks.outcome(sleeper)
    assert.is_true(sleeper:cancelled())
  end)
end)

describe("An error inside a done-callback", function()
  it("is reported with the task's own error kept apart", function()
    local reports <close> = tasks.reports()
    local task = create_task(error, "task's own", 0)
    task:add_done_callback(function() error("callback's", 0) end)
    assert.same({ false, "task's own" }, { tasks.outcome(task) })
    testing.wait_all_blocked()
    assert.equal(1, #reports)
    assert.equal("callback's", reports[1].error)
  end)
end)

describe("A failing task", function()
  it("leaves its creator and its siblings alone", function()
    local reports <close> = tasks.reports()
    local sibling = create_task(moonloop.sleep, 0.001, "sibling")
    create_task(error, "alone", 0)
    assert.equal("sibling", await(sibling))
    collect()
    assert.equal(1, #reports)
  end)

  it("fails every time it is awaited", function()
    local task = create_task(error, "again", 0)
    for _ = 1, 3 do assert.same({ false, "again" }, { tasks.outcome(task) }) end
  end)

  it("that overflows the stack fails with that error", function()
    local function endless() return 1 + endless() end
    assert.matches("stack overflow", tostring(tasks.failure(endless)))
  end)

  it("that recurses in its error handling still ends", function()
    local err = tasks.failure(function()
      error(setmetatable({}, { __tostring = function() error("in tostring") end }))
    end)
    assert.is_table(err)
  end)

  it("is reported also when its error cannot be shown", function()
    local status, _, err = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        moonloop.create_task({name = "unshowable"}, function()
          error(setmetatable({}, {__tostring = function() error("in tostring") end}))
        end)
        moonloop.sleep(0)
      end)
    ]])
    assert.equal(0, status)
    assert.matches("unshowable", err)
  end)
end)
