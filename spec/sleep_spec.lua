-- SPDX-License-Identifier: MIT
-- sleep, sleep_until, sleep_forever, and the fairness among tasks.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

describe("sleep", function()
  it("returns its result at once ready or later", function()
    assert.equal("r", moonloop.sleep(0, "r"))
    assert.equal("r", moonloop.sleep(0.001, "r"))
    assert.is_nil(moonloop.sleep(0))
    assert.equal("r", moonloop.sleep(-1, "r"))
  end)

  it("is cancelled while it waits", function()
    for _, seconds in ipairs { 60, math.huge } do
      local task = tasks.start(moonloop.sleep, seconds)
      assert.is_true(tasks.cancel(task))
    end
  end)

  it("is cancelled also when it only steps aside", function()
    local task
    task = moonloop.create_task(function()
      task:cancel()
      moonloop.sleep(0)
    end)
    tasks.outcome(task)
    assert.is_true(task:cancelled())
  end)

  it("is closed while it waits", function()
    local status, out, err = stock.closed("moonloop.sleep(60)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
    assert.matches("stubborn", err)
  end)

  it("wakes sleepers in the order of their times", function()
    local _ <close> = testing.virtual_clock()
    local list = {}
    for _, seconds in ipairs { 3, 1, 2, 1 } do
      moonloop.create_task(function()
        moonloop.sleep(seconds)
        list[#list + 1] = seconds
      end)
    end
    moonloop.sleep(4)
    assert.same({ 1, 1, 2, 3 }, list)
  end)

  it("never wakes early", function()
    local due = moonloop.time() + 0.003
    moonloop.sleep(0.003)
    assert.is_true(moonloop.time() >= due)
  end)

  it("says in words what its task waits for", function()
    local task = tasks.start(moonloop.sleep, 60)
    assert.matches("^sleep", task:awaiting())
    tasks.cancel(task)
  end)
end)

describe("sleep(0)", function()
  it("lets every ready task run once", function()
    local list = {}
    local function step(name)
      for i = 1, 3 do
        list[#list + 1] = name .. i
        moonloop.sleep(0)
      end
    end
    for _, name in ipairs { "a", "b", "c" } do moonloop.create_task(step, name) end
    moonloop.sleep(0)
    assert.same({ "a1", "b1", "c1" }, list)
    moonloop.sleep(0)
    assert.same({ "a1", "b1", "c1", "a2", "b2", "c2" }, list)
    testing.wait_all_blocked()
    assert.equal("c3", list[9])
  end)

  it("lets timers that are due and descriptors have their turn", function()
    local loop, fired = moonloop.get_running_loop(), false
    loop:call_later(0, function() fired = true end)
    for _ = 1, 1e6 do
      if fired then break end
      moonloop.sleep(0)
    end
    assert.is_true(fired)
  end)
end)

describe("sleep_until", function()
  it("waits for a time of the loop's clock", function()
    local _ <close> = testing.virtual_clock()
    local when = moonloop.time() + 100
    moonloop.sleep_until(when)
    assert.is_true(moonloop.time() >= when)
  end)

  it("returns when that time has passed, letting others run", function()
    local ran = false
    moonloop.create_task(function() ran = true end)
    moonloop.sleep_until(0)
    assert.is_true(ran)
  end)

  it("is cancelled while it waits", function()
    assert.is_true(tasks.cancel(tasks.start(moonloop.sleep_until, moonloop.time() + 60)))
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.sleep_until(moonloop.time() + 60)")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("sleep_forever", function()
  it("is ended by a cancellation alone", function()
    local task = tasks.start(moonloop.sleep_forever)
    moonloop.sleep(0.001)
    assert.is_false(task:done())
    assert.is_true(tasks.cancel(task))
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.sleep_forever()")
    assert.equal(stock.closed_output, out)
    assert.equal(0, status)
  end)
end)

describe("An await that can complete at once", function()
  local function ready(...)
    local future = moonloop.Future()
    future:set_result(...)
    return future
  end

  it("does so without letting others run", function()
    local ran = false
    local task = moonloop.create_task(function()
      local future = ready("v")
      moonloop.create_task(function() ran = true end)
      local value = future:await()
      return value, ran
    end)
    assert.same({ "v", false }, { moonloop.await(task) })
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("does so only so often before others get their turn", function()
    local stop, count = false, 0
    local future = ready()
    moonloop.create_task(function() stop = true end)
    while not stop and count < 1e6 do
      future:await()
      count = count + 1
    end
    assert.is_true(stop)
  end)

  it("leaves timers their turn too", function()
    local stop, count = false, 0
    local future = ready()
    moonloop.get_running_loop():call_later(0, function() stop = true end)
    while not stop and count < 1e7 do
      future:await()
      count = count + 1
    end
    assert.is_true(stop)
  end)

  it("raises a cancellation that is there already", function()
    local task
    task = moonloop.create_task(function()
      local future = ready("v")
      task:cancel()
      future:await()
    end)
    tasks.outcome(task)
    assert.is_true(task:cancelled())
  end)
end)

describe("Tasks that wake each other", function()
  it("do not keep timers from firing", function()
    local stop = false
    local function relay(own, other)
      while not stop do
        own.future:await()
        own.future = moonloop.Future()
        other.future:set_result()
      end
    end
    local a, b = { future = moonloop.Future() }, { future = moonloop.Future() }
    local first = moonloop.create_task(relay, a, b)
    local second = moonloop.create_task(relay, b, a)
    a.future:set_result()
    moonloop.sleep(0.002)
    stop = true
    testing.wait_all_blocked()
    first:cancel()
    second:cancel()
    tasks.outcome(first)
    tasks.outcome(second)
    assert.is_true(first:done() and second:done())
  end)
end)
