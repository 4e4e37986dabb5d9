-- SPDX-License-Identifier: MIT
-- Event: waking all who wait, in order, and what a clear, a cancellation or a
-- deadline of the same turn changes of it.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Event, create_task = moonloop.Event, moonloop.create_task

local kind = tasks.raised

-- A task that appends `name` when the event is set.
local function watch(event, list, name)
  return tasks.start(function()
    event:wait()
    list[#list + 1] = name
  end)
end

-- A task that appends what wait answers, then what its next await raises.
local function wait_and_await(event, list)
  return tasks.start(function()
    list[1] = event:wait()
    list[2] = kind(moonloop.sleep, 0)
  end)
end

describe("Event", function()
  it("is set and cleared", function()
    local event = Event()
    assert.is_false(event:is_set())
    event:set()
    assert.is_true(event:is_set())
    event:set()
    assert.is_true(event:is_set())
    event:clear()
    assert.is_false(event:is_set())
    event:clear()
    assert.is_false(event:is_set())
  end)

  it("is waited for at once when it is set, without letting others run", function()
    local ran = false
    local task = create_task(function()
      local event = Event()
      event:set()
      create_task(function() ran = true end)
      return event:wait(), ran
    end)
    assert.same({ true, false }, { task:await() })
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("is waited for until it is set", function()
    local event = Event()
    local waiter = tasks.start(event.wait, event)
    assert.is_false(waiter:done())
    event:set()
    assert.is_false(waiter:done())
    assert.is_true(waiter:await())
  end)

  it("wakes all who wait, in the order they came", function()
    local event, list = Event(), {}
    for i = 1, 10 do watch(event, list, i) end
    event:set()
    testing.wait_all_blocked()
    assert.equal("1 2 3 4 5 6 7 8 9 10", table.concat(list, " "))
  end)
end)

describe("An event that is set", function()
  it("wakes them although it is cleared right after", function()
    local event, list = Event(), {}
    watch(event, list, "early")
    event:set()
    event:clear()
    local late = watch(event, list, "late")
    assert.same({ "early" }, list)
    assert.is_false(late:done())
    event:set()
    late:await()
    assert.same({ "early", "late" }, list)
  end)

  it("wakes each waiter once", function()
    local event, count = Event(), 0
    local waiter = tasks.start(function()
      event:wait()
      count = count + 1
      event:clear()
      event:wait()
      count = count + 1
    end)
    event:set()
    event:set()
    testing.wait_all_blocked()
    assert.equal(1, count)
    event:set()
    waiter:await()
    assert.equal(2, count)
  end)
end)

describe("An event", function()
  it("is set where there is no task", function()
    local event = Event()
    moonloop.get_running_loop():call_soon(event.set, event)
    assert.is_true(event:wait())
  end)

  it("lets others run although it is set each time", function()
    local event, stop, count = Event(), false, 0
    event:set()
    create_task(function() stop = true end)
    while not stop and count < 1e6 do
      event:wait()
      count = count + 1
    end
    assert.is_true(stop)
  end)

  it("shows its name and its state in tostring", function()
    local event = Event { name = "ready" }
    local before = tostring(event)
    assert.matches('^Event.*"ready"', before)
    event:set()
    assert.not_equal(before, tostring(event))
  end)

  it("is what its waiters say they wait for", function()
    local named = Event { name = "up" }
    for expected, event in pairs { ["an event"] = Event(), ['event "up"'] = named } do
      local waiter = tasks.start(event.wait, event)
      assert.equal(expected, waiter:awaiting())
      event:set()
      waiter:await()
    end
  end)

  it("takes no options but a name", function()
    assert.matches("bad argument #1 to 'Event' (table expected, got string)",
      kind(Event, "ready"), 1, true)
    assert.matches("bad argument #1 to 'Event' (there is no option 'nam'; did you mean 'name'?)",
      kind(Event, { nam = "ready" }), 1, true)
    assert.matches("bad argument #1 to 'Event' (option 'name': string expected, got boolean)",
      kind(Event, { name = true }), 1, true)
  end)

  it("cannot be waited for outside a task, also when it is set", function()
    local event, err = Event(), nil
    event:set()
    moonloop.get_running_loop():call_soon(function()
      err = select(2, pcall(event.wait, event))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("A task that waits for an event", function()
  it("is cancelled while it waits and leaves the others waiting", function()
    local event, list = Event(), {}
    local waiters = {}
    for i = 1, 3 do waiters[i] = watch(event, list, i) end
    assert.is_true(tasks.cancel(waiters[2]))
    assert.is_false(event:is_set())
    event:set()
    testing.wait_all_blocked()
    assert.same({ 1, 3 }, list)
  end)

  it("times out while it waits", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local event = Event()
    assert.is_false((moonloop.move_on_after(5, event.wait, event)))
    event:set()
    assert.same({ true, true }, { moonloop.move_on_after(5, event.wait, event) })
  end)

  it("is raised a cancellation that is there already, also when the event is set", function()
    local event, scope = Event(), moonloop.CancelScope {}
    event:set()
    scope:cancel()
    assert.is_false(scope:run(event.wait, event))
  end)
end)

describe("A waiter of an event", function()
  it("is answered when it is cancelled after the event was set", function()
    local event, list = Event(), {}
    local waiter = wait_and_await(event, list)
    event:set()
    waiter:cancel()
    waiter:await()
    assert.same({ true, "CancelledError" }, list)
  end)

  it("is cancelled when that came before the event was set", function()
    local event, list = Event(), {}
    local waiter = wait_and_await(event, list)
    waiter:cancel()
    event:set()
    tasks.outcome(waiter)
    assert.is_true(waiter:cancelled())
    assert.same({}, list)
  end)

  it("is answered when its deadline passes after the event was set", function()
    local event, scope = Event(), moonloop.CancelScope {}
    local waiter = tasks.start(scope.run, scope, event.wait, event)
    event:set()
    scope.deadline = moonloop.time() - 1
    assert.same({ true, true }, { waiter:await() })
  end)

  it("times out when its deadline passed before the event was set", function()
    local event, scope = Event(), moonloop.CancelScope {}
    local waiter = tasks.start(scope.run, scope, event.wait, event)
    scope.deadline = moonloop.time() - 1
    event:set()
    assert.is_false(waiter:await())
  end)
end)

describe("A task that is closed while it waits for an event", function()
  it("leaves the others waiting", function()
    local event, list = Event(), {}
    local waiter = watch(event, list, "closed")
    watch(event, list, "other")
    core.close_task(waiter)
    assert.is_true(waiter:done())
    event:set()
    testing.wait_all_blocked()
    assert.same({ "other" }, list)
  end)

  it("is unwound at the end of its run", function()
    local status, out = stock.closed("moonloop.Event():wait()")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)

  it("does not run on when the event was set before", function()
    local event, list = Event(), {}
    watch(event, list, "first")
    local waiter = watch(event, list, "closed")
    watch(event, list, "last")
    event:set()
    core.close_task(waiter)
    testing.wait_all_blocked()
    assert.same({ "first", "last" }, list)
  end)
end)

describe("Those who wait for an event", function()
  it("wait on when the task that was to set it ends, and another sets it", function()
    local event = Event()
    local setter = create_task(function()
      moonloop.sleep(0)
      error("before it was set", 0)
    end)
    local waiter = tasks.start(event.wait, event)
    assert.same({ false, "before it was set" }, { tasks.outcome(setter) })
    assert.is_false(waiter:done())
    create_task(event.set, event)
    assert.is_true(waiter:await())
  end)

  it("are named with it in a DeadlockError, and wait no more", function()
    local event = Event { name = "ready" }
    local ok, err = pcall(event.wait, event)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for event "ready"', err.message, 1, true)
    event:set()
    assert.is_true(event:wait())
  end)

  it("may cancel each other when they wake", function()
    local event, list, waiters = Event(), {}, {}
    for i = 1, 3 do
      waiters[i] = tasks.start(function()
        event:wait()
        list[#list + 1] = i
        waiters[i % 3 + 1]:cancel()
      end)
    end
    event:set()
    testing.wait_all_blocked()
    assert.same({ 1, 2, 3 }, list)
  end)
end)
