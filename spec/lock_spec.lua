-- SPDX-License-Identifier: MIT
-- Lock: hand-over in line, and cancellation on either side of it. What its holder
-- may do stands in lock_holder_spec.lua.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Lock, create_task = moonloop.Lock, moonloop.create_task

local kind = tasks.raised

-- A task that takes the lock, appends `name`, and lets go at once.
local function take(lock, list, name)
  return tasks.start({ name = name }, function()
    local _ <close> = lock:acquire()
    list[#list + 1] = name
  end)
end

-- A task that holds the lock until the future it gives second is set.
local function hold(lock)
  local gate = moonloop.Future()
  local task = tasks.start({ name = "holder" }, function()
    local _ <close> = lock:acquire()
    gate:await()
  end)
  return task, gate
end

-- A task that appends "acquired", then what its next await raises.
local function take_and_await(lock, list)
  return tasks.start(function()
    local _ <close> = lock:acquire()
    list[1] = "acquired"
    list[2] = kind(moonloop.sleep, 0)
  end)
end

describe("Lock", function()
  it("is free when it is new", function()
    assert.is_false(Lock():locked())
  end)

  it("is acquired at once when it is free, without letting others run", function()
    local ran = false
    local task = create_task(function()
      local lock = Lock()
      create_task(function() ran = true end)
      local _ <close> = lock:acquire()
      return lock:locked(), ran
    end)
    assert.same({ true, false }, { task:await() })
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("is acquired later when it is held", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local waiter = take(lock, list, "a")
    assert.same({}, list)
    lock:release()
    waiter:await()
    assert.same({ "a" }, list)
    assert.is_false(lock:locked())
  end)

  it("serves its waiters first in, first out", function()
    local lock, list = Lock(), {}
    lock:acquire()
    for i = 1, 10 do take(lock, list, i .. "") end
    lock:release()
    testing.wait_all_blocked()
    assert.equal("1 2 3 4 5 6 7 8 9 10", table.concat(list, " "))
  end)

  it("is handed over, so that nobody overtakes", function()
    local lock, list = Lock(), {}
    lock:acquire()
    take(lock, list, "waiter")
    lock:release()
    assert.is_true(lock:locked())
    lock:acquire()
    list[2] = "newcomer"
    lock:release()
    assert.same({ "waiter", "newcomer" }, list)
  end)
end)

describe("A lock", function()
  it("belongs to the task, whichever of its coroutines acquired it", function()
    local lock = Lock()
    local acquire = coroutine.wrap(function()
      lock:acquire()
      coroutine.yield()
    end)
    acquire()
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("lets others run although it is free each time", function()
    local lock, stop, count = Lock(), false, 0
    create_task(function() stop = true end)
    while not stop and count < 1e6 do
      local _ <close> = lock:acquire()
      count = count + 1
    end
    assert.is_true(stop)
  end)

  it("shows its name and its holder in tostring", function()
    local lock = Lock { name = "db" }
    assert.matches('^Lock.*"db"', tostring(lock))
    local holder = hold(lock)
    assert.matches("holder", tostring(lock), 1, true)
    tasks.cancel(holder)
    assert.is_nil(tostring(lock):find("holder", 1, true))
  end)

  it("is what its waiters say they wait for", function()
    for expected, lock in pairs { ["a lock"] = Lock(), ['lock "db"'] = Lock { name = "db" } } do
      lock:acquire()
      local waiter = tasks.start(lock.acquire, lock)
      assert.equal(expected, waiter:awaiting())
      tasks.cancel(waiter)
      lock:release()
    end
  end)

  it("takes no options but a name", function()
    assert.matches("bad argument #1 to 'Lock' (table expected, got number)",
      kind(Lock, 5), 1, true)
    assert.matches("bad argument #1 to 'Lock' (there is no option 'nam'; did you mean 'name'?)",
      kind(Lock, { nam = "db" }), 1, true)
    assert.matches("bad argument #1 to 'Lock' (option 'name': string expected, got number)",
      kind(Lock, { name = 5 }), 1, true)
  end)
end)

describe("A lock's methods", function()
  it("refuse another self, at the place of the call", function()
    local lock = Lock()
    for name, call in pairs {
      acquire = function() lock.acquire(5) end,
      release = function() lock.release(5) end,
      locked = function() local _ = lock.locked(5) end,
    } do
      assert.matches("^[^:]*lock_spec%.lua:%d+: bad argument #1 to '" .. name
        .. "' %(Lock expected, got number%)", kind(call))
    end
  end)

  it("cannot be acquired outside a task", function()
    local lock, err = Lock(), nil
    moonloop.get_running_loop():call_soon(function() err = select(2, pcall(lock.acquire, lock)) end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
    assert.is_false(lock:locked())
  end)
end)

describe("A task that waits for a lock", function()
  it("is cancelled while it waits and leaves the line", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local first = take(lock, list, "first")
    take(lock, list, "second")
    assert.is_true(tasks.cancel(first))
    assert.is_true(lock:locked())
    lock:release()
    testing.wait_all_blocked()
    assert.same({ "second" }, list)
  end)

  it("times out while it waits and leaves the line", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local lock = Lock()
    local holder, gate = hold(lock)
    assert.is_false((moonloop.move_on_after(5, lock.acquire, lock)))
    gate:set_result()
    holder:await()
    assert.is_false(lock:locked())
  end)

  it("is raised a cancellation that is there already, also when the lock is free", function()
    local lock = Lock()
    local scope = moonloop.CancelScope {}
    scope:cancel()
    assert.is_false(scope:run(lock.acquire, lock))
    assert.is_false(lock:locked())
  end)
end)

describe("A lock that is handed over", function()
  it("stays with a task that is cancelled after that", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local waiter = take_and_await(lock, list)
    lock:release()
    waiter:cancel()
    waiter:await()
    assert.same({ "acquired", "CancelledError" }, list)
    assert.is_false(lock:locked())
  end)

  it("goes to the next when the first was cancelled before", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local waiter = take_and_await(lock, list)
    take(lock, list, "next")
    waiter:cancel()
    lock:release()
    testing.wait_all_blocked()
    assert.is_true(waiter:cancelled())
    assert.same({ "next" }, list)
  end)

  it("stays with a task whose deadline passes after that", function()
    local lock, scope = Lock(), moonloop.CancelScope {}
    lock:acquire()
    local waiter = tasks.start(function()
      local entered, guard = scope:run(lock.acquire, lock)
      guard:release()
      return entered
    end)
    lock:release()
    scope.deadline = moonloop.time() - 1
    assert.is_true(waiter:await())
    assert.is_false(lock:locked())
  end)

  it("goes to the next when the first one's deadline passed before", function()
    local lock, scope, list = Lock(), moonloop.CancelScope {}, {}
    lock:acquire()
    local waiter = tasks.start(scope.run, scope, lock.acquire, lock)
    take(lock, list, "next")
    scope.deadline = moonloop.time() - 1
    lock:release()
    assert.is_false(waiter:await())
    testing.wait_all_blocked()
    assert.same({ "next" }, list)
    assert.is_false(lock:locked())
  end)
end)

describe("A task that is closed while it waits for a lock", function()
  it("leaves the line", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local waiter = take(lock, list, "closed")
    take(lock, list, "next")
    core.close_task(waiter)
    lock:release()
    testing.wait_all_blocked()
    assert.is_true(waiter:done())
    assert.same({ "next" }, list)
  end)

  it("passes it on when it was handed over before", function()
    local lock, list = Lock(), {}
    lock:acquire()
    local waiter = take(lock, list, "closed")
    take(lock, list, "next")
    lock:release()
    core.close_task(waiter)
    testing.wait_all_blocked()
    assert.same({ "next" }, list)
    assert.is_false(lock:locked())
  end)

  it("gives nothing back when it was cancelled before", function()
    local lock = Lock()
    lock:acquire()
    local waiter = tasks.start(lock.acquire, lock)
    waiter:cancel()
    core.close_task(waiter)
    assert.is_true(lock:locked())
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("frees it when it was handed over and nobody is next", function()
    local lock = Lock()
    lock:acquire()
    local waiter = tasks.start(lock.acquire, lock)
    lock:release()
    core.close_task(waiter)
    assert.is_true(waiter:done())
    assert.is_false(lock:locked())
  end)
end)

describe("A task that waits for a lock for ever", function()
  it("is named with the lock in a DeadlockError, and leaves the line", function()
    local lock = Lock { name = "db" }
    local holder, gate = hold(lock)
    local ok, err = pcall(lock.acquire, lock)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for lock "db"', err.message, 1, true)
    gate:set_result()
    holder:await()
    assert.is_false(lock:locked())
  end)
end)
