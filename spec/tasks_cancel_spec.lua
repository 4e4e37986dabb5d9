-- SPDX-License-Identifier: MIT
-- Cancelling tasks: level-triggered, counted, delivered at awaits.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local create_task, await, sleep_forever = moonloop.create_task, moonloop.await,
  moonloop.sleep_forever

local kind = tasks.kind

describe("Cancelling a task", function()
  it("raises CancelledError with the message where it waits", function()
    local task = tasks.start(function()
      local ok, err = pcall(sleep_forever)
      return ok, err
    end)
    assert.is_true(task:cancel("because"))
    local ok, err = await(task)
    assert.is_false(ok)
    assert.is_true(moonloop.is_error(err, moonloop.CancelledError))
    assert.equal("because", err.message)
  end)

  it("ends it cancelled, and raises CancelledError to who awaits it", function()
    local task = tasks.start(sleep_forever)
    task:cancel("because")
    assert.is_false(task:done())
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.equal("CancelledError", err.kind)
    assert.is_true(task:done())
    assert.is_true(task:cancelled())
    assert.equal("CancelledError", kind(task.result, task))
    assert.equal("CancelledError", kind(task.error, task))
  end)

  it("answers true while it runs and false when it has ended", function()
    local task = tasks.start(sleep_forever)
    assert.is_true(task:cancel())
    assert.is_true(task:cancel())
    tasks.outcome(task)
    assert.is_false(task:cancel())
    local ended = create_task(function() end)
    await(ended)
    assert.is_false(ended:cancel())
    assert.is_false(ended:cancelled())
  end)

  it("before its start keeps it from ever running", function()
    local ran = false
    local task = create_task(function() ran = true end)
    assert.is_true(task:cancel())
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.is_false(ran)
  end)

  it("runs its clean-up, <close> variables and pcall alike", function()
    local list = {}
    local task = tasks.start(function()
      local _ <close> = tasks.mark(list, "closed")
      local ok, err = pcall(sleep_forever)
      list[#list + 1] = ok
      error(err)
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ false, "closed" }, list)
  end)

  it("that swallows it and returns leaves it its result", function()
    local task = tasks.start(function()
      pcall(sleep_forever)
      return "survived"
    end)
    task:cancel()
    assert.equal("survived", await(task))
    assert.is_false(task:cancelled())
    assert.is_nil(task:error())
  end)

  it("that answers with an error of its own leaves it failed", function()
    local task = tasks.start(function()
      pcall(sleep_forever)
      error("own", 0)
    end)
    task:cancel()
    assert.same({ false, "own" }, { tasks.outcome(task) })
    assert.is_false(task:cancelled())
  end)

  it("is not reported", function()
    local reports <close> = tasks.reports()
    for _ = 1, 3 do tasks.start(sleep_forever):cancel() end
    testing.wait_all_blocked()
    collectgarbage()
    collectgarbage()
    testing.wait_all_blocked()
    assert.same({}, { table.unpack(reports) })
  end)

  it("that runs and never waits again changes nothing", function()
    local task
    task = create_task(function()
      task:cancel()
      return "done"
    end)
    assert.equal("done", await(task))
    assert.is_false(task:cancelled())
  end)

  it("by itself is raised at its next await", function()
    local reached = false
    local task
    task = create_task(function()
      task:cancel()
      reached = true
      moonloop.sleep(0)
      reached = false
    end)
    tasks.outcome(task)
    assert.is_true(reached)
    assert.is_true(task:cancelled())
  end)
end)

describe("A cancelled task", function()
  it("sees its cancellation at every await, so pcall cannot swallow it", function()
    local seen = 0
    local task = tasks.start(function()
      for _ = 1, 5 do
        if kind(moonloop.sleep, 60) == "CancelledError" then seen = seen + 1 end
      end
      return "left the loop"
    end)
    task:cancel()
    assert.equal("left the loop", await(task))
    assert.equal(5, seen)
  end)

  it("sees it also at awaits that could complete at once", function()
    local ready = moonloop.Future()
    ready:set_result("v")
    local ended = create_task(function() return "v" end)
    await(ended)
    local kinds
    local task = tasks.start(function()
      kinds = {
        kind(sleep_forever), kind(await, ready), kind(ready.await, ready), kind(await, ended),
        kind(moonloop.sleep, 0), kind(moonloop.sleep_until, 0),
      }
    end)
    task:cancel()
    await(task)
    for i = 1, 6 do assert.equal("CancelledError", kinds[i]) end
  end)

  it("lets others run although it retries in a loop", function()
    local others = 0
    local task = tasks.start(function()
      while others == 0 do pcall(moonloop.sleep, 60) end
      return "out"
    end)
    task:cancel()
    create_task(function() others = 1 end)
    assert.equal("out", await(task))
  end)

  it("does not run a function it awaits", function()
    local ran = false
    local task = tasks.start(function()
      pcall(sleep_forever)
      await(function() ran = true end)
    end)
    assert.is_true(tasks.cancel(task))
    assert.is_false(ran)
  end)

  it("may use coroutines and make tasks", function()
    local task = tasks.start(function()
      pcall(sleep_forever)
      local gen = coroutine.wrap(function() coroutine.yield(1) end)
      return gen(), create_task(function() return 2 end)
    end)
    task:cancel()
    local value, made = await(task)
    assert.equal(1, value)
    assert.equal(2, await(made))
  end)

  it("is reported and closed after it swallowed a thousand", function()
    local reports <close> = tasks.reports()
    local count, closed = 0, {}
    local task = tasks.start({ name = "stubborn" }, function()
      local _ <close> = tasks.mark(closed, "closed")
      while count < 5000 do
        pcall(sleep_forever)
        count = count + 1
      end
    end)
    task:cancel()
    tasks.outcome(task)
    assert.is_true(task:done())
    assert.same({ "closed" }, closed)
    assert.is_true(count >= 1000 and count < 1100)
    local report = tasks.find(reports, function(context) return context.task == task end)
    assert.matches("stubborn", report.message, 1, true)
  end)
end)

