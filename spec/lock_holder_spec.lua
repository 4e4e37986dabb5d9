-- SPDX-License-Identifier: MIT
-- The holder of a Lock: who may release it, what becomes of a lock whose holder
-- ends, and the guard that each acquisition gives.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
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

describe("The holder of a lock", function()
  it("cannot acquire it again", function()
    local lock = Lock()
    lock:acquire()
    assert.equal("InvalidStateError", kind(lock.acquire, lock))
    assert.is_true(lock:locked())
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("alone may release it", function()
    local lock = Lock { name = "db" }
    local holder, gate = hold(lock)
    local err = tasks.failure({ name = "x" }, lock.release, lock)
    assert.equal("InvalidStateError", err.kind)
    assert.equal([[lock "db" is held by task 'holder', not by task 'x']], err.message)
    local refused
    moonloop.get_running_loop():call_soon(function() refused = not pcall(lock.release, lock) end)
    testing.wait_all_blocked()
    assert.same({ true, true }, { refused, lock:locked() })
    gate:set_result()
    holder:await()
  end)

  it("is nobody when the lock is free, and release says so", function()
    local lock = Lock { name = "db" }
    local err = tasks.failure(lock.release, lock)
    assert.equal("InvalidStateError", err.kind)
    assert.equal('lock "db" is not held', err.message)
  end)
end)

describe("A holder of a lock", function()
  it("that ends without releasing fails those who wait and those who come", function()
    local lock, gate = Lock(), moonloop.Future()
    local careless = tasks.start({ name = "careless" }, function()
      lock:acquire()
      gate:await()
    end)
    local waiters = { tasks.start(lock.acquire, lock), tasks.start(lock.acquire, lock) }
    gate:set_result()
    careless:await()
    for i = 1, 3 do
      local ok, err = pcall(moonloop.await, waiters[i] or create_task(lock.acquire, lock))
      assert.is_false(ok)
      assert.equal("InvalidStateError", err.kind)
      assert.matches("'careless'", err.message, 1, true)
    end
  end)

  it("that ends and leaves its guard to another, which releases it, breaks nothing", function()
    local lock, gate = Lock(), moonloop.Future()
    local careless = tasks.start(function()
      local guard = lock:acquire()
      gate:await()
      return guard
    end)
    local waiter = take(lock, {}, "waiter")
    gate:set_result()
    careless:await():release()
    local ok, err = tasks.outcome(waiter)
    assert.is_true(ok or moonloop.is_error(err, "InvalidStateError"), tostring(err))
    lock:acquire()
    lock:release()
    assert.is_false(lock:locked())
  end)
end)

describe("A careless holder of a lock", function()
  it("that fails or is cancelled without releasing fails those who wait", function()
    for _, last in ipairs { error, moonloop.sleep_forever } do
      local lock, gate = Lock(), moonloop.Future()
      local careless = tasks.start(function()
        lock:acquire()
        gate:await()
        last("failed", 0)
      end)
      local waiter = tasks.start(lock.acquire, lock)
      gate:set_result()
      careless:cancel()
      pcall(careless.await, careless)
      assert.equal("InvalidStateError", kind(waiter.await, waiter))
    end
  end)

  it("that is closed by force lets go by its guard", function()
    local lock, list = Lock(), {}
    local holder = hold(lock)
    take(lock, list, "next")
    core.close_task(holder)
    testing.wait_all_blocked()
    assert.same({ "next" }, list)
  end)
end)

describe("A main task that ends with a lock", function()
  for how, leave in pairs { well = "", ["with an error"] = 'error("the only report", 0)' } do
    it(how .. " has no waiter report what its cancellation spares it", function()
      local _, out, err = stock.moonloop(([[
        local moonloop = require "moonloop"
        local lock = moonloop.Lock()
        lock:acquire()
        for i = 1, 100 do
          moonloop.create_task(function()
            local ok, e = pcall(lock.acquire, lock)
            if not ok and e.kind == "CancelledError" then io.write(".") end
            error(e, 0)
          end)
        end
        moonloop.sleep(0)
        %s
      ]]):format(leave))
      assert.equal(("."):rep(100), out)
      assert.is_nil(err:find("error in task", 1, true))
      assert.is_nil(err:find("ended without releasing", 1, true))
    end)
  end
end)

describe("A lock's guard", function()
  it("releases when its block is left, also by an error or a cancellation", function()
    local lock = Lock()
    for _, leave in ipairs { type, error, moonloop.sleep_forever } do
      local task = tasks.start(function()
        local _ <close> = lock:acquire()
        leave("left", 0)
      end)
      task:cancel()
      pcall(task.await, task)
      assert.is_false(lock:locked())
    end
  end)

  it("releases once", function()
    local lock = Lock()
    local guard = lock:acquire()
    guard:release()
    assert.is_false(lock:locked())
    local holder, gate = hold(lock)
    guard:release()
    assert.is_true(lock:locked())
    gate:set_result()
    holder:await()
  end)

  it("is quiet after an explicit release", function()
    local lock = Lock()
    do
      local _ <close> = lock:acquire()
      lock:release()
    end
    assert.is_false(lock:locked())
  end)

  it("releases its own acquisition only", function()
    local lock = Lock()
    local first = lock:acquire()
    lock:release()
    local second = lock:acquire()
    first:release()
    assert.is_true(lock:locked())
    second:release()
    assert.is_false(lock:locked())
  end)
end)
