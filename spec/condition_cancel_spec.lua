-- SPDX-License-Identifier: MIT
-- What becomes of a wait for a Condition that is cancelled, times out or is closed
-- by force: before it was notified, after, and in the same turn. However it ends,
-- the task that goes on has the lock.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Condition = moonloop.Condition

local kind = tasks.raised

-- A task that waits for a notification and appends `name`.
local function watch(condition, list, name)
  return tasks.start({ name = name }, function()
    local _ <close> = condition:acquire()
    condition:wait()
    list[#list + 1] = name
  end)
end

-- A task that appends what wait answers or raises, then the same of an await.
local function wait_and_await(condition, list)
  return tasks.start(function()
    local _ <close> = condition:acquire()
    for i, fn in ipairs { condition.wait, moonloop.sleep_forever } do
      local ok, result = pcall(fn, condition)
      list[i] = ok and result or result.kind
    end
  end)
end

-- Notifies `count` waiters as somebody who holds the lock for that long.
local function notify(condition, count)
  local _ <close> = condition:acquire()
  condition:notify(count)
end

describe("A wait_for that is given up", function()
  local function never() return false end

  it("was cancelled while it waited, and has the lock again", function()
    local condition, held = Condition(), nil
    local waiter = tasks.start(function()
      local _ <close> = condition:acquire()
      pcall(condition.wait_for, condition, never)
      condition:notify()
      held = true
    end)
    waiter:cancel()
    waiter:await()
    assert.is_true(held)
    assert.is_false(condition:locked())
  end)

  it("timed out while it waited, and has the lock again", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local condition = Condition()
    condition:acquire()
    assert.is_false((moonloop.move_on_after(5, condition.wait_for, condition, never)))
    condition:release()
    assert.is_false(condition:locked())
  end)

  it("was not when it was cancelled after the notification that made it true", function()
    local condition, list, ready = Condition(), {}, false
    local waiter = tasks.start(function()
      local _ <close> = condition:acquire()
      list[1] = condition:wait_for(function() return ready and "value" end)
      list[2] = kind(moonloop.sleep, 0)
    end)
    ready = true
    notify(condition)
    waiter:cancel()
    waiter:await()
    assert.same({ "value", "CancelledError" }, list)
  end)
end)

describe("A task that waits for a condition", function()
  it("is cancelled while it waits, and has the lock again when that is raised", function()
    local condition, list = Condition(), {}
    local waiter = tasks.start(function()
      local _ <close> = condition:acquire()
      list[1] = kind(condition.wait, condition)
      list[2] = kind(moonloop.sleep, 0)
      condition:notify()
      list[3] = "notified"
    end)
    condition:acquire()
    waiter:cancel()
    testing.wait_all_blocked()
    assert.same({}, list)
    condition:release()
    waiter:await()
    assert.same({ "CancelledError", "CancelledError", "notified" }, list)
    assert.is_false(condition:locked())
  end)

  it("times out while it waits, and has the lock again", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local condition = Condition()
    local guard = condition:acquire()
    assert.is_false((moonloop.move_on_after(5, condition.wait, condition)))
    condition:notify()
    guard:release()
    assert.is_false(condition:locked())
  end)

  it("is raised a cancellation that is there already, with the lock held", function()
    local condition, scope = Condition(), moonloop.CancelScope {}
    local _ <close> = condition:acquire()
    scope:cancel()
    assert.is_false(scope:run(condition.wait, condition))
    condition:notify()
    assert.is_true(condition:locked())
  end)
end)

describe("A waiter of a condition", function()
  it("is answered when it is cancelled after it was notified", function()
    local condition, list = Condition(), {}
    local waiter = wait_and_await(condition, list)
    local other = watch(condition, list, "other")
    condition:acquire()
    condition:notify()
    waiter:cancel()
    testing.wait_all_blocked()
    assert.same({}, list)
    condition:release()
    waiter:await()
    assert.same({ true, "CancelledError" }, list)
    assert.is_false(other:done())
    tasks.cancel(other)
  end)

  it("leaves the notification to the next when it was cancelled before", function()
    local condition, list, others = Condition(), {}, {}
    local waiter = wait_and_await(condition, list)
    local other = watch(condition, others, "other")
    condition:acquire()
    waiter:cancel()
    condition:notify()
    condition:release()
    waiter:await()
    other:await()
    assert.same({ "CancelledError", "CancelledError" }, list)
    assert.same({ "other" }, others)
  end)

  it("is answered when its deadline passes after it was notified", function()
    for _, first in ipairs { "notify", "deadline" } do
      local condition, scope = Condition(), moonloop.CancelScope {}
      local waiter = tasks.start(function()
        local _ <close> = condition:acquire()
        return (scope:run(condition.wait, condition))
      end)
      condition:acquire()
      if first == "notify" then condition:notify() end
      scope.deadline = moonloop.time() - 1
      condition:notify()
      condition:release()
      assert.equal(first == "notify", waiter:await())
      assert.is_false(condition:locked())
    end
  end)
end)

describe("A task that is closed while it waits for a condition", function()
  it("leaves the notification to the next and the lock alone", function()
    local condition, list = Condition(), {}
    local waiter = watch(condition, list, "closed")
    watch(condition, list, "next")
    condition:acquire()
    core.close_task(waiter)
    assert.is_true(waiter:done())
    assert.is_true(condition:locked())
    condition:notify()
    condition:release()
    testing.wait_all_blocked()
    assert.same({ "next" }, list)
    assert.is_false(condition:locked())
  end)

  it("is unwound at the end of its run", function()
    local status, out = stock.closed([[
      local condition = moonloop.Condition()
      condition:acquire()
      condition:wait()
    ]])
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)

  it("passes the lock on when it was notified before", function()
    local condition, list = Condition(), {}
    local waiter = watch(condition, list, "closed")
    condition:acquire()
    condition:notify()
    local taker = tasks.start(function()
      local _ <close> = condition:acquire()
      list[#list + 1] = "taken"
    end)
    condition:release()
    core.close_task(waiter)
    taker:await()
    assert.same({ "taken" }, list)
    assert.is_false(condition:locked())
  end)
end)

describe("A task that waits for a condition in vain", function()
  it("fails when the holder of the lock ends without releasing", function()
    local condition, list, gate = Condition(), {}, moonloop.Future()
    local waiter = watch(condition, list, "waiter")
    local careless = tasks.start({ name = "careless" }, function()
      condition:acquire()
      condition:notify()
      gate:await()
    end)
    gate:set_result()
    careless:await()
    local err = tasks.failure(moonloop.await, waiter)
    assert.equal("InvalidStateError", err.kind)
    assert.matches("'careless'", err.message, 1, true)
    assert.same({}, list)
  end)

  it("is named with the condition in a DeadlockError, and has the lock again", function()
    local condition = Condition { name = "c" }
    local _ <close> = condition:acquire()
    local ok, err = pcall(condition.wait, condition)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for condition "c"', err.message, 1, true)
    condition:notify()
    assert.is_true(condition:locked())
  end)
end)
