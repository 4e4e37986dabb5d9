-- SPDX-License-Identifier: MIT
-- gather: values in order, the first failure, its two forms, return_exceptions,
-- its arguments.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local gather, create_task, await = moonloop.gather, moonloop.create_task, moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind, ready, collect, cleaning = tasks.kind, tasks.ready, tasks.collect, tasks.cleaning

local function returning(...)
  local values = table.pack(...)
  return function() return table.unpack(values, 1, values.n) end
end

-- Waits until its siblings wait too, then fails.
local function failing(err)
  return function()
    sleep(0)
    error(err, 0)
  end
end

describe("gather", function()
  it("returns one value per awaitable, in order", function()
    local task = create_task(returning("c", "more"))
    local callable = setmetatable({}, { __call = function() return "d" end })
    local got = table.pack(gather(returning("a", "more"), returning(), task, callable, ready("e")))
    assert.same({ "a", nil, "c", "d", "e", n = 5 }, got)
  end)

  it("keeps that order whichever ends first", function()
    local a, b, c = Future(), Future(), Future()
    local task = tasks.start(function() return gather(a, b, c) end)
    for _, future in ipairs { c, a, b } do
      assert.is_false(task:done())
      future:set_result(future == a and "a" or future == b and "b" or "c")
      testing.wait_all_blocked()
    end
    assert.same({ "a", "b", "c" }, { await(task) })
  end)

  it("gives a list when given one", function()
    local list = gather { returning("a", "more"), returning(), ready("c"), returning() }
    assert.same({ "a", nil, "c", nil, n = 4 }, list)
  end)

  it("of nothing returns nothing, and of an empty list an empty one", function()
    assert.equal(0, select("#", gather()))
    assert.same({ n = 0 }, gather {})
    assert.same({ n = 0 }, gather({}, { return_exceptions = true }))
  end)

  it("runs its functions at the same time, as tasks of their own", function()
    local here, there = Future(), Future()
    local a, b = gather(function()
      here:set_result(moonloop.current_task())
      return there:await()
    end, function()
      there:set_result(moonloop.current_task())
      return here:await()
    end)
    assert.not_equal(a, b)
    assert.not_equal(moonloop.current_task(), a)
    assert.not_equal(moonloop.current_task(), b)
  end)

  it("hands its caller's context down to its functions", function()
    local var = moonloop.ContextVar("var")
    local task = create_task(function()
      var:set("inherited")
      return gather(function() return var:get() end)
    end)
    assert.equal("inherited", await(task))
  end)

  it("takes one Future in several places", function()
    local future = Future()
    local task = tasks.start(function() return gather(future, future, returning("x")) end)
    future:set_result("twice")
    assert.same({ "twice", "twice", "x" }, { await(task) })
  end)

  it("of what is done returns without letting others run", function()
    local ended = create_task(returning("a"))
    await(ended)
    local task = create_task(function()
      local ran = false
      create_task(function() ran = true end)
      local a, b = gather(ended, ready("b"))
      return a, b, ran
    end)
    assert.same({ "a", "b", false }, { await(task) })
  end)

  it("says in words what its task waits for", function()
    local task = tasks.start(gather, Future(), Future(), Future())
    assert.equal("gather of 3", task:awaiting())
    assert.is_true(tasks.cancel(task))
  end)

  it("raises where no task runs, and runs nothing", function()
    local ran, err = false, nil
    loop:call_soon(function()
      err = select(2, pcall(gather, function() ran = true end))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
    assert.is_false(ran)
  end)
end)

describe("A failure in gather", function()
  it("is raised as it is after the others were cancelled and have ended", function()
    for _, problem in ipairs { "text", { "table" }, moonloop.OSError:new("x") } do
      local gate, list = Future(), {}
      local task = tasks.start(gather, cleaning(gate, list), failing(problem))
      assert.is_false(task:done())
      assert.same({}, list)
      gate:set_result()
      local ok, err = tasks.outcome(task)
      assert.is_false(ok)
      assert.equal(problem, err)
      assert.same({ "cleaned" }, list)
    end
  end)

  it("may be nil", function()
    local future = Future()
    assert.same({ false, nil, n = 2 }, table.pack(pcall(gather, future, failing(nil))))
    assert.is_true(future:cancelled())
  end)

  it("cancels Futures and Tasks that were passed in", function()
    local future, task = Future(), create_task(sleep_forever)
    assert.same({ false, "first" }, { pcall(gather, future, task, failing("first")) })
    assert.is_true(future:cancelled())
    assert.is_true(task:cancelled())
  end)

  it("is the first in time, wherever it stands", function()
    local a, b = Future(), Future()
    local task = tasks.start(gather, tasks.start(a.await, a), tasks.start(b.await, b))
    b:set_error("b")
    a:set_error("a")
    assert.same({ false, "b" }, { tasks.outcome(task) })
  end)

  it("may have been there before", function()
    local failed = Future()
    failed:set_error("before")
    local future = Future()
    assert.same({ false, "before" }, { pcall(gather, future, failed, sleep_forever) })
    assert.is_true(future:cancelled())
  end)

  it("may be the cancellation of one of them, which leaves the caller free", function()
    local one, other = create_task(sleep_forever), Future()
    local task = tasks.start(function()
      local kind_of_it = kind(gather, one, other)
      return kind_of_it, sleep(0, "free")
    end)
    one:cancel()
    assert.same({ "CancelledError", "free" }, { await(task) })
    assert.is_true(other:cancelled())
  end)

  it("stays when the caller is cancelled while the others clean up", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      local _, err = pcall(gather, cleaning(gate, list), failing("first"))
      return err, kind(sleep, 0)
    end)
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result()
    assert.same({ "first", "CancelledError" }, { await(task) })
  end)

  it("hides those that came before the others were cancelled", function()
    collect()
    local reports <close> = tasks.reports()
    local function provoke()
      return pcall(gather, failing("first"), failing("second"), failing("third"))
    end
    assert.same({ false, "first" }, { provoke() })
    collect()
    assert.same({}, { table.unpack(reports) })
  end)

  it("does not hide those of the clean-up that it causes", function()
    collect()
    local reports <close> = tasks.reports()
    local function provoke()
      return pcall(gather, failing("first"), function()
        local _ <close> = moonloop.defer(function() error("in the clean-up", 0) end)
        sleep_forever()
      end)
    end
    assert.same({ false, "first" }, { provoke() })
    collect()
    assert.equal(1, #reports)
    assert.equal("in the clean-up", reports[1].error)
  end)
end)

describe("gather with return_exceptions", function()
  local flag = { return_exceptions = true }

  it("puts errors in their places, in either form", function()
    local problem = moonloop.OSError:new("x")
    for _, call in ipairs {
      function() return gather({ returning("a"), failing(problem), ready("c") }, flag) end,
      function()
        return gather { returning("a"), failing(problem), ready("c"), return_exceptions = true }
      end,
    } do
      local list = call()
      assert.equal(3, list.n)
      assert.equal("a", list[1])
      assert.equal(problem, list[2])
      assert.equal("c", list[3])
    end
  end)

  it("wraps what is no Error object in an Error with value", function()
    local problem = { "table" }
    local list = gather({ failing("text"), failing(problem), failing(nil) }, flag)
    assert.equal(3, list.n)
    for i, value in pairs { "text", problem } do
      assert.is_true(moonloop.is_error(list[i]))
      assert.equal("Error", list[i].kind)
      assert.equal(value, list[i].value)
    end
    assert.equal("Error", list[3].kind)
    assert.is_nil(list[3].value)
  end)

  it("lets the others go on, and puts a CancelledError for a cancelled one", function()
    local gate, cancelled = Future(), create_task(sleep_forever)
    local task = tasks.start(gather, { cancelled, failing("x"), gate }, flag)
    cancelled:cancel("because")
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result("on")
    local list = await(task)
    assert.is_true(moonloop.is_error(list[1], "CancelledError"))
    assert.equal("because", list[1].message)
    assert.equal("x", list[2].value)
    assert.equal("on", list[3])
  end)

  it("still raises the caller's own cancellation, and cancels all", function()
    local future = Future()
    local task = tasks.start(gather, { future, sleep_forever }, flag)
    assert.is_true(tasks.cancel(task))
    assert.is_true(future:cancelled())
  end)

  it("takes the errors, so that none is reported", function()
    collect()
    local reports <close> = tasks.reports()
    local function provoke() return gather({ failing("a"), failing("b") }, flag).n end
    assert.equal(2, provoke())
    tasks.cancel(tasks.start(gather, { failing("c"), sleep_forever }, flag))
    collect()
    assert.same({}, { table.unpack(reports) })
  end)
end)

describe("gather's arguments", function()
  local function ends() end
  local function message(...)
    local before = #moonloop.all_tasks()
    local ok, err = pcall(gather, ...)
    assert.is_false(ok)
    assert.is_string(err)
    assert.equal(before, #moonloop.all_tasks())
    return err
  end
  local expected = "Future, Task or function expected, got "

  it("are named by their position, before any task is made", function()
    assert.matches("bad argument #1 to 'gather'", message(5), 1, true)
    assert.matches("bad argument #2 to 'gather' (" .. expected .. "number)",
      message(ends, 5), 1, true)
    assert.matches("bad argument #3 to 'gather' (" .. expected .. "string)",
      message(ends, Future(), "x"), 1, true)
    assert.matches("bad argument #2 to 'gather' %(.*expected, got n",
      message(ends, nil))
  end)

  it("are named by the element in a list", function()
    assert.matches("bad argument #1 to 'gather' (element 3: " .. expected .. "nil)",
      message { ends, Future(), nil, ends }, 1, true)
    assert.matches("bad argument #1 to 'gather' (element 1: " .. expected .. "number)",
      message { 5, ends }, 1, true)
    assert.matches("bad argument #1 to 'gather' (element 2: " .. expected .. "table)",
      message { ends, {} }, 1, true)
  end)

  it("may be no other option than return_exceptions", function()
    assert.matches("bad argument #2 to 'gather'.*retrun_exceptions.*return_exceptions",
      message({ ends }, { retrun_exceptions = true }))
    assert.matches("bad argument #1 to 'gather'.*retrun_exceptions.*return_exceptions",
      message { ends, retrun_exceptions = true })
    assert.matches("bad argument #2 to 'gather'.*'return_exceptions'.*boolean expected, got number",
      message({ ends }, { return_exceptions = 1 }))
    assert.matches("bad argument #2 to 'gather'", message({ ends }, 5), 1, true)
  end)

  it("leave Futures alone when one of them is bad", function()
    local future = Future()
    message(future, 5)
    assert.is_false(future:done())
  end)
end)
