-- SPDX-License-Identifier: MIT
-- wait: what it hands back and when, that it neither cancels nor takes anything,
-- its timeout, its cancellation, both at once with a result.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local wait, create_task, await = moonloop.wait, moonloop.create_task, moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local FIRST = { return_when = "FIRST_COMPLETED" }
local EXCEPTION = { return_when = "FIRST_EXCEPTION" }
local ALL = { return_when = "ALL_COMPLETED" }
local POLL = { timeout = 0 }

local kind, ready, collect = tasks.kind, tasks.ready, tasks.collect

-- Whether both lists hold the very same values in the same order.
local function same_objects(expected, list)
  assert.equal(#expected, #list)
  for i, value in ipairs(expected) do assert.is_true(rawequal(value, list[i])) end
end

-- What `wait` answers in a task made now: what to await for {done, pending}.
local function started(...)
  return tasks.start(function(...) return { wait(...) } end, ...)
end

local function answers(task, done, pending)
  local answer = await(task)
  same_objects(done, answer[1])
  same_objects(pending, answer[2])
end

local function end_all(list)
  for _, task in ipairs(list) do
    task:cancel()
    tasks.outcome(task)
  end
end

describe("wait", function()
  it("waits for all unless told otherwise", function()
    for _, opts in ipairs { {}, ALL } do
      local a, b = Future(), Future()
      local task = started({ a, b }, opts)
      b:set_result()
      testing.wait_all_blocked()
      assert.is_false(task:done())
      a:set_result()
      answers(task, { a, b }, {})
    end
    local a = Future()
    local task = started { a }
    a:set_result()
    answers(task, { a }, {})
  end)

  it("waits for the first, and hands the rest back untouched", function()
    local a, b, c = Future(), Future(), Future()
    local task = started({ a, b, c }, FIRST)
    b:set_result("v")
    answers(task, { b }, { a, c })
    assert.is_false(a:done() or c:done())
  end)

  it("hands back all that are done by then, in given order", function()
    local a, b, c = Future(), Future(), Future()
    local task = started({ a, b, c }, FIRST)
    c:set_result()
    a:set_result()
    answers(task, { a, c }, { b })
    same_objects({ a, c }, (wait({ a, b, c }, FIRST)))
  end)

  it("waits for the first error", function()
    local a, b, c = Future(), Future(), Future()
    local task = started({ a, b, c }, EXCEPTION)
    a:set_result()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    c:set_error("e")
    answers(task, { a, c }, { b })
  end)

  it("waits for all where none fails, and a cancelled one is no error", function()
    local a, b = create_task(sleep_forever), Future()
    local task = started({ a, b }, EXCEPTION)
    assert.is_true(tasks.cancel(a))
    testing.wait_all_blocked()
    assert.is_false(task:done())
    b:set_result()
    answers(task, { a, b }, {})
  end)

  it("makes tasks of functions and hands those back", function()
    local callable = setmetatable({}, { __call = function() return "c" end })
    local future = Future()
    local done, pending = wait({ function() return "a", "b" end, future, callable, sleep_forever },
      { return_when = "FIRST_COMPLETED" })
    assert.equal(2, #done)
    assert.same({ "a", "b" }, { done[1]:result() })
    assert.same({ "c" }, { done[2]:result() })
    assert.equal(future, pending[1])
    assert.is_false(pending[2]:done())
    end_all { pending[2] }
  end)

  it("of what is done returns without letting others run", function()
    for _, opts in ipairs { FIRST, EXCEPTION, ALL, POLL } do
      local task = create_task(function()
        local ran = false
        create_task(function() ran = true end)
        local done, pending = wait({ ready("v") }, opts)
        return #done, #pending, ran
      end)
      assert.same({ 1, 0, false }, { await(task) })
    end
  end)

  it("raises no error of theirs and takes none", function()
    collect()
    local reports <close> = tasks.reports()
    local function provoke() return #wait { function() error("failure", 0) end } end
    assert.equal(1, provoke())
    collect()
    assert.equal(1, #reports)
    assert.equal("failure", reports[1].error)
  end)

  it("says in words what its task waits for", function()
    local task = tasks.start(wait, { Future(), Future() })
    assert.equal("wait of 2", task:awaiting())
    tasks.cancel(task)
  end)

  it("raises where no task runs", function()
    local err
    loop:call_soon(function() err = select(2, pcall(wait, { ready() })) end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("wait's timeout", function()
  it("ends the wait, cancelling nothing", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local a, b = create_task(sleep_forever), create_task(sleep, 5)
    local before = moonloop.time()
    local done, pending = wait({ a, b }, { timeout = 10 })
    assert.equal(before + 10, moonloop.time())
    same_objects({ b }, done)
    same_objects({ a }, pending)
    assert.is_false(a:done())
    end_all { a }
  end)

  it("of 0 or less polls", function()
    local future = Future()
    for _, seconds in ipairs { 0, -1, -math.huge } do
      local done, pending = wait({ future, ready() }, { timeout = seconds })
      assert.equal(1, #done)
      same_objects({ future }, pending)
    end
  end)

  it("without end is none", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local task = create_task(sleep, 1e6)
    local done = wait({ task }, { timeout = math.huge })
    same_objects({ task }, done)
  end)

  it("of the time of a result obeys their order", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local first, second = Future(), Future()
    loop:call_later(1, function() first:set_result() end)
    local done, pending = wait({ first }, { timeout = 1 })
    same_objects({ first }, done)
    same_objects({}, pending)
    local task = create_task(function()
      done, pending = wait({ second }, { timeout = 1 })
      return second:done() and #done or #pending
    end)
    sleep(0)
    loop:call_later(1, function() second:set_result() end)
    assert.equal(1, await(task))
    assert.equal(1, #done + #pending)
    await(second)
  end)
end)

describe("A cancelled wait", function()
  it("raises CancelledError and leaves all alone", function()
    local future, child = Future(), create_task(sleep_forever)
    local task = tasks.start(wait, { future, child })
    task:cancel("because")
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.is_false(future:done())
    assert.is_false(child:done())
    assert.equal(0, child:cancelling())
    end_all { child }
  end)

  it("is out of time in an outer timeout", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local future = Future()
    local task = create_task(function()
      local _ <close> = moonloop.timeout(1)
      wait({ future }, { timeout = 2 })
    end)
    assert.equal("TimeoutError", kind(await, task))
    assert.is_false(future:done())
  end)

  it("raises in a scope that is cancelled already, and runs nothing", function()
    local kinds, ran
    local task = tasks.start(function()
      pcall(sleep_forever)
      kinds = { kind(wait, { ready() }), kind(wait, { ready() }, POLL),
        kind(wait, { function() ran = true end, ready() }, FIRST) }
    end)
    task:cancel()
    tasks.outcome(task)
    assert.same({ "CancelledError", "CancelledError", "CancelledError" }, kinds)
    testing.wait_all_blocked()
    assert.is_nil(ran)
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.wait({ moonloop.Future() }, { timeout = 60 })")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("wait whose result and cancellation come in one turn", function()
  -- Does `act(future, task)` to a wait for a future; what the wait answered and
  -- what the await after it raised.
  local function raced(opts, act)
    local future, list = Future(), {}
    local task = tasks.start(function()
      list[1] = #wait({ future }, opts)
      list[2] = kind(sleep, 0)
    end)
    act(future, task)
    tasks.outcome(task)
    return list, future, task
  end

  it("returns where the result came first, the cancellation follows", function()
    for _, opts in ipairs { FIRST, ALL, EXCEPTION } do
      local list = raced(opts, function(future, task)
        future:set_result()
        task:cancel()
      end)
      assert.same({ 1, "CancelledError" }, list)
    end
  end)

  it("returns where an error came first, the cancellation follows", function()
    local list = raced(EXCEPTION, function(future, task)
      future:set_error("e")
      task:cancel()
    end)
    assert.same({ 1, "CancelledError" }, list)
  end)

  it("raises where the cancellation came first, the result stays where it is", function()
    local list, future, task = raced(ALL, function(future, task)
      task:cancel()
      future:set_result("item")
    end)
    assert.same({}, list)
    assert.is_true(task:cancelled())
    assert.equal("item", future:result())
  end)
end)

describe("What several waits wait for", function()
  it("ends them all when it ends, however it ends", function()
    for _, ending in ipairs { "set_result", "set_error", "cancel" } do
      local future = Future()
      local waits = {}
      for i, opts in ipairs { FIRST, ALL, EXCEPTION } do waits[i] = started({ future }, opts) end
      future[ending](future, "x")
      for _, task in ipairs(waits) do answers(task, { future }, {}) end
    end
  end)

  it("is not touched by one that was cancelled", function()
    local future = Future()
    local a, b = started { future }, started { future }
    tasks.cancel(a)
    future:set_result()
    answers(b, { future }, {})
  end)

  it("keeps nothing of the waits that ended", function()
    local future = Future()
    local function poll(times)
      for _ = 1, times do wait({ future, ready() }, FIRST) end
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = poll(100)
    assert.is_true(poll(10000) - before < 100)
  end)
end)

describe("wait for ten thousand", function()
  local N = 10000

  it("hands back all of them in given order", function()
    local list = {}
    for i = 1, N do list[i] = function() return i end end
    local done, pending = wait(list)
    assert.equal(N, #done)
    assert.equal(0, #pending)
    for i = 1, N do
      if done[i]:result() ~= i then assert.equal(i, done[i]:result()) end
    end
  end)

  it("finds the one that is done", function()
    local list = {}
    for i = 1, N do list[i] = Future() end
    local task = started(list, FIRST)
    list[N - 1]:set_result()
    local answer = await(task)
    same_objects({ list[N - 1] }, answer[1])
    assert.equal(N - 1, #answer[2])
    assert.equal(list[N], answer[2][N - 1])
  end)
end)

describe("wait's arguments", function()
  local function ends() end
  local function message(...)
    local before = #moonloop.all_tasks()
    local ok, err = pcall(wait, ...)
    assert.is_false(ok)
    assert.is_string(err)
    assert.equal(before, #moonloop.all_tasks())
    return err
  end

  it("are a list that is not empty", function()
    assert.matches("bad argument #1 to 'wait'", message {}, 1, true)
    assert.matches("bad argument #1 to 'wait' %(.*expected, got number", message(5))
    assert.matches("bad argument #1 to 'wait'", message(), 1, true)
    assert.matches("bad argument #1 to 'wait'", message(Future()), 1, true)
  end)

  it("are named by the element, before any task is made", function()
    local expected = "Future, Task or function expected, got "
    assert.matches("bad argument #1 to 'wait' (element 2: " .. expected .. "number)",
      message { ends, 5 }, 1, true)
    assert.matches("bad argument #1 to 'wait' (element 2: " .. expected .. "nil)",
      message { ends, nil, ends }, 1, true)
  end)

  it("have options of their own", function()
    local list = { ends }
    assert.matches("bad argument #2 to 'wait'.*retrun_when.*return_when",
      message(list, { retrun_when = "ALL_COMPLETED" }))
    assert.matches("bad argument #2 to 'wait'.*return_when.*FIRST_COMPLETED",
      message(list, { return_when = "FIRST" }))
    assert.matches("bad argument #2 to 'wait'.*'timeout'.*number expected, got string",
      message(list, { timeout = "soon" }))
    assert.matches("bad argument #2 to 'wait'", message(list, { timeout = 0 / 0 }), 1, true)
    assert.matches("bad argument #2 to 'wait'.*table expected, got string", message(list, "ALL"))
  end)
end)
