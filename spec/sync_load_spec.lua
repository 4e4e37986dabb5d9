-- SPDX-License-Identifier: MIT
-- Locks, events and queues with as much as they are made for: a hundred thousand
-- waiters, a million items, and the order kept all the same.
local moonloop = require "moonloop"
local testing = moonloop.testing

local WAITERS, ITEMS, SIDE = 100000, 1000000, 4

-- Makes `count` tasks of `fn(i)`, and gives the function that awaits them.
local function start_many(count, fn)
  local all = {}
  for i = 1, count do all[i] = moonloop.create_task(fn, i) end
  return function()
    for i = 1, count do all[i]:await() end
  end
end

-- The first place where `list` is not 1, 2, ..., `count`; nil when it is that.
local function out_of_order(list, count)
  for i = 1, math.max(count, #list) do
    if list[i] ~= i then return i end
  end
end

describe("100,000 tasks", function()
  it("that wait for one event wake in order #load", function()
    local event, list = moonloop.Event(), {}
    local join = start_many(WAITERS, function(i)
      event:wait()
      list[#list + 1] = i
    end)
    testing.wait_all_blocked()
    assert.equal(0, #list)
    event:set()
    event:clear()
    join()
    assert.is_nil(out_of_order(list, WAITERS))
  end)

  it("that wait for one event leave it when they are cancelled, in any order #load", function()
    local event, woken, all = moonloop.Event(), 0, {}
    for i = 1, WAITERS do
      all[i] = moonloop.create_task(function()
        event:wait()
        woken = woken + 1
      end)
    end
    testing.wait_all_blocked()
    for i = 1, WAITERS, 2 do all[i]:cancel() end
    for i = WAITERS, 1, -4 do all[i]:cancel() end
    event:set()
    testing.wait_all_blocked()
    assert.equal(WAITERS // 4, woken)
  end)
end)

describe("100,000 tasks in line", function()
  it("get one lock in the order they asked for it, twice #load", function()
    local lock, list, inside = moonloop.Lock(), {}, 0
    lock:acquire()
    local join = start_many(WAITERS, function(i)
      for round = 0, 1 do
        local _ <close> = lock:acquire()
        inside = inside + 1
        assert(inside == 1, "two tasks hold the lock")
        if i % 1000 == 0 then moonloop.sleep(0) end
        inside = inside - 1
        list[#list + 1] = round * WAITERS + i
      end
    end)
    testing.wait_all_blocked()
    lock:release()
    join()
    assert.is_nil(out_of_order(list, 2 * WAITERS))
    assert.is_false(lock:locked())
  end)

  it("share ten permits, first in, first out #load", function()
    local semaphore, list, inside, most = moonloop.Semaphore(10), {}, 0, 0
    local join = start_many(WAITERS, function(i)
      local _ <close> = semaphore:acquire()
      list[#list + 1] = i
      inside = inside + 1
      most = math.max(most, inside)
      moonloop.sleep(0)
      inside = inside - 1
    end)
    join()
    assert.equal(10, most)
    assert.is_nil(out_of_order(list, WAITERS))
  end)
end)

describe("A million items", function()
  -- Lets SIDE producers put 1 to ITEMS between them, and SIDE consumers get all.
  -- Returns how often each was got; fails when an item overtook another.
  local function pass(queue)
    local seen = {}
    for i = 1, ITEMS do seen[i] = 0 end
    local consumed = start_many(SIDE, function()
      local last = {}
      for item in queue:iter() do
        seen[item] = seen[item] + 1
        local producer = item % SIDE
        assert(item > (last[producer] or 0), "an item overtook another")
        last[producer] = item
      end
    end)
    local produced = start_many(SIDE, function(i)
      for item = i, ITEMS, SIDE do queue:put(item) end
    end)
    produced()
    queue:shutdown()
    consumed()
    return seen
  end

  it("pass a bounded queue, none lost or doubled or overtaken #load", function()
    local queue, wrong = moonloop.Queue(100), 0
    for _, count in ipairs(pass(queue)) do
      if count ~= 1 then wrong = wrong + 1 end
    end
    assert.equal(0, wrong)
    assert.is_true(queue:empty())
  end)
end)

describe("100,000 items", function()
  it("come out of a priority queue in their order #load", function()
    local queue, list = moonloop.PriorityQueue(), {}
    local factor = 7919 -- a prime: every remainder comes once
    for i = 1, WAITERS do queue:put_nowait(i * factor % WAITERS + 1) end
    for i = 1, WAITERS do list[i] = queue:get_nowait() end
    assert.is_nil(out_of_order(list, WAITERS))
  end)

  it("pass a queue of one by hand-over, in order #load", function()
    local queue, list = moonloop.Queue(1), {}
    local join = start_many(1, function()
      for i = 1, WAITERS do queue:put(i) end
    end)
    for i = 1, WAITERS do list[i] = queue:get() end
    join()
    assert.is_nil(out_of_order(list, WAITERS))
  end)
end)
