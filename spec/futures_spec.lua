-- SPDX-License-Identifier: MIT
-- Futures: setting, taking, cancelling, callbacks, waiting.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local Future = moonloop.Future

local function kind_of(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return moonloop.is_error(err) and err.kind or err
end

describe("Future", function()
  it("is not done when it is new", function()
    local future = Future()
    assert.is_false(future:done())
    assert.is_false(future:cancelled())
    assert.is_true(moonloop.isfuture(future))
  end)

  it("keeps any number of values", function()
    for _, values in ipairs { table.pack(), table.pack(nil), table.pack(1, nil, 3, nil) } do
      local future = Future()
      future:set_result(table.unpack(values, 1, values.n))
      assert.is_true(future:done())
      assert.same(values, table.pack(future:result()))
      assert.same(values, table.pack(future:await()))
    end
  end)

  it("keeps an error of any type, by either name", function()
    for _, setter in ipairs { "set_error", "set_exception" } do
      for _, problem in ipairs { "text", { "table" }, moonloop.TimeoutError:new("x"), 5 } do
        local future = Future()
        future[setter](future, problem)
        assert.is_true(future:done())
        assert.is_false(future:cancelled())
        local ok, err = pcall(future.result, future)
        assert.is_false(ok)
        assert.equal(problem, err)
        assert.equal(problem, future:error())
        assert.equal(problem, future:exception())
      end
    end
  end)

  it("has no error when it has a result", function()
    local future = Future()
    future:set_result("v")
    assert.is_nil(future:error())
  end)

  it("raises InvalidStateError where the result is not there yet", function()
    local future = Future()
    assert.equal("InvalidStateError", kind_of(future.result, future))
    assert.equal("InvalidStateError", kind_of(future.error, future))
  end)

  it("raises InvalidStateError when it is set twice", function()
    local set, failed, cancelled = Future(), Future(), Future()
    set:set_result(1)
    failed:set_error("e")
    cancelled:cancel()
    for _, future in ipairs { set, failed, cancelled } do
      assert.equal("InvalidStateError", kind_of(future.set_result, future, 2))
      assert.equal("InvalidStateError", kind_of(future.set_error, future, "x"))
    end
    assert.equal(1, set:result())
    assert.equal("e", failed:error())
  end)

  it("says its state in tostring", function()
    local pending, done = Future(), Future()
    done:set_result(1)
    assert.matches("Future", tostring(pending))
    assert.not_equal(tostring(pending):gsub("0x%x+", ""), (tostring(done):gsub("0x%x+", "")))
  end)
end)

describe("A future's cancel", function()
  it("answers whether it cancelled", function()
    local future = Future()
    assert.is_true(future:cancel())
    assert.is_true(future:cancelled())
    assert.is_true(future:done())
    assert.is_false(future:cancel())
    local done = Future()
    done:set_result()
    assert.is_false(done:cancel())
    assert.is_false(done:cancelled())
  end)

  it("makes result, error and await raise CancelledError with the message", function()
    local future = Future()
    future:cancel("enough")
    for _, take in ipairs { future.result, future.error, future.await } do
      local ok, err = pcall(take, future)
      assert.is_false(ok)
      assert.equal("CancelledError", err.kind)
      assert.equal("enough", err.message)
    end
  end)

  it("wakes its waiters with CancelledError", function()
    local future = Future()
    local waiter = tasks.start(function()
      local ok, err = pcall(future.await, future)
      return ok, err.kind
    end)
    future:cancel()
    assert.same({ false, "CancelledError" }, { moonloop.await(waiter) })
  end)
end)

describe("A done-callback", function()
  it("is run by the loop, never inside the setter", function()
    local future, got = Future(), nil
    future:add_done_callback(function(...) got = table.pack(...) end)
    future:set_result(1)
    assert.is_nil(got)
    testing.wait_all_blocked()
    assert.same({ future, n = 1 }, got)
  end)

  it("is run by the loop also when the future is done already", function()
    local future, ran = Future(), false
    future:set_result(1)
    future:add_done_callback(function() ran = true end)
    assert.is_false(ran)
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("runs after results, errors and cancellations, in the order added", function()
    for _, set in ipairs { "set_result", "set_error", "cancel" } do
      local future, list = Future(), {}
      for i = 1, 3 do future:add_done_callback(function() list[#list + 1] = i end) end
      future[set](future, "x")
      testing.wait_all_blocked()
      assert.same({ 1, 2, 3 }, list)
    end
  end)

  it("is removed as often as it was added", function()
    local future, count = Future(), 0
    local function callback() count = count + 1 end
    future:add_done_callback(callback)
    future:add_done_callback(callback)
    assert.equal(2, future:remove_done_callback(callback))
    assert.equal(0, future:remove_done_callback(callback))
    future:set_result()
    testing.wait_all_blocked()
    assert.equal(0, count)
  end)

  it("that raises is reported, and the others run", function()
    local reports <close> = tasks.reports()
    local future, ran = Future(), false
    future:add_done_callback(function() error("in callback", 0) end)
    future:add_done_callback(function() ran = true end)
    future:set_result()
    testing.wait_all_blocked()
    assert.is_true(ran)
    assert.equal(1, #reports)
    assert.equal("in callback", reports[1].error)
  end)

  it("may set other futures", function()
    local first, second = Future(), Future()
    first:add_done_callback(function(f) second:set_result(f:result() .. "!") end)
    first:set_result("chained")
    assert.equal("chained!", second:await())
  end)
end)

describe("Awaiting a future", function()
  it("returns at once what is ready", function()
    local future = Future()
    future:set_result("a", "b")
    assert.same({ "a", "b" }, { future:await() })
    assert.same({ "a", "b" }, { moonloop.await(future) })
  end)

  it("returns what comes later, to every waiter in order", function()
    local future, list = Future(), {}
    for i = 1, 5 do
      tasks.start(function()
        local value = future:await()
        list[#list + 1] = value .. i
      end)
    end
    future:set_result("v")
    assert.same({}, list)
    testing.wait_all_blocked()
    assert.same({ "v1", "v2", "v3", "v4", "v5" }, list)
  end)

  it("raises the error to every waiter", function()
    local future, problem = Future(), { "problem" }
    local first = tasks.start(future.await, future)
    local second = tasks.start(moonloop.await, future)
    future:set_error(problem)
    for _, task in ipairs { first, second } do
      local ok, err = tasks.outcome(task)
      assert.is_false(ok)
      assert.equal(problem, err)
    end
  end)

  it("raises an error that is nil", function()
    local future = Future()
    local task = tasks.start(future.await, future)
    future:set_error(nil)
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.is_nil(err)
  end)

  it("is cancelled while it waits and leaves the future untouched", function()
    local future = Future()
    local task = tasks.start(future.await, future)
    assert.is_true(tasks.cancel(task))
    assert.is_false(future:done())
    future:set_result("still")
    assert.equal("still", future:await())
  end)

  it("leaves the other waiters waiting when one is cancelled", function()
    local future = Future()
    local waiters = {}
    for i = 1, 3 do waiters[i] = tasks.start(future.await, future) end
    tasks.cancel(waiters[2])
    future:set_result("v")
    assert.equal("v", moonloop.await(waiters[1]))
    assert.equal("v", moonloop.await(waiters[3]))
  end)

  it("is closed while it waits", function()
    for _, code in ipairs { "moonloop.Future():await()", "moonloop.await(moonloop.Future())" } do
      local status, out = stock.closed(code)
      assert.equal(stock.closed_output, out)
      assert.equal(0, status)
    end
  end)

  it("gets a result that was there before the cancellation came", function()
    local future, list = Future(), {}
    local task = tasks.start(function()
      list[1] = future:await()
      list[2] = select(2, pcall(moonloop.sleep, 0)).kind
      return "done"
    end)
    future:set_result("first")
    assert.is_true(task:cancel())
    assert.equal("done", moonloop.await(task))
    assert.same({ "first", "CancelledError" }, list)
  end)

  it("gets the cancellation when that came first", function()
    local future, kind = Future(), nil
    local task = tasks.start(function()
      kind = select(2, pcall(future.await, future)).kind
    end)
    task:cancel()
    future:set_result("late")
    tasks.outcome(task)
    assert.equal("CancelledError", kind)
    assert.equal("late", future:result())
  end)

  it("says in words that it waits for a future", function()
    local future = Future()
    local task = tasks.start(future.await, future)
    assert.matches("future", task:awaiting():lower())
    future:set_result()
    moonloop.await(task)
  end)

  it("wakes waiters whose future is held by nobody else", function()
    local future = Future()
    local task = tasks.start(future.await, future)
    moonloop.get_running_loop():call_soon(future.set_result, future, "v")
    future = nil -- luacheck: ignore 311
    collectgarbage()
    assert.equal("v", moonloop.await(task))
  end)
end)

describe("moonloop.await", function()
  it("makes a function a task and gives its values", function()
    local main = moonloop.current_task()
    local values = table.pack(moonloop.await(function()
      return moonloop.current_task() ~= main, nil, moonloop.sleep(0, "v")
    end))
    assert.same({ true, nil, "v", n = 3 }, values)
  end)

  it("raises the error of the function as it is", function()
    local problem = {}
    local ok, err = pcall(moonloop.await, function() error(problem) end)
    assert.is_false(ok)
    assert.equal(problem, err)
  end)

  it("cancelled, cancels the task made from a function and waits for it", function()
    local list = {}
    local task = tasks.start(function()
      local _ <close> = tasks.mark(list, "outer")
      moonloop.await(function()
        local _ <close> = moonloop.defer(function()
          moonloop.sleep(0.001)
          list[#list + 1] = "inner"
        end)
        moonloop.sleep_forever()
      end)
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "inner", "outer" }, list)
  end)

  it("is closed while it waits for a function", function()
    local status, out = stock.closed("moonloop.await(function() moonloop.sleep_forever() end)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("ensure_future", function()
  it("returns a future or a task as it is", function()
    local future = Future()
    assert.equal(future, moonloop.ensure_future(future))
    local task = moonloop.create_task(function() end)
    assert.equal(task, moonloop.ensure_future(task))
    moonloop.await(task)
  end)

  it("makes a function a task", function()
    local task = moonloop.ensure_future(function() return "v" end)
    assert.is_true(moonloop.isfuture(task))
    assert.equal("v", moonloop.await(task))
  end)
end)

describe("isfuture", function()
  it("answers true for futures and tasks alone", function()
    assert.is_true(moonloop.isfuture(moonloop.current_task()))
    for _, value in ipairs { 1, "x", {}, print, moonloop.Error, moonloop.copy_context() } do
      assert.is_false(moonloop.isfuture(value))
    end
    assert.is_false(moonloop.isfuture(nil))
  end)
end)

describe("Future.cancel", function()
  it("cancels a Task that it is given as a Task", function()
    local task = tasks.start(moonloop.sleep_forever)
    assert.is_true(moonloop.Future().cancel(task))
    assert.equal(1, task:cancelling())
    assert.is_false(tasks.outcome(task))
    assert.is_true(task:cancelled())
  end)
end)
