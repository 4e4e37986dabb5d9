-- SPDX-License-Identifier: MIT
-- What the calls that wait for several things take and give back: words of
-- asyncio, options in the wrong table, results that nobody else has, locks that
-- a called function acquires, loops that several tasks draw from.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local Queue, Future = moonloop.Queue, moonloop.Future

local function nap() moonloop.sleep(0) end

-- The message that a call fails with.
local function refusal(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(err)
end

describe("wait with a word of asyncio", function()
  it("has it as a field of the library too", function()
    local first = Future()
    first:set_result()
    local never = Future()
    local done, pending = moonloop.wait({ first, never },
      { return_when = moonloop.FIRST_COMPLETED })
    assert.equal(first, done[1])
    assert.equal(never, pending[1])
    for _, word in ipairs { "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED" } do
      assert.equal(word, moonloop[word])
    end
  end)
end)

describe("An option in the list of awaitables", function()
  for _, name in ipairs { "wait", "as_completed", "race" } do
    it("is refused by " .. name .. ", by its name", function()
      local ran = false
      local message = refusal(moonloop[name], { function() ran = true end, timeout = 1 })
      assert.matches("bad argument #1 to '" .. name .. "'", message, 1, true)
      assert.matches("'timeout'", message, 1, true)
      nap()
      assert.is_false(ran)
    end)
  end

  it("may be the length", function()
    local done = moonloop.wait { nap, nap, n = 2 }
    assert.equal(2, #done)
    assert.equal(1, moonloop.race { function() return 1 end, n = 1 })
  end)
end)

describe("An item got by a function of", function()
  local CALLS = {
    gather = function(fn) return moonloop.gather(fn) end,
    ["gather with a list"] = function(fn)
      return moonloop.gather({ fn }, { return_exceptions = true })[1]
    end,
    race = function(fn) return moonloop.race { fn } end,
    ["race with others"] = function(fn) return moonloop.race { fn, moonloop.sleep_forever } end,
  }

  for name, call in pairs(CALLS) do
    -- What came of a get whose item and whose call's cancellation come in the
    -- order given: its value, what the next await raised, what is left.
    local function outcome(first, second)
      local queue, value, after = Queue(), nil, nil
      local task = tasks.start(function()
        value = call(function() return queue:get() end)
        after = select(2, pcall(nap)).kind
      end)
      local acts = {
        put = function() queue:put_nowait("item") end,
        cancel = function() task:cancel() end,
      }
      acts[first]()
      acts[second]()
      pcall(moonloop.await, task)
      return value, after, queue:qsize()
    end

    it(name .. " is returned though the call is cancelled in that turn", function()
      local value, after, left = outcome("put", "cancel")
      assert.equal("item", value)
      assert.equal("CancelledError", after)
      assert.equal(0, left)
    end)

    it(name .. " is not lost when the cancellation came first", function()
      local value, _, left = outcome("cancel", "put")
      assert.equal(value and 0 or 1, left)
    end)
  end

  it("each of many consumers is lost nowhere, whenever they are cancelled", function()
    for _, name in ipairs { "gather", "race" } do
      local queue, got, N = Queue(), {}, 200
      local function consume()
        while true do
          local item = CALLS[name](function() return queue:get() end)
          got[item] = (got[item] or 0) + 1
        end
      end
      local consumers = {}
      for i = 1, 4 do consumers[i] = tasks.start(consume) end
      for i = 1, N do
        queue:put_nowait(i)
        if i % 3 == 0 then nap() end
        local place = i % 4 + 1
        consumers[place]:cancel()
        pcall(moonloop.await, consumers[place])
        consumers[place] = moonloop.create_task(consume)
        if i % 2 == 0 then nap() end
      end
      testing.wait_all_blocked()
      for i = 1, N do assert.equal(1, got[i]) end
      for i = 1, 4 do tasks.cancel(consumers[i]) end
    end
  end)
end)

describe("A lock acquired under wait_for", function()
  it("is the caller's, and so is its guard", function()
    local lock, own = moonloop.Lock { name = "db" }, nil
    do
      local _ <close> = moonloop.wait_for(function()
        own = moonloop.current_task()
        return lock:acquire()
      end, 3600)
      assert.equal(moonloop.current_task(), own)
      local other = tasks.start(lock.acquire, lock)
      assert.is_false(other:done())
      tasks.cancel(other)
    end
    assert.is_false(lock:locked())
    moonloop.wait_for(function() return lock:acquire() end)
    lock:release()
    assert.is_false(lock:locked())
  end)

  it("may be a condition's, which is waited for", function()
    local condition = moonloop.Condition()
    local task = tasks.start(function()
      local _ <close> = condition:acquire()
      return moonloop.wait_for(function() return condition:wait() end, 3600)
    end)
    do
      local _ <close> = condition:acquire()
      condition:notify()
    end
    assert.is_true(task:await())
    assert.is_false(condition:locked())
  end)

  it("is acquired by nobody when the time is over", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local lock = moonloop.Lock()
    local holder = tasks.start(function()
      local _ <close> = lock:acquire()
      moonloop.sleep(20)
    end)
    local ok, err = pcall(moonloop.wait_for, function() return lock:acquire() end, 10)
    assert.is_false(ok)
    assert.equal("TimeoutError", err.kind)
    holder:await()
    assert.is_false(lock:locked())
  end)
end)

describe("A permit acquired under wait_for", function()
  it("is given back once, by release and guard together", function()
    local semaphore = moonloop.BoundedSemaphore(1)
    do
      local _ <close> = moonloop.wait_for(function() return semaphore:acquire() end, 3600)
      semaphore:release()
    end
    assert.is_false(semaphore:locked())
  end)
end)

describe("An as_completed loop that several tasks draw from", function()
  it("ends in each of them", function()
    local gate, taken = Future(), {}
    local iterator, state = moonloop.as_completed {
      function() return 1 end, function() return 2 end, function() return gate:await() end,
    }
    local drawers = {}
    for i = 1, 3 do
      drawers[i] = tasks.start(function()
        for task in iterator, state do taken[#taken + 1] = task:result() end
        return "ended"
      end)
    end
    gate:set_result(3)
    for _, drawer in ipairs(drawers) do assert.equal("ended", drawer:await()) end
    table.sort(taken)
    assert.same({ 1, 2, 3 }, taken)
  end)
end)
