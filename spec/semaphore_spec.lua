-- SPDX-License-Identifier: MIT
-- Semaphore and BoundedSemaphore: permits go round in line, and none is lost or
-- doubled by cancellations, deadlines, closed tasks and guards.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Semaphore, BoundedSemaphore = moonloop.Semaphore, moonloop.BoundedSemaphore
local create_task = moonloop.create_task

local kind = tasks.raised

-- How many permits are free: takes them all, and gives them back.
local function permits(semaphore)
  local guards = {}
  while not semaphore:locked() do guards[#guards + 1] = semaphore:acquire() end
  for _, guard in ipairs(guards) do guard:release() end
  return #guards
end

-- A task that takes a permit, appends `name`, and gives it back at once.
local function take(semaphore, list, name)
  return tasks.start(function()
    local _ <close> = semaphore:acquire()
    list[#list + 1] = name
  end)
end

-- A task that appends "acquired", then what its next await raises.
local function take_and_await(semaphore, list)
  return tasks.start(function()
    local _ <close> = semaphore:acquire()
    list[1] = "acquired"
    list[2] = kind(moonloop.sleep, 0)
  end)
end

for _, name in ipairs { "Semaphore", "BoundedSemaphore" } do
  local class = moonloop[name]

  describe(name, function()
    it("has as many permits as it is told, one unless told", function()
      assert.equal(1, permits(class()))
      assert.equal(0, permits(class(0)))
      assert.equal(3, permits(class(3)))
      assert.is_false(class():locked())
      assert.is_true(class(0):locked())
    end)

    it("is acquired at once while there are permits, without letting others run", function()
      local ran = false
      local task = create_task(function()
        local semaphore = class(2)
        create_task(function() ran = true end)
        semaphore:acquire()
        local between = semaphore:locked()
        semaphore:acquire()
        return between, semaphore:locked(), ran
      end)
      assert.same({ false, true, false }, { task:await() })
      testing.wait_all_blocked()
      assert.is_true(ran)
    end)

    it("is acquired later when there is none, first in, first out", function()
      local semaphore, list = class(2), {}
      semaphore:acquire()
      semaphore:acquire()
      for i = 1, 10 do take(semaphore, list, i) end
      assert.same({}, list)
      semaphore:release()
      testing.wait_all_blocked()
      assert.equal("1 2 3 4 5 6 7 8 9 10", table.concat(list, " "))
      semaphore:release()
      assert.equal(2, permits(semaphore))
    end)

    it("hands its permit over, so that nobody overtakes", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      take(semaphore, list, "waiter")
      semaphore:release()
      assert.is_true(semaphore:locked())
      semaphore:acquire()
      list[2] = "newcomer"
      semaphore:release()
      assert.same({ "waiter", "newcomer" }, list)
    end)
  end)

  describe("A " .. name, function()
    it("lets others run although it is free each time", function()
      local semaphore, stop, count = class(1), false, 0
      create_task(function() stop = true end)
      while not stop and count < 1e6 do
        local _ <close> = semaphore:acquire()
        count = count + 1
      end
      assert.is_true(stop)
    end)

    it("is released where there is no task", function()
      local semaphore = class(1)
      semaphore:acquire()
      moonloop.get_running_loop():call_soon(semaphore.release, semaphore)
      local _ <close> = semaphore:acquire()
      assert.is_true(semaphore:locked())
    end)

    it("is what its waiters say they wait for", function()
      local named = class(0, { name = "pool" })
      for text, semaphore in pairs { ['semaphore "pool"'] = named, ["a semaphore"] = class(0) } do
        local waiter = tasks.start(semaphore.acquire, semaphore)
        assert.matches(text, waiter:awaiting(), 1, true)
        tasks.cancel(waiter)
      end
      assert.matches('^' .. name .. '.*"pool"', tostring(named))
      assert.matches('"p"', tostring(class { name = "p" }), 1, true)
    end)

    it("takes a number of permits and a name, and nothing else", function()
      for _, bad in ipairs { -1, 1.5, "x", true } do
        assert.matches("bad argument #1 to '" .. name .. "' (", kind(class, bad), 1, true)
      end
      assert.matches("bad argument #2 to '" .. name .. "' (there is no option 'nam'",
        kind(class, 1, { nam = "pool" }), 1, true)
      assert.matches("bad argument #2 to '" .. name .. "' (", kind(class, 1, 5), 1, true)
    end)

    it("cannot be acquired outside a task", function()
      local semaphore, err = class(1), nil
      moonloop.get_running_loop():call_soon(function()
        err = select(2, pcall(semaphore.acquire, semaphore))
      end)
      testing.wait_all_blocked()
      assert.equal("Error", err.kind)
      assert.matches("no running task", err.message, 1, true)
      assert.equal(1, permits(semaphore))
    end)
  end)

  describe("A task that waits for a " .. name, function()
    it("is cancelled while it waits and leaves the line", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      local first = take(semaphore, list, "first")
      take(semaphore, list, "second")
      assert.is_true(tasks.cancel(first))
      semaphore:release()
      testing.wait_all_blocked()
      assert.same({ "second" }, list)
      assert.equal(1, permits(semaphore))
    end)

    it("times out while it waits and leaves the line", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local semaphore = class(1)
      semaphore:acquire()
      assert.is_false((moonloop.move_on_after(5, semaphore.acquire, semaphore)))
      semaphore:release()
      assert.equal(1, permits(semaphore))
    end)

    it("is raised a cancellation that is there already, also when there are permits", function()
      local semaphore, scope = class(1), moonloop.CancelScope {}
      scope:cancel()
      assert.is_false(scope:run(semaphore.acquire, semaphore))
      assert.equal(1, permits(semaphore))
    end)
  end)

  describe("The permit of a " .. name, function()
    it("stays with a task that is cancelled after it was handed over", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      local waiter = take_and_await(semaphore, list)
      semaphore:release()
      waiter:cancel()
      waiter:await()
      assert.same({ "acquired", "CancelledError" }, list)
      assert.equal(1, permits(semaphore))
    end)

    it("goes to the next when the first was cancelled before", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      local waiter = take_and_await(semaphore, list)
      take(semaphore, list, "next")
      waiter:cancel()
      semaphore:release()
      testing.wait_all_blocked()
      assert.is_true(waiter:cancelled())
      assert.same({ "next" }, list)
      assert.equal(1, permits(semaphore))
    end)

    it("goes to a task or not as its deadline passes after the release or before", function()
      for _, first in ipairs { "release", "deadline" } do
        local semaphore, scope = class(1), moonloop.CancelScope {}
        local guard = semaphore:acquire()
        local waiter = tasks.start(function()
          local entered, own = scope:run(semaphore.acquire, semaphore)
          if entered then own:release() end
          return entered
        end)
        if first == "release" then guard:release() end
        scope.deadline = moonloop.time() - 1
        guard:release()
        assert.equal(first == "release", waiter:await())
        assert.equal(1, permits(semaphore))
      end
    end)
  end)

  describe("A task that is closed while it waits for a " .. name, function()
    it("leaves the line", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      local waiter = take(semaphore, list, "closed")
      take(semaphore, list, "next")
      core.close_task(waiter)
      assert.is_true(waiter:done())
      semaphore:release()
      testing.wait_all_blocked()
      assert.same({ "next" }, list)
      assert.equal(1, permits(semaphore))
    end)

    it("is unwound at the end of its run", function()
      local status, out = stock.closed(("moonloop.%s(0):acquire()"):format(name))
      assert.equal(stock.closed_output, out)
      assert.equal(0, status)
    end)

    it("passes its permit on when it was handed over before", function()
      local semaphore, list = class(1), {}
      semaphore:acquire()
      local waiter = take(semaphore, list, "closed")
      take(semaphore, list, "next")
      semaphore:release()
      core.close_task(waiter)
      testing.wait_all_blocked()
      assert.same({ "next" }, list)
      assert.equal(1, permits(semaphore))
    end)

    it("gives nothing back when it was cancelled before", function()
      local semaphore = class(1)
      semaphore:acquire()
      local waiter = tasks.start(semaphore.acquire, semaphore)
      waiter:cancel()
      core.close_task(waiter)
      assert.is_true(semaphore:locked())
      semaphore:release()
      assert.equal(1, permits(semaphore))
    end)

    it("frees its permit when nobody is next", function()
      local semaphore = class(1)
      semaphore:acquire()
      local waiter = tasks.start(semaphore.acquire, semaphore)
      semaphore:release()
      core.close_task(waiter)
      assert.equal(1, permits(semaphore))
    end)
  end)

  describe("A waiter of a " .. name, function()
    it("waits on when a task ends that kept its permit, until another releases", function()
      local semaphore, list = class(1), {}
      create_task(semaphore.acquire, semaphore):await()
      local waiter = take(semaphore, list, "waiter")
      assert.is_false(waiter:done())
      semaphore:release()
      waiter:await()
      assert.equal(1, permits(semaphore))
    end)

    it("goes on when a task ends that had a guard", function()
      for _, finish in ipairs { tasks.cancel, core.close_task } do
        local semaphore, list = class(1), {}
        local owner = tasks.start(function()
          local _ <close> = semaphore:acquire()
          moonloop.sleep_forever()
        end)
        local waiter = take(semaphore, list, "waiter")
        finish(owner)
        waiter:await()
        assert.same({ "waiter" }, list)
      end
    end)

    it("is named with the semaphore in a DeadlockError, and leaves the line", function()
      local semaphore = class(1, { name = "pool" })
      semaphore:acquire()
      local ok, err = pcall(semaphore.acquire, semaphore)
      assert.is_false(ok)
      assert.equal("DeadlockError", err.kind)
      assert.matches('semaphore "pool"', err.message, 1, true)
      semaphore:release()
      assert.equal(1, permits(semaphore))
    end)
  end)

  describe("A guard of a " .. name, function()
    it("gives the permit back once, when its block is left", function()
      local semaphore = class(3)
      do
        local guard <close> = semaphore:acquire()
        guard:release()
        guard:release()
        assert.is_false(semaphore:locked())
      end
      assert.equal(3, permits(semaphore))
      assert.is_false(pcall(function()
        local _ <close> = semaphore:acquire()
        error("left", 0)
      end))
      assert.equal(3, permits(semaphore))
    end)

    it("is quiet when its task released explicitly, the latest guard first", function()
      local semaphore = class(3)
      local first, second = semaphore:acquire(), semaphore:acquire()
      semaphore:release()
      second:release()
      assert.equal(2, permits(semaphore))
      first:release()
      assert.equal(3, permits(semaphore))
    end)

    it("belongs to its task: another one's release leaves it open", function()
      local semaphore = class(3)
      local first, second = semaphore:acquire(), semaphore:acquire()
      create_task(semaphore.release, semaphore):await()
      assert.equal(2, permits(semaphore))
      first:release()
      assert.equal(3, permits(semaphore))
      pcall(second.release, second)
      assert.equal(name == "Semaphore" and 4 or 3, permits(semaphore))
    end)
  end)
end

describe("Semaphore", function()
  it("keeps no guard that its task has dropped", function()
    local semaphore, dropped = Semaphore(3), setmetatable({}, { __mode = "k" })
    local held = semaphore:acquire()
    dropped[semaphore:acquire()] = true
    local last = semaphore:acquire()
    collectgarbage()
    assert.is_nil(next(dropped))
    semaphore:release() -- stands for `last`, then for `held`
    semaphore:release()
    last:release()
    held:release()
    assert.equal(2, permits(semaphore))
  end)

  it("has one permit more after each release", function()
    local semaphore = Semaphore(0)
    for i = 1, 3 do
      semaphore:release()
      assert.equal(i, permits(semaphore))
    end
  end)
end)

describe("BoundedSemaphore", function()
  it("has never more permits than at its start", function()
    local semaphore = BoundedSemaphore(2)
    assert.equal("InvalidStateError", kind(semaphore.release, semaphore))
    assert.equal(2, permits(semaphore))
    semaphore:acquire()
    semaphore:release()
    assert.equal("InvalidStateError", kind(semaphore.release, semaphore))
    assert.equal(2, permits(semaphore))
  end)
end)
