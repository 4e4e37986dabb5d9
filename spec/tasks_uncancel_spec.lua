-- SPDX-License-Identifier: MIT
-- A cancellation that is taken back between its request and the turn in which
-- the task hears of it: the await was given up all the same, and says so. And
-- uncancel where there is nothing left to take back.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local WAITS = {
  ["sleep"] = function() return moonloop.sleep(3600, "slept") end,
  ["sleep_forever"] = moonloop.sleep_forever,
  ["a future's await"] = function() return moonloop.Future():await() end,
  ["the await of a function"] = function() return moonloop.await(moonloop.sleep_forever) end,
  ["wait_all_blocked"] = function()
    -- Somebody is always ready while it waits.
    local busy = true
    local _ <close> = setmetatable({}, { __close = function() busy = false end })
    moonloop.create_task(function() while busy do moonloop.sleep(0) end end)
    moonloop.testing.wait_all_blocked()
  end,
}

-- Lets a task stop in `wait`, cancels it, takes that back at once, and gives
-- what `wait` answered and what the next await did.
local function take_back(wait)
  local task = moonloop.create_task(function()
    local ok, err = pcall(wait)
    return ok, err, moonloop.sleep(0, "free again")
  end)
  moonloop.sleep(0)
  assert.is_true(task:cancel())
  assert.equal(0, task:uncancel())
  return task:await()
end

local function is_cancelled(ok, err, after)
  assert.is_false(ok)
  assert.is_true(moonloop.is_error(err, "CancelledError"))
  assert.equal("free again", after)
end

describe("A cancellation taken back before the task runs", function()
  for name, wait in pairs(WAITS) do
    it("is raised by " .. name .. ", and the task is free then", function()
      is_cancelled(take_back(wait))
    end)
  end

  it("is raised by the await of a task, which goes on", function()
    local other = moonloop.create_task(moonloop.sleep_forever)
    is_cancelled(take_back(function() return other:await() end))
    assert.is_false(other:done())
    assert.is_true(tasks.cancel(other))
  end)

  it("is no end of file for a stream's readers", function()
    local pair <close> = net.pair()
    for _, name in ipairs({ "read", "readline", "readexactly" }) do
      is_cancelled(take_back(function() return pair.client[name](pair.client, 9) end))
    end
    pair.peer:write("still here")
    assert.equal("still here", pair.client:readexactly(10))
  end)

  it("is raised by a drain that waits", function()
    local pair <close> = net.pair()
    net.fill(pair.client)
    is_cancelled(take_back(function() return pair.client:drain() end))
    is_cancelled(take_back(function() return pair.client:write("more") end))
  end)

  it("is raised inside a generator", function()
    is_cancelled(take_back(function()
      return coroutine.wrap(function() return moonloop.sleep(3600) end)()
    end))
  end)

  it("leaves a result that was there already", function()
    local future = moonloop.Future()
    local task = tasks.start(function() return future:await() end)
    future:set_result("mine")
    task:cancel()
    task:uncancel()
    assert.equal("mine", task:await())
  end)
end)

describe("A cancelled task's second await", function()
  it("raises CancelledError though all is taken back in its turn of waiting", function()
    local task = moonloop.create_task(function()
      local first = pcall(moonloop.sleep_forever)
      local second, err = pcall(moonloop.sleep, 0, "slept")
      return first, second, err, moonloop.sleep(0, "free again")
    end)
    moonloop.sleep(0)
    task:cancel()
    moonloop.sleep(0)
    task:uncancel()
    local first, second, err, after = task:await()
    assert.is_false(first)
    is_cancelled(second, err, after)
  end)
end)

describe("uncancel of a task that has ended", function()
  -- In a process of its own: what is given back twice is missed only later.
  for how, fn in pairs {
    ["cancelled"] = "moonloop.sleep_forever",
    ["well, though it was cancelled"] = "function() pcall(moonloop.sleep_forever) end",
    ["before it began"] = "function() end",
  } do
    it(how .. " leaves the messages and callbacks of others alone", function()
      local status, out, err = stock.moonloop(([[
        local moonloop = require "moonloop"
        local loop = moonloop.get_running_loop()
        local task = moonloop.create_task(%s)
        if %s then moonloop.sleep(0) end
        task:cancel("message")
        pcall(moonloop.await, task)
        loop:call_soon(print, "first")
        task:uncancel()
        loop:call_soon(print, "second")
        loop:call_soon(print, "third")
        moonloop.sleep(0)
        moonloop.sleep(0)
      ]]):format(fn, how ~= "before it began"))
      assert.equal("first\nsecond\nthird\n", out)
      assert.equal("", err)
      assert.equal(0, status)
    end)
  end

  it("leaves its outcome", function()
    local task = tasks.start(moonloop.sleep_forever)
    assert.is_true(tasks.cancel(task, "message"))
    task:uncancel()
    assert.is_true(task:cancelled())
    assert.equal("message", select(2, pcall(moonloop.await, task)).message)
  end)
end)

describe("A task that is cancelled very often", function()
  it("has each time counted, and is free only when all are taken back", function()
    local N <const> = 65536
    local task = moonloop.create_task(function()
      pcall(moonloop.sleep_forever)
      local task = moonloop.current_task()
      for _ = 2, N do task:uncancel() end
      local still, err = pcall(moonloop.sleep, 0)
      task:uncancel()
      return still, err, moonloop.sleep(0, "free again")
    end)
    moonloop.sleep(0)
    for _ = 1, N do task:cancel() end
    assert.equal(N, task:cancelling())
    is_cancelled(task:await())
  end)
end)
