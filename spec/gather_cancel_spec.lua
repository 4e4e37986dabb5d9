-- SPDX-License-Identifier: MIT
-- gather cancelled, out of time, closed, cancelled in the turn of its result,
-- with others that wait for the same, and with ten thousand awaitables.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local gather, create_task, await = moonloop.gather, moonloop.create_task, moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind, ready, cleaning = tasks.kind, tasks.ready, tasks.cleaning

-- A gather of `aw` in a task that notes what it got and what the next await does.
local function noting(list, aw)
  return tasks.start(function()
    list[1] = gather(aw)
    list[2] = kind(sleep, 0)
  end)
end

-- Sets `gate` at a time of the clock, by a timer made now.
local function set_at(when, gate, value)
  loop:call_at(when, function()
    if not gate:done() then gate:set_result(value) end
  end)
end

describe("A cancelled gather", function()
  it("raises CancelledError with the message after all were cancelled and have ended", function()
    local gate, list = Future(), {}
    local task = tasks.start(gather, cleaning(gate, list), cleaning(gate, list))
    task:cancel("because")
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result()
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.same({ "cleaned", "cleaned" }, list)
  end)

  it("cancels Futures and Tasks that were passed in", function()
    local future, child, done = Future(), create_task(sleep_forever), ready("v")
    local task = tasks.start(gather, { future, child, done })
    assert.is_true(tasks.cancel(task))
    assert.is_true(future:cancelled())
    assert.is_true(child:cancelled())
    assert.equal("v", done:result())
  end)

  it("goes on waiting for their clean-up when it is cancelled again", function()
    local gate, list = Future(), {}
    local task = tasks.start(gather, cleaning(gate, list))
    for _ = 1, 3 do
      task:cancel()
      testing.wait_all_blocked()
      assert.is_false(task:done())
    end
    gate:set_result()
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.same({ "cleaned" }, list)
  end)

  it("raises also when one of them answers with a value of its own", function()
    local child = create_task(function()
      pcall(sleep_forever)
      return "survived"
    end)
    local task = tasks.start(gather, child, sleep_forever)
    assert.is_true(tasks.cancel(task))
    assert.equal("survived", child:result())
  end)

  it("cancels gathers inside gathers", function()
    local future, ended = Future(), 0
    local function nest(depth)
      if depth == 0 then return future:await() end
      local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
      return gather(function() return nest(depth - 1) end)
    end
    local task = tasks.start(nest, 10)
    assert.is_true(tasks.cancel(task))
    assert.equal(10, ended)
    assert.is_false(future:done())
  end)

  it("leaves no task behind", function()
    local before = #moonloop.all_tasks()
    tasks.cancel(tasks.start(gather, sleep_forever, function() sleep(1000) end))
    assert.equal(before, #moonloop.all_tasks())
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.gather(moonloop.Future(), moonloop.Future())")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("gather in a scope that is cancelled already", function()
  -- What `fn` raises in a task that has been cancelled.
  local function cancelled(fn)
    local got
    local task = tasks.start(function()
      pcall(sleep_forever)
      got = kind(fn)
    end)
    task:cancel()
    tasks.outcome(task)
    return got
  end

  it("raises although all is done", function()
    assert.equal("CancelledError", cancelled(function() gather(ready("v")) end))
    assert.equal("CancelledError", cancelled(function() gather { ready("v") } end))
    assert.equal("CancelledError", cancelled(function()
      gather({ ready("v") }, { return_exceptions = true })
    end))
  end)

  it("runs no function", function()
    local ran = false
    assert.equal("CancelledError", cancelled(function()
      gather(function() ran = true end)
    end))
    testing.wait_all_blocked()
    assert.is_false(ran)
  end)

  it("raises also for nothing", function()
    assert.equal("CancelledError", cancelled(function() gather() end))
  end)
end)

describe("gather under a deadline", function()
  it("is out of time after all were cancelled and have ended", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list = {}
    local function child()
      local _ <close> = moonloop.defer(function()
        sleep(10)
        list[#list + 1] = "cleaned"
      end)
      sleep_forever()
    end
    local task = create_task(function()
      local _ <close> = moonloop.timeout(1)
      gather(child, child)
    end)
    local _, err = tasks.outcome(task)
    assert.equal("TimeoutError", err.kind)
    assert.same({ "cleaned", "cleaned" }, list)
  end)

  it("may be met by one of its functions, which is a failure of that one", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local future = Future()
    local _, err = pcall(gather, future, function()
      local _ <close> = moonloop.timeout(1)
      sleep_forever()
    end)
    assert.equal("TimeoutError", err.kind)
    assert.is_true(future:cancelled())
    sleep(0)
  end)
end)

describe("gather whose result and cancellation come in one turn", function()
  it("returns a result that came first, the cancellation follows", function()
    local gate, list = Future(), {}
    local task = noting(list, gate)
    gate:set_result("item")
    task:cancel()
    tasks.outcome(task)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("returns it also when the end of the last one brought the cancellation", function()
    local gate, list = Future(), {}
    local child = tasks.start(gate.await, gate)
    local task = noting(list, child)
    child:add_done_callback(function() task:cancel() end)
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("raises a failure that came first, the cancellation follows", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      list[1] = select(2, pcall(gather, gate))
      list[2] = kind(sleep, 0)
    end)
    gate:set_error("failure")
    task:cancel()
    tasks.outcome(task)
    assert.same({ "failure", "CancelledError" }, list)
  end)

  it("raises a cancellation that came first, the result stays where it is", function()
    local gate, list = Future(), {}
    local child = tasks.start(gate.await, gate)
    local task = noting(list, child)
    task:cancel()
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({}, list)
    assert.is_true(task:cancelled())
    assert.equal("item", child:result())
  end)

  it("returns what only its own functions have, the cancellation follows", function()
    for _, first in ipairs { "put", "cancel" } do
      local queue, list = moonloop.Queue(), {}
      local task = noting(list, function() return queue:get() end)
      if first == "cancel" then task:cancel() end
      queue:put_nowait("item") -- handed over to the function, not to its gather
      task:cancel()
      tasks.outcome(task)
      assert.same({ "item", "CancelledError" }, list)
    end
  end)

  it("obeys the order of a deadline and a result of the same time", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when, list = moonloop.time() + 1, {}
    local first, second = Future(), Future()
    set_at(when, first, "item")
    local early = noting(list, function()
      local _ <close> = moonloop.timeout_at(when)
      return gather(first)
    end)
    await(early)
    assert.same({ "item", false }, list)
    local late = create_task(function()
      local _ <close> = moonloop.timeout_at(when + 1)
      set_at(when + 1, second, "item")
      gather(second)
    end)
    local _, err = tasks.outcome(late)
    assert.equal("TimeoutError", err.kind)
  end)
end)

describe("What several gathers wait for", function()
  it("fails them all when it fails", function()
    local gate = Future()
    local child = tasks.start(gate.await, gate)
    local a, b = tasks.start(gather, child, Future()), tasks.start(gather, child)
    gate:set_error("failure")
    assert.same({ false, "failure" }, { tasks.outcome(a) })
    assert.same({ false, "failure" }, { tasks.outcome(b) })
  end)

  it("is cancelled with one of them, which the others see", function()
    local child = create_task(sleep_forever)
    local other = Future()
    local a, b = tasks.start(gather, child), tasks.start(gather, other, child)
    a:cancel()
    tasks.outcome(a)
    tasks.outcome(b)
    assert.is_true(child:cancelled())
    assert.is_true(b:cancelled())
    assert.is_true(other:cancelled())
  end)
end)

describe("A chain of gathers", function()
  it("passes a failure on to all, however long it is", function()
    local N = 1000
    local futures, chain, ended = { Future() }, {}, 0
    for i = 1, N do
      futures[i + 1] = Future()
      chain[i] = create_task(gather, futures[i], futures[i + 1])
    end
    testing.wait_all_blocked()
    futures[1]:set_error("failure")
    testing.wait_all_blocked()
    for i = 1, N do
      if chain[i]:done() then ended = ended + 1 end
      tasks.cancel(chain[i])
    end
    assert.equal(N, ended)
  end)
end)

describe("gather of ten thousand", function()
  local N = 10000

  local function list_of(make)
    local list = {}
    for i = 1, N do list[i] = make(i) end
    return list
  end

  it("gives all their values in order", function()
    local list = gather(list_of(function(i)
      return function()
        sleep(0)
        return i
      end
    end))
    assert.equal(N, list.n)
    for i = 1, N do
      if list[i] ~= i then assert.equal(i, list[i]) end
    end
  end)

  it("cancels them all when one fails", function()
    local before, ended = #moonloop.all_tasks(), 0
    local fns = list_of(function()
      return function()
        local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        sleep_forever()
      end
    end)
    fns[N // 2] = function()
      sleep(0)
      error("one", 0)
    end
    assert.same({ false, "one" }, { pcall(gather, fns) })
    assert.equal(N - 1, ended)
    assert.equal(before, #moonloop.all_tasks())
  end)

  it("gives all their errors", function()
    local list = gather(list_of(function(i)
      return function() error(i, 0) end
    end), { return_exceptions = true })
    assert.equal(N, list.n)
    for i = 1, N do
      if list[i].value ~= i then assert.equal(i, list[i].value) end
    end
  end)
end)
