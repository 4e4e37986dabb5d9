-- SPDX-License-Identifier: MIT
-- race: the first to succeed, the losers, all failed, its cancellation, both at
-- once with a result.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local race, create_task, await = moonloop.race, moonloop.create_task, moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind, ready, cleaning = tasks.kind, tasks.ready, tasks.cleaning

-- Gives `value` when the others wait.
local function soon(value)
  return function() return sleep(0, value) end
end

local function failed(err)
  local future = Future()
  future:set_error(err)
  return future
end

-- A race in a task that notes what it got and what the next await does.
local function noting(list, awaitables)
  return tasks.start(function()
    list[1] = race(awaitables)
    list[2] = kind(sleep, 0)
  end)
end

local function set_at(when, gate, value)
  loop:call_at(when, function()
    if not gate:done() then gate:set_result(value) end
  end)
end

describe("race", function()
  it("returns all values of the first to succeed", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local won = table.pack(race {
      function() return sleep(3, "slow") end,
      function() return sleep(1, 1), nil, "fast", nil end,
      function() return sleep(2, "middle") end,
    })
    assert.same({ 1, nil, "fast", nil, n = 4 }, won)
    assert.equal(0, select("#", race { function() end }))
  end)

  it("does not wait for one that is done, and prefers the first in the list", function()
    local task = create_task(function()
      local ran = false
      create_task(function() ran = true end)
      return race { failed("x"), ready("a"), ready("b") }, ran
    end)
    assert.same({ "a", false }, { await(task) })
  end)

  it("returns the first in time of one turn", function()
    local a, b = Future(), Future()
    local first, second = tasks.start(b.await, b), tasks.start(a.await, a)
    local task = tasks.start(race, { second, first })
    b:set_result("b")
    a:set_result("a")
    assert.equal("b", await(task))
    assert.equal("a", second:result())
  end)

  it("cancels the losers and waits for their end", function()
    local gate, list = Future(), {}
    local future, child = Future(), create_task(sleep_forever)
    local task = tasks.start(race, { cleaning(gate, list), future, child, soon("won") })
    assert.is_false(task:done())
    assert.is_true(future:cancelled())
    assert.is_true(child:cancelled())
    gate:set_result()
    assert.equal("won", await(task))
    assert.same({ "cleaned" }, list)
  end)

  it("goes on while some fail or are cancelled", function()
    local gate, cancelled = Future(), create_task(sleep_forever)
    local task = tasks.start(race, { function() error("x", 0) end, cancelled, gate })
    cancelled:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result("last")
    assert.equal("last", await(task))
  end)

  it("keeps its values when it is cancelled while the losers clean up", function()
    local gate, list, cleaned = Future(), {}, {}
    local task = noting(list, { cleaning(gate, cleaned), soon("won") })
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result()
    tasks.outcome(task)
    assert.same({ "won", "CancelledError" }, list)
    assert.same({ "cleaned" }, cleaned)
  end)

  it("says in words what its task waits for", function()
    local task = tasks.start(race, { Future(), Future(), Future() })
    assert.equal("race of 3", task:awaiting())
    tasks.cancel(task)
  end)

  it("raises where no task runs, and runs nothing", function()
    local ran, err = false, nil
    loop:call_soon(function()
      err = select(2, pcall(race, { function() ran = true end }))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
    assert.is_false(ran)
  end)
end)

describe("A race that nobody wins", function()
  it("raises the errors together, in the order of the list", function()
    local problem = moonloop.OSError:new("x")
    local cancelled = Future()
    cancelled:cancel("gone")
    local later = Future()
    local task = tasks.start(race, { later, failed(problem), cancelled })
    later:set_error(moonloop.TimeoutError:new("y"))
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("ErrorGroup", err.kind)
    assert.equal(3, #err.errors)
    assert.equal("TimeoutError", err.errors[1].kind)
    assert.equal(problem, err.errors[2])
    assert.equal("CancelledError", err.errors[3].kind)
  end)

  it("wraps what is no Error object in an Error with value", function()
    local value = { "table" }
    local _, err = pcall(race, { failed("text"), failed(value) })
    assert.equal("ErrorGroup", err.kind)
    for i, expected in ipairs { "text", value } do
      assert.equal("Error", err.errors[i].kind)
      assert.equal(expected, err.errors[i].value)
    end
  end)

  it("raises an ErrorGroup also for one", function()
    local _, err = pcall(race, { failed("alone") })
    assert.equal("ErrorGroup", err.kind)
    assert.equal(1, #err.errors)
  end)

  it("leaves its caller free when all were cancelled", function()
    local future = Future()
    local task = tasks.start(function()
      return kind(race, { future }), sleep(0, "free")
    end)
    future:cancel()
    assert.same({ "ErrorGroup", "free" }, { await(task) })
  end)
end)

describe("A cancelled race", function()
  it("raises CancelledError with the message after all were cancelled and have ended", function()
    local gate, list = Future(), {}
    local future = Future()
    local task = tasks.start(race, { cleaning(gate, list), future, cleaning(gate, list) })
    task:cancel("because")
    testing.wait_all_blocked()
    assert.is_false(task:done())
    assert.is_true(future:cancelled())
    gate:set_result()
    local _, err = tasks.outcome(task)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.same({ "cleaned", "cleaned" }, list)
  end)

  it("is out of time in an outer timeout", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local child = create_task(sleep_forever)
    local task = create_task(function()
      local _ <close> = moonloop.timeout(1)
      race { child, function() sleep(2) end }
    end)
    assert.equal("TimeoutError", kind(await, task))
    assert.is_true(child:cancelled())
  end)

  it("raises in a scope that is cancelled already, and runs nothing", function()
    local kinds, ran
    local task = tasks.start(function()
      pcall(sleep_forever)
      kinds = { kind(race, { ready("v") }), kind(race, { function() ran = true end }) }
    end)
    task:cancel()
    tasks.outcome(task)
    assert.same({ "CancelledError", "CancelledError" }, kinds)
    testing.wait_all_blocked()
    assert.is_nil(ran)
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.race { moonloop.Future(), moonloop.Future() }")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("race whose result and cancellation come in one turn", function()
  it("returns a result that came first, the cancellation follows", function()
    local gate, list = Future(), {}
    local task = noting(list, { Future(), gate })
    gate:set_result("item")
    task:cancel()
    tasks.outcome(task)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("returns it also when the end of the winner brought the cancellation", function()
    local gate, list = Future(), {}
    local child = tasks.start(gate.await, gate)
    local task = noting(list, { child, sleep_forever })
    child:add_done_callback(function() task:cancel() end)
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("raises a cancellation that came first, the result stays where it is", function()
    local gate, list = Future(), {}
    local child = tasks.start(gate.await, gate)
    local task = noting(list, { child, Future() })
    task:cancel()
    gate:set_result("item")
    tasks.outcome(task)
    assert.same({}, list)
    assert.is_true(task:cancelled())
    assert.equal("item", child:result())
  end)

  it("raises the errors where the last of them came first", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      list[1] = kind(race, { gate })
      list[2] = kind(sleep, 0)
    end)
    gate:set_error("x")
    task:cancel()
    tasks.outcome(task)
    assert.same({ "ErrorGroup", "CancelledError" }, list)
  end)

  it("obeys the order of a deadline and a result of the same time", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local when, list = moonloop.time() + 1, {}
    local first, second = Future(), Future()
    set_at(when, first, "item")
    local early = create_task(function()
      local _ <close> = moonloop.timeout_at(when)
      list[1] = race { first, Future() }
      list[2] = kind(sleep, 0)
    end)
    await(early)
    assert.same({ "item", "CancelledError" }, list)
    local late = create_task(function()
      local _ <close> = moonloop.timeout_at(when + 1)
      set_at(when + 1, second, "item")
      race { second, Future() }
    end)
    assert.equal("TimeoutError", kind(await, late))
  end)
end)

describe("What several races wait for", function()
  it("gives its values to each of them", function()
    local future = Future()
    local a, b = tasks.start(race, { future, Future() }), tasks.start(race, { Future(), future })
    future:set_result("both")
    assert.equal("both", await(a))
    assert.equal("both", await(b))
  end)

  it("is cancelled where it loses, which the others see", function()
    local shared = create_task(sleep_forever)
    local winner, rest = Future(), Future()
    local a, b = tasks.start(race, { winner, shared }), tasks.start(race, { shared, rest })
    winner:set_result("a")
    assert.equal("a", await(a))
    assert.is_true(shared:cancelled())
    assert.is_false(b:done())
    rest:set_result("b")
    assert.equal("b", await(b))
  end)
end)

describe("race of ten thousand", function()
  local N = 10000

  it("leaves none of the losers running", function()
    local before, ended, list = #moonloop.all_tasks(), 0, {}
    for i = 1, N do
      list[i] = function()
        local _ <close> = setmetatable({}, { __close = function() ended = ended + 1 end })
        sleep_forever()
      end
    end
    list[N] = function() return sleep(0, "won") end
    assert.equal("won", race(list))
    assert.equal(N - 1, ended)
    assert.equal(before, #moonloop.all_tasks())
  end)

  it("raises all their errors together", function()
    local list = {}
    for i = 1, N do
      list[i] = function() error(moonloop.OSError:new("x", { number = i })) end
    end
    local _, err = pcall(race, list)
    assert.equal("ErrorGroup", err.kind)
    assert.equal(N, #err.errors)
    for i = 1, N do
      if err.errors[i].number ~= i then assert.equal(i, err.errors[i].number) end
    end
  end)
end)

describe("race's argument", function()
  local function ends() end
  local function message(...)
    local before = #moonloop.all_tasks()
    local ok, err = pcall(race, ...)
    assert.is_false(ok)
    assert.is_string(err)
    assert.equal(before, #moonloop.all_tasks())
    return err
  end

  it("is a list that is not empty", function()
    assert.matches("bad argument #1 to 'race'", message {}, 1, true)
    assert.matches("bad argument #1 to 'race' %(.*expected, got number", message(5))
    assert.matches("bad argument #1 to 'race' %(.*expected, got .*Future", message(Future()))
    assert.matches("bad argument #1 to 'race'", message(), 1, true)
  end)

  it("is named by the element, before any task is made", function()
    local expected = "Future, Task or function expected, got "
    assert.matches("bad argument #1 to 'race' (element 2: " .. expected .. "boolean)",
      message { ends, true }, 1, true)
    assert.matches("bad argument #1 to 'race' (element 2: " .. expected .. "nil)",
      message { ends, nil, ends }, 1, true)
  end)
end)