describe("cancelling and uncancel", function()
  it("count the requests", function()
    local task = tasks.start(sleep_forever)
    assert.equal(0, task:cancelling())
    task:cancel()
    task:cancel()
    assert.equal(2, task:cancelling())
    assert.equal(1, task:uncancel())
    assert.equal(1, task:cancelling())
    tasks.outcome(task)
  end)

  it("at 0 set the task free to wait again", function()
    local task = tasks.start(function()
      local first = kind(sleep_forever)
      local rest = moonloop.current_task():uncancel()
      return first, rest, moonloop.sleep(0.001, "slept")
    end)
    task:cancel()
    assert.same({ "CancelledError", 0, "slept" }, { await(task) })
  end)

  it("above 0 leave it cancelled", function()
    local task = tasks.start(function()
      local first = kind(sleep_forever)
      local rest = moonloop.current_task():uncancel()
      return first, rest, kind(moonloop.sleep, 0)
    end)
    task:cancel()
    task:cancel()
    assert.same({ "CancelledError", 1, "CancelledError" }, { await(task) })
  end)

  it("never go below 0", function()
    local task = tasks.start(sleep_forever)
    assert.equal(0, task:uncancel())
    assert.equal(0, task:cancelling())
    tasks.cancel(task)
  end)

  it("let a task be cancelled again after it was set free", function()
    local count = 0
    local task = tasks.start(function()
      while count < 3 do
        if kind(sleep_forever) == "CancelledError" then
          count = count + 1
          moonloop.current_task():uncancel()
        end
      end
      return "three times"
    end)
    for _ = 1, 3 do
      task:cancel()
      testing.wait_all_blocked()
    end
    assert.equal("three times", await(task))
  end)
end)

describe("Tasks that cancel each other", function()
  it("both end", function()
    local a, b
    a = create_task(function()
      pcall(sleep_forever)
      b:cancel()
      sleep_forever()
    end)
    b = create_task(function()
      moonloop.sleep(0)
      a:cancel()
      sleep_forever()
    end)
    tasks.outcome(a)
    tasks.outcome(b)
    assert.is_true(a:cancelled())
    assert.is_true(b:cancelled())
  end)

  it("both end also when each awaits the other", function()
    local a, b
    a = create_task(function() await(b) end)
    b = create_task(function() await(a) end)
    testing.wait_all_blocked()
    a:cancel()
    testing.wait_all_blocked()
    assert.is_true(a:cancelled())
    assert.is_true(b:done())
    assert.is_true(b:cancelled())
  end)

  it("may do so from their <close> variables", function()
    local a, b
    local function partner(other)
      local _ <close> = setmetatable({}, { __close = function() other():cancel() end })
      sleep_forever()
    end
    a = create_task(partner, function() return b end)
    b = create_task(partner, function() return a end)
    testing.wait_all_blocked()
    a:cancel()
    testing.wait_all_blocked()
    assert.is_true(a:cancelled())
    assert.is_true(b:cancelled())
  end)

  it("may cancel the task that cancels them while it does", function()
    local canceller
    local victim = tasks.start(function()
      pcall(sleep_forever)
      canceller:cancel()
      return "answered"
    end)
    canceller = create_task(function()
      victim:cancel()
      await(victim)
    end)
    assert.equal("answered", await(victim))
    tasks.outcome(canceller)
    assert.is_true(canceller:cancelled())
  end)
end)

describe("A cancellation and a result of the same turn", function()
  it("lose nothing when a task is cancelled while its awaited task ends", function()
    local gate, list = moonloop.Future(), {}
    local inner = tasks.start(function() return gate:await() end)
    local outer = tasks.start(function()
      list[1] = await(inner)
      list[2] = kind(moonloop.sleep, 0)
    end)
    inner:add_done_callback(function() outer:cancel() end)
    gate:set_result("item")
    tasks.outcome(outer)
    assert.same({ "item", "CancelledError" }, list)
  end)

  it("leave a woken task its result when others cancel it before it runs", function()
    local future, got = moonloop.Future(), nil
    local task = tasks.start(function()
      got = future:await()
      return got
    end)
    future:set_result("mine")
    for _ = 1, 3 do task:cancel() end
    assert.equal("mine", await(task))
    assert.is_false(task:cancelled())
  end)
end)
