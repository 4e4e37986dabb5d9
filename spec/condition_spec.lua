-- SPDX-License-Identifier: MIT
-- Condition: waiting without its lock and going on with it; notifying in order; the
-- lock may be shared. Waits that are given up stand in condition_cancel_spec.lua.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

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

-- Notifies `count` waiters as somebody who holds the lock for that long.
local function notify(condition, count)
  local _ <close> = condition:acquire()
  condition:notify(count)
end

describe("Condition", function()
  it("is acquired and released like its lock", function()
    local condition = Condition()
    assert.is_false(condition:locked())
    local guard = condition:acquire()
    assert.is_true(condition:locked())
    guard:release()
    assert.is_false(condition:locked())
    condition:acquire()
    condition:release()
    assert.is_false(condition:locked())
  end)

  it("is waited for like its lock, and given up like it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local condition, list = Condition(), {}
    local acquire = condition.acquire
    local holder = tasks.start(function()
      local _ <close> = acquire(condition)
      moonloop.sleep_forever()
    end)
    assert.is_false((moonloop.move_on_after(5, acquire, condition)))
    assert.is_true(tasks.cancel(tasks.start(acquire, condition)))
    local waiter = watch(condition, list, "waiter")
    tasks.cancel(holder)
    notify(condition)
    waiter:await()
    assert.same({ "waiter" }, list)
  end)

  it("may share a lock with others", function()
    local lock = moonloop.Lock()
    local first, second = Condition(lock), Condition(lock)
    local _ <close> = first:acquire()
    assert.is_true(lock:locked() and second:locked())
    second:notify()
    assert.equal("InvalidStateError", kind(second.acquire, second))
    second:release()
    assert.is_false(lock:locked())
  end)

  it("lets go of the lock while it waits, and has it again afterwards", function()
    local condition, list = Condition(), {}
    local waiter = tasks.start(function()
      local _ <close> = condition:acquire()
      list[1] = condition:wait()
      list[2] = condition:locked()
    end)
    assert.is_false(condition:locked())
    condition:acquire()
    condition:notify()
    testing.wait_all_blocked()
    assert.same({}, list)
    condition:release()
    waiter:await()
    assert.same({ true, true }, list)
    assert.is_false(condition:locked())
  end)
end)

describe("A condition", function()
  it("wakes as many as it is told, one unless told, first in, first out", function()
    local condition, list = Condition(), {}
    for i = 1, 6 do watch(condition, list, "w" .. i) end
    notify(condition)
    testing.wait_all_blocked()
    assert.same({ "w1" }, list)
    notify(condition, 3)
    testing.wait_all_blocked()
    assert.same({ "w1", "w2", "w3", "w4" }, list)
    notify(condition, 100)
    testing.wait_all_blocked()
    assert.equal("w1 w2 w3 w4 w5 w6", table.concat(list, " "))
  end)

  it("wakes all with notify_all, in order", function()
    local condition, list = Condition(), {}
    for i = 1, 5 do watch(condition, list, "w" .. i) end
    condition:acquire()
    condition:notify_all()
    condition:release()
    testing.wait_all_blocked()
    assert.equal("w1 w2 w3 w4 w5", table.concat(list, " "))
  end)

  it("remembers no notification", function()
    local condition, list = Condition(), {}
    notify(condition, 1)
    local waiter = watch(condition, list, "late")
    assert.same({}, list)
    notify(condition, 0)
    testing.wait_all_blocked()
    assert.same({}, list)
    tasks.cancel(waiter)
  end)

  it("wants the lock held by who waits or notifies", function()
    local condition = Condition()
    local function never() return false end
    for _, name in ipairs { "wait", "wait_for", "notify", "notify_all", "release" } do
      assert.equal("InvalidStateError", kind(condition[name], condition,
        name == "wait_for" and never or nil))
    end
    local holder = tasks.start(function()
      local _ <close> = condition:acquire()
      moonloop.sleep_forever()
    end)
    for _, name in ipairs { "wait", "notify", "notify_all", "release" } do
      assert.equal("InvalidStateError", kind(condition[name], condition))
    end
    tasks.cancel(holder)
  end)
end)

describe("A condition's arguments and texts", function()
  it("are what its waiters say they wait for", function()
    local named, unnamed = Condition(nil, { name = "c" }), Condition()
    for expected, condition in pairs { ['condition "c"'] = named, ["a condition"] = unnamed } do
      local waiter = watch(condition, {}, "waiter")
      assert.equal(expected, waiter:awaiting())
      tasks.cancel(waiter)
    end
    assert.matches('^Condition.*"c"', tostring(named))
  end)

  it("are a lock and a name, and nothing else", function()
    assert.matches('"c"', tostring(Condition { name = "c" }), 1, true)
    assert.matches('"c"', tostring(Condition(moonloop.Lock(), { name = "c" })), 1, true)
    assert.matches("bad argument #1 to 'Condition' (", kind(Condition, 5), 1, true)
    assert.matches("bad argument #1 to 'Condition' (", kind(Condition, moonloop.Event()), 1, true)
    assert.matches("bad argument #2 to 'Condition' (there is no option 'nam'",
      kind(Condition, moonloop.Lock(), { nam = "c" }), 1, true)
  end)

  it("are refused where they are of a wrong type", function()
    local condition = Condition()
    local _ <close> = condition:acquire()
    assert.matches("bad argument #1 to 'notify' (", kind(condition.notify, condition, "x"), 1, true)
    assert.matches("bad argument #1 to 'notify' (", kind(condition.notify, condition, 1.5), 1, true)
    assert.matches("bad argument #1 to 'wait_for' (function expected, got ",
      kind(condition.wait_for, condition, 5), 1, true)
  end)

  it("are of no use outside a task", function()
    local condition, err = Condition(), nil
    moonloop.get_running_loop():call_soon(function()
      err = select(2, pcall(condition.acquire, condition))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("A condition's wait_for", function()
  it("gives the predicate's value at once when it is true", function()
    local condition = Condition()
    local _ <close> = condition:acquire()
    assert.equal("v", condition:wait_for(function() return "v" end))
    assert.is_true(condition:locked())
  end)

  it("waits until the predicate is true", function()
    local condition, value, calls = Condition(), nil, 0
    local waiter = tasks.start(function()
      local _ <close> = condition:acquire()
      return condition:wait_for(function()
        calls = calls + 1
        return value
      end)
    end)
    for i = 1, 3 do
      assert.equal(i, calls)
      if i == 3 then value = "there" end
      notify(condition)
      testing.wait_all_blocked()
    end
    assert.equal("there", waiter:await())
    assert.equal(4, calls)
  end)

  it("raises what the predicate raises, with the lock held", function()
    local condition, problem = Condition(), {}
    local waiter = tasks.start(function()
      local first = true
      condition:acquire()
      local _, err = pcall(condition.wait_for, condition, function()
        if not first then error(problem) end
        first = false
      end)
      condition:release()
      return err
    end)
    notify(condition)
    assert.equal(problem, waiter:await())
    assert.is_false(condition:locked())
  end)

  it("is raised a cancellation that is there already, also when the predicate is true", function()
    local condition, scope = Condition(), moonloop.CancelScope {}
    local _ <close> = condition:acquire()
    scope:cancel()
    assert.is_false(scope:run(condition.wait_for, condition, function() return true end))
    assert.is_true(condition:locked())
  end)
end)
