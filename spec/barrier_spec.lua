-- SPDX-License-Identifier: MIT
-- Barrier: as many tasks as it has parties go on together, numbered as they came;
-- one that is cancelled or closed just leaves; reset and abort.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Barrier, create_task = moonloop.Barrier, moonloop.create_task

local kind = tasks.raised

-- A task that appends what wait answers or raises.
local function arrive(barrier, list)
  return tasks.start(function()
    local ok, result = pcall(barrier.wait, barrier)
    list[#list + 1] = ok and result or result.kind
  end)
end

-- A task that appends what wait answers, then what its next await raises.
local function arrive_and_await(barrier, list)
  return tasks.start(function()
    list[1] = barrier:wait()
    list[2] = kind(moonloop.sleep, 0)
  end)
end

-- The numbers that a whole round of tasks gets, in the order they came.
local function round(barrier)
  local all, numbers = {}, {}
  for i = 1, barrier.parties do all[i] = tasks.start(barrier.wait, barrier) end
  for i, task in ipairs(all) do numbers[i] = task:await() end
  return table.concat(numbers, " ")
end

describe("Barrier", function()
  it("begins whole and empty", function()
    local barrier = Barrier(3)
    assert.equal(3, barrier.parties)
    assert.equal(0, barrier.n_waiting)
    assert.is_false(barrier.broken)
  end)

  it("is passed at once by the last one, without letting others run", function()
    local barrier, list = Barrier(2), {}
    arrive(barrier, list)
    local last = create_task(function()
      local number = barrier:wait()
      list[#list + 1] = number
    end)
    last:await()
    testing.wait_all_blocked()
    assert.same({ 2, 1 }, list)
  end)

  it("is passed later by those who came before", function()
    local barrier, list = Barrier(3), {}
    for i = 1, 2 do
      arrive(barrier, list)
      assert.equal(i, barrier.n_waiting)
    end
    assert.same({}, list)
    assert.equal(3, barrier:wait())
    assert.equal(0, barrier.n_waiting)
    testing.wait_all_blocked()
    assert.same({ 1, 2 }, list)
  end)

  it("numbers them as they came, round after round", function()
    local barrier = Barrier(5)
    for _ = 1, 3 do assert.equal("1 2 3 4 5", round(barrier)) end
    assert.is_false(barrier.broken)
  end)
end)

describe("A barrier", function()
  it("of one party holds nobody up, and lets others run all the same", function()
    local barrier, stop, count = Barrier(1), false, 0
    create_task(function() stop = true end)
    while not stop and count < 1e6 do
      assert(barrier:wait() == 1)
      count = count + 1
    end
    assert.is_true(stop)
  end)

  it("is what its waiters say they wait for", function()
    local named = Barrier(2, { name = "start" })
    for expected, barrier in pairs { ['barrier "start"'] = named, ["a barrier"] = Barrier(2) } do
      local waiter = tasks.start(barrier.wait, barrier)
      assert.equal(expected, waiter:awaiting())
      tasks.cancel(waiter)
    end
    assert.matches('^Barrier.*"start"', tostring(named))
  end)

  it("takes a number of parties and a name, and nothing else", function()
    for _, bad in ipairs { 0, -1, 1.5, "x", {} } do
      assert.matches("bad argument #1 to 'Barrier' (", kind(Barrier, bad), 1, true)
    end
    assert.matches("bad argument #1 to 'Barrier' (", kind(Barrier), 1, true)
    assert.matches("bad argument #2 to 'Barrier' (there is no option 'nam'",
      kind(Barrier, 2, { nam = "start" }), 1, true)
  end)

  it("cannot be waited for outside a task", function()
    local barrier, err = Barrier(1), nil
    moonloop.get_running_loop():call_soon(function()
      err = select(2, pcall(barrier.wait, barrier))
    end)
    testing.wait_all_blocked()
    assert.equal("Error", err.kind)
    assert.matches("no running task", err.message, 1, true)
  end)
end)

describe("A task that waits for a barrier", function()
  it("is cancelled while it waits and just leaves", function()
    local barrier, list = Barrier(3), {}
    local first = arrive(barrier, {})
    arrive(barrier, list)
    first:cancel()
    assert.equal(1, barrier.n_waiting)
    first:await()
    arrive(barrier, list)
    assert.same({}, list)
    assert.is_false(barrier.broken)
    assert.equal(3, barrier:wait())
    testing.wait_all_blocked()
    assert.same({ 1, 2 }, list)
  end)

  it("times out while it waits and just leaves", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local barrier = Barrier(2)
    assert.is_false((moonloop.move_on_after(5, barrier.wait, barrier)))
    assert.equal(0, barrier.n_waiting)
    assert.equal("1 2", round(barrier))
  end)

  it("is raised a cancellation that is there already, also as the last one", function()
    local barrier, list, scope = Barrier(2), {}, moonloop.CancelScope {}
    arrive(barrier, list)
    scope:cancel()
    assert.is_false(scope:run(barrier.wait, barrier))
    assert.equal(1, barrier.n_waiting)
    assert.equal(2, barrier:wait())
    testing.wait_all_blocked()
    assert.same({ 1 }, list)
  end)
end)

describe("A waiter of a barrier", function()
  it("has passed when it is cancelled after the last one came", function()
    local barrier, list = Barrier(2), {}
    local waiter = arrive_and_await(barrier, list)
    local task = create_task(function()
      local number = barrier:wait()
      waiter:cancel()
      return number
    end)
    assert.equal(2, task:await())
    waiter:await()
    assert.same({ 1, "CancelledError" }, list)
  end)

  it("has not when it was cancelled before the last one came", function()
    local barrier, list = Barrier(2), {}
    local waiter = arrive_and_await(barrier, list)
    local task = tasks.start(function()
      waiter:cancel()
      return barrier:wait()
    end)
    assert.is_true(waiter:cancelled())
    assert.is_false(task:done())
    assert.equal(2, barrier:wait())
    assert.equal(1, task:await())
  end)

  it("has passed or not as the deadline passes after or before the last one came", function()
    for _, first in ipairs { "last", "deadline" } do
      local barrier, scope = Barrier(2), moonloop.CancelScope {}
      local waiter = tasks.start(scope.run, scope, barrier.wait, barrier)
      local last = tasks.start(function()
        if first == "last" then barrier:wait() end
        scope.deadline = moonloop.time() - 1
      end)
      last:await()
      assert.equal(first == "last", (waiter:await()))
      assert.equal(0, barrier.n_waiting)
    end
  end)
end)

describe("A task that is closed while it waits for a barrier", function()
  it("just leaves", function()
    local barrier, list = Barrier(2), {}
    local waiter = arrive(barrier, list)
    core.close_task(waiter)
    assert.is_true(waiter:done())
    assert.equal(0, barrier.n_waiting)
    assert.equal("1 2", round(barrier))
    assert.same({}, list)
  end)

  it("is unwound at the end of its run", function()
    local status, out = stock.closed("moonloop.Barrier(2):wait()")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)

  it("holds no other up when the last one came before", function()
    local barrier, list = Barrier(3), {}
    local waiter = arrive(barrier, list)
    arrive(barrier, list)
    local last = create_task(function()
      barrier:wait()
      core.close_task(waiter)
    end)
    last:await()
    testing.wait_all_blocked()
    assert.same({ 2 }, list)
    assert.equal("1 2 3", round(barrier))
  end)
end)

describe("Those who wait for a barrier", function()
  it("wait on when one that was to come ends, and pass with another", function()
    local barrier, list = Barrier(2), {}
    arrive(barrier, list)
    assert.equal("on its way", tasks.failure(error, "on its way", 0))
    assert.same({}, list)
    assert.equal(2, barrier:wait())
    testing.wait_all_blocked()
    assert.same({ 1 }, list)
  end)

  it("are named with it in a DeadlockError, and leave", function()
    local barrier = Barrier(2, { name = "start" })
    local ok, err = pcall(barrier.wait, barrier)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for barrier "start"', err.message, 1, true)
    assert.equal(0, barrier.n_waiting)
  end)
end)

describe("A barrier's reset", function()
  it("raises BrokenBarrierError where tasks wait, and the barrier is whole again", function()
    local barrier, list = Barrier(3), {}
    arrive(barrier, list)
    arrive(barrier, list)
    barrier:reset()
    assert.equal(0, barrier.n_waiting)
    assert.is_false(barrier.broken)
    testing.wait_all_blocked()
    assert.same({ "BrokenBarrierError", "BrokenBarrierError" }, list)
    assert.equal("1 2 3", round(barrier))
  end)

  it("does nothing to an empty barrier", function()
    local barrier = Barrier(2)
    barrier:reset()
    assert.is_false(barrier.broken)
    assert.equal("1 2", round(barrier))
  end)

  it("takes nothing back from those who have passed in the same turn", function()
    for _, what in ipairs { "reset", "abort" } do
      local barrier, list = Barrier(2), {}
      arrive(barrier, list)
      local last = create_task(function()
        local number = barrier:wait()
        list[#list + 1] = number
        barrier[what](barrier)
      end)
      last:await()
      testing.wait_all_blocked()
      assert.same({ 2, 1 }, list)
    end
  end)
end)

describe("A barrier's abort", function()
  it("breaks it for those who wait and those who come, until it is reset", function()
    local barrier, list = Barrier(2), {}
    arrive(barrier, list)
    barrier:abort()
    assert.is_true(barrier.broken)
    assert.equal(0, barrier.n_waiting)
    testing.wait_all_blocked()
    assert.same({ "BrokenBarrierError" }, list)
    assert.equal("BrokenBarrierError", kind(barrier.wait, barrier))
    assert.is_true(barrier.broken)
    barrier:reset()
    assert.is_false(barrier.broken)
    assert.equal("1 2", round(barrier))
  end)

  it("is seen by a waiter that is cancelled after it, not by one cancelled before", function()
    for _, first in ipairs { "abort", "cancel" } do
      local barrier, list = Barrier(2), {}
      local waiter = arrive(barrier, list)
      if first == "abort" then barrier:abort() end
      waiter:cancel()
      barrier:abort()
      waiter:await()
      assert.same({ first == "abort" and "BrokenBarrierError" or "CancelledError" }, list)
    end
  end)

  it("yields to a cancellation that is there already", function()
    local barrier, scope = Barrier(2), moonloop.CancelScope {}
    barrier:abort()
    scope:cancel()
    assert.is_false(scope:run(barrier.wait, barrier))
  end)
end)
