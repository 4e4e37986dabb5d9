-- SPDX-License-Identifier: MIT
-- What is over leaves nothing behind in a task that goes on: blocks in generators
-- that were dropped, scopes that nobody entered or that were left elsewhere,
-- functions that once stood in a traceback, the room of a queue's greatest length.
local moonloop = require "moonloop"
local testing = moonloop.testing

local ROUNDS <const> = 2000

-- KiB in use after what nobody holds has gone, with all its effects.
local function memory()
  for _ = 1, 2 do
    collectgarbage()
    collectgarbage()
    testing.wait_all_blocked()
  end
  return collectgarbage("count")
end

-- By how many KiB `rounds` calls of `fn(i)` have memory grow, once it is warm.
local function growth(fn, rounds)
  for i = 1, 100 do fn(i) end
  local before = memory()
  for i = 1, rounds or ROUNDS do fn(i) end
  return memory() - before
end

describe("A generator that is dropped", function()
  local BLOCKS = {
    ["a TaskGroup"] = function()
      local _ <close> = moonloop.TaskGroup()
      coroutine.yield()
    end,
    ["a task_group"] = function() moonloop.task_group(coroutine.yield) end,
    ["an as_completed loop"] = function()
      for _ in moonloop.as_completed { function() return 1 end } do coroutine.yield() end
    end,
    ["a cancelled scope"] = function()
      local scope = moonloop.CancelScope {}
      scope:run(function()
        scope:cancel(("x"):rep(1000) .. tostring(scope))
        coroutine.yield()
      end)
    end,
  }

  for what, block in pairs(BLOCKS) do
    it("in " .. what .. " leaves nothing with its task", function()
      assert.is_true(growth(function() coroutine.wrap(block)() end) < 200)
    end)
  end
end)

describe("A scope", function()
  it("that is cancelled with a message and never entered keeps none", function()
    assert.is_true(growth(function(i)
      moonloop.CancelScope {}:cancel(("x"):rep(1000) .. i)
    end) < 500)
  end)

  -- A timeout that is closed in another coroutine than its own.
  local function leave_elsewhere()
    local timeout = moonloop.timeout(1000)
    coroutine.wrap(function() local _ <close> = timeout end)()
  end

  it("that is left in another coroutine is forgotten", function()
    assert.is_true(growth(leave_elsewhere) < 100)
  end)

  it("that is left in another coroutine is forgotten with its task", function()
    assert.is_true(growth(function() moonloop.await(leave_elsewhere) end) < 100)
  end)
end)

describe("A function that stood in a traceback", function()
  it("is not what a wait that is over keeps its futures' results with", function()
    local future = moonloop.Future()
    assert.is_true(growth(function(i)
      local big = ("x"):rep(10000)
      local task = moonloop.create_task(function() return big .. i end)
      moonloop.wait({ future, task }, { timeout = 0 })
    end, 1000) < 1000)
  end)

  it("is not kept though it is a generator's, nor is its coroutine", function()
    assert.is_true(growth(function()
      local gen = coroutine.wrap(function()
        local _ <close> = moonloop.timeout(0)
        moonloop.sleep_forever()
      end)
      assert.is_false((pcall(gen)))
    end, 1000) < 200)
  end)
end)

for _, name in ipairs { "Queue", "LifoQueue", "PriorityQueue" } do
  describe("A " .. name, function()
    it("gives its memory back when it is empty after a burst, and works on", function()
      local queue = moonloop[name]()
      local before = memory()
      for i = 1, 50000 do queue:put_nowait(i) end
      assert.is_true(memory() - before > 700)
      for _ = 1, 50000 do queue:get() end
      local getter = moonloop.create_task(queue.get, queue)
      testing.wait_all_blocked()
      assert.is_true(memory() - before < 100)
      queue:put("handed over")
      queue:put("stored")
      assert.equal("handed over", getter:await())
      assert.equal("stored", queue:get())
      for _ = 1, 50002 do queue:task_done() end
      queue:join()
    end)
  end)
end
