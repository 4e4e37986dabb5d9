-- SPDX-License-Identifier: MIT
-- as_completed: the order, whose the tasks are, leaving it early, its timeout,
-- its cancellation, both at once with a result.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local as_completed, create_task, await = moonloop.as_completed, moonloop.create_task,
  moonloop.await
local sleep, sleep_forever, Future = moonloop.sleep, moonloop.sleep_forever, moonloop.Future
local loop = moonloop.get_running_loop()

local kind, ready = tasks.kind, tasks.ready

-- Waits for ever; cancelled, it notes so after a clean-up that awaits.
local function cleaning(list)
  return function()
    local _ <close> = moonloop.defer(function()
      sleep(0)
      list[#list + 1] = "cleaned"
    end)
    sleep_forever()
  end
end

-- Appends what `awaitables` give to `list`, in a task of its own.
local function collecting(list, awaitables, opts)
  return tasks.start(function()
    for task in as_completed(awaitables, opts) do list[#list + 1] = task:result() end
    return list
  end)
end

describe("as_completed", function()
  it("yields in the order of their ends", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local fns = {}
    for i, seconds in ipairs { 3, 1, 2 } do
      fns[i] = function() return sleep(seconds, seconds) end
    end
    assert.same({ 1, 2, 3 }, await(collecting({}, fns)))
  end)

  it("yields the very Futures and Tasks that were passed in", function()
    local a, b = Future(), create_task(sleep, 0, "b")
    local seen = {}
    local task = tasks.start(function()
      for each in as_completed { a, b } do seen[#seen + 1] = each end
    end)
    a:set_result("a")
    await(task)
    assert.equal(2, #seen)
    assert.is_true(rawequal(b, seen[1]))
    assert.is_true(rawequal(a, seen[2]))
  end)

  it("yields at once what is done, in given order, without letting others run", function()
    local task = create_task(function()
      local ran, list = false, {}
      create_task(function() ran = true end)
      for each in as_completed { ready("a"), ready("b"), ready("c") } do
        list[#list + 1] = each:result()
      end
      list[#list + 1] = ran
      return list
    end)
    assert.same({ "a", "b", "c", false }, await(task))
  end)

  it("of an empty list does nothing", function()
    local count = 0
    for _ in as_completed {} do count = count + 1 end
    for _ in as_completed({}, { timeout = 0 }) do count = count + 1 end
    assert.equal(0, count)
  end)

  it("raises no error but leaves it to be taken", function()
    local failed, cancelled = Future(), Future()
    failed:set_error("failure")
    cancelled:cancel()
    local list = {}
    for each in as_completed { failed, cancelled, function() error("own", 0) end } do
      local _, err = pcall(each.result, each)
      list[#list + 1] = moonloop.is_error(err) and err.kind or err
    end
    assert.same({ "failure", "CancelledError", "own" }, list)
  end)

  it("lets what ends during the body wait for its turn, in order", function()
    local a, b, c = Future(), Future(), Future()
    local list = {}
    local task = tasks.start(function()
      for each in as_completed { a, b, c, ready("first") } do
        list[#list + 1] = each:result()
        sleep(0)
      end
    end)
    c:set_result("c")
    a:set_result("a")
    b:set_result("b")
    await(task)
    assert.same({ "first", "c", "a", "b" }, list)
  end)

  it("works in a generator of the program's own", function()
    local values = coroutine.wrap(function()
      for each in as_completed { function() return sleep(0, "b") end, ready("a") } do
        coroutine.yield(each:result())
      end
    end)
    assert.same({ "a", "b" }, { values(), values() })
    assert.is_nil(values())
  end)

  it("says in words what its task waits for", function()
    local task = collecting({}, { Future() })
    assert.equal("as_completed", task:awaiting())
    tasks.cancel(task)
  end)

  it("raises where no task runs", function()
    local err
    loop:call_soon(function()
      err = select(2, pcall(function()
        for each in as_completed { ready() } do each:result() end
      end))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("as_completed left early", function()
  -- Runs `body` for the first that is done, beside one that cleans up and two
  -- that were passed in.
  local function leave(body)
    local future, child, list = Future(), create_task(sleep_forever), {}
    local outcome = table.pack(pcall(function()
      for each in as_completed { cleaning(list), future, child, function() sleep(0) end } do
        if body(each) then break end
      end
    end))
    assert.same({ "cleaned" }, list)
    assert.is_false(future:done())
    assert.is_false(child:done())
    tasks.cancel(child)
    return table.unpack(outcome, 1, outcome.n)
  end

  it("by break cancels its own tasks, waits for them and leaves others alone", function()
    assert.is_true(leave(function() return true end))
  end)

  it("by an error does so too", function()
    assert.same({ false, "body" }, { leave(function() error("body", 0) end) })
  end)

  it("by a cancellation in the body does so too", function()
    local task
    task = create_task(function()
      leave(function()
        task:cancel()
        sleep(0)
      end)
    end)
    await(task)
    assert.equal(1, task:cancelling())
  end)

  it("when its own task is cancelled does so too", function()
    local future, list = Future(), {}
    local task = collecting({}, { cleaning(list), cleaning(list), future })
    task:cancel("because")
    local _, err = tasks.outcome(task)
    assert.equal("CancelledError", err.kind)
    assert.equal("because", err.message)
    assert.same({ "cleaned", "cleaned" }, list)
    assert.is_false(future:done())
  end)

  it("keeps nothing at what was passed in", function()
    local future = Future()
    local function poll(times)
      for _ = 1, times do
        for each in as_completed { future, ready() } do
          if each:done() then break end
        end
      end
      collectgarbage()
      collectgarbage()
      return collectgarbage("count")
    end
    local before = poll(100)
    assert.is_true(poll(10000) - before < 100)
  end)
end)

describe("as_completed's timeout", function()
  local function collected(...)
    local list = {}
    local ok, err = pcall(function(...)
      for each in as_completed(...) do list[#list + 1] = each:result() end
    end, ...)
    return list, ok, err
  end

  it("raises TimeoutError in the loop after its own tasks have ended", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local future, cleaned = Future(), {}
    local list, ok, err = collected({ cleaning(cleaned), future, function()
      return sleep(1, "in time")
    end }, { timeout = 2 })
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.same({ "in time" }, list)
    assert.same({ "cleaned" }, cleaned)
    assert.is_false(future:done())
  end)

  it("counts from the call", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start = moonloop.time()
    local future, count = Future(), 0
    local ok, err = pcall(function()
      for _ in as_completed({ ready(), future }, { timeout = 10 }) do
        count = count + 1
        sleep(7)
      end
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.equal(1, count)
    assert.equal(start + 10, moonloop.time())
  end)

  it("does not interrupt the body", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local finished = false
    local ok, err = pcall(function()
      for _ in as_completed({ ready(), Future() }, { timeout = 1 }) do
        sleep(5)
        finished = true
      end
    end)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.is_true(finished)
  end)

  it("holds nothing back that is done", function()
    for _, seconds in ipairs { 0, -1 } do
      assert.same({ "a", "b" }, (collected({ ready("a"), ready("b") }, { timeout = seconds })))
    end
    local list, ok, err = collected({ Future(), ready("a") }, { timeout = 0 })
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    assert.same({ "a" }, list)
  end)

  it("of the loop around is an end as any other", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local cleaned = {}
    local task = create_task(function()
      local _ <close> = moonloop.timeout(1)
      for each in as_completed({ cleaning(cleaned) }, { timeout = 2 }) do each:result() end
    end)
    assert.equal("TimeoutError", kind(await, task))
    assert.same({ "cleaned" }, cleaned)
  end)
end)

describe("as_completed whose result and cancellation come in one turn", function()
  it("yields what came first, the cancellation follows", function()
    local gate, list = Future(), {}
    local task = tasks.start(function()
      for each in as_completed { gate } do
        list[1] = each:result()
        list[2] = kind(sleep, 0)
      end
    end)
    gate:set_result("item")
    task:cancel()
    tasks.outcome(task)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("raises a cancellation that came first, the result stays where it is", function()
    local gate, list = Future(), {}
    local task = collecting(list, { gate })
    task:cancel()
    gate:set_result("item")
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.same({}, list)
    assert.equal("item", gate:result())
  end)

  it("raises in a scope that is cancelled already, and runs nothing", function()
    local got, ran
    local task = tasks.start(function()
      pcall(sleep_forever)
      got = kind(function()
        for each in as_completed { ready("v"), function() ran = true end } do each:result() end
      end)
    end)
    task:cancel()
    tasks.outcome(task)
    assert.equal("CancelledError", got)
    testing.wait_all_blocked()
    assert.is_nil(ran)
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("for _ in moonloop.as_completed { moonloop.Future() } do end")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("What several loops wait for", function()
  it("is yielded to each of them when it ends, however it ends", function()
    for _, ending in ipairs { "set_result", "set_error", "cancel" } do
      local future, seen = Future(), 0
      local function consume()
        for each in as_completed { future } do
          assert.equal(future, each)
          seen = seen + 1
        end
      end
      local a, b = tasks.start(consume), tasks.start(consume)
      future[ending](future, "x")
      await(a)
      await(b)
      assert.equal(2, seen)
    end
  end)
end)

describe("as_completed of ten thousand", function()
  it("yields each once, in the order of their ends", function()
    local N = 10000
    local futures, list = {}, {}
    for i = 1, N do futures[i] = Future() end
    local task = collecting(list, futures)
    for i = N, 1, -1 do futures[i]:set_result(i) end
    await(task)
    assert.equal(N, #list)
    for i = 1, N do
      if list[i] ~= N + 1 - i then assert.equal(N + 1 - i, list[i]) end
    end
  end)
end)

describe("as_completed's arguments", function()
  local function ends() end
  local function message(...)
    local before = #moonloop.all_tasks()
    local ok, err = pcall(as_completed, ...)
    assert.is_false(ok)
    assert.is_string(err)
    assert.equal(before, #moonloop.all_tasks())
    return err
  end

  it("are a list of awaitables and options, checked at the call", function()
    local list = { ends }
    assert.matches("bad argument #1 to 'as_completed' %(.*expected, got number", message(5))
    assert.matches("bad argument #1 to 'as_completed' (element 2: Future, Task or function " ..
      "expected, got string)", message { ends, "x" }, 1, true)
    assert.matches("bad argument #2 to 'as_completed'.*'timeot'.*'timeout'",
      message(list, { timeot = 1 }))
    assert.matches("bad argument #2 to 'as_completed'.*'timeout'.*number expected, got string",
      message(list, { timeout = "soon" }))
  end)
end)
