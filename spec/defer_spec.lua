-- SPDX-License-Identifier: MIT
-- moonloop.defer: clean-up that may await, whatever ends the block.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

describe("defer", function()
  it("runs its function when the block is left, and not before", function()
    local list = {}
    do
      local _ <close> = moonloop.defer(function() list[#list + 1] = "deferred" end)
      list[#list + 1] = "body"
    end
    assert.same({ "body", "deferred" }, list)
  end)

  it("runs the last one first", function()
    local list = {}
    do
      local _ <close> = moonloop.defer(function() list[#list + 1] = 1 end)
      local _ <close> = moonloop.defer(function() list[#list + 1] = 2 end)
    end
    assert.same({ 2, 1 }, list)
  end)

  it("keeps the values of return", function()
    local function work()
      local _ <close> = moonloop.defer(function() return moonloop.sleep(0, "not this") end)
      return 1, nil, 3
    end
    assert.same({ 1, nil, 3, n = 3 }, table.pack(work()))
  end)

  it("awaits what is ready at once and what is ready later", function()
    local ready, list = moonloop.Future(), {}
    ready:set_result("at once")
    do
      local _ <close> = moonloop.defer(function()
        list[1] = ready:await()
        list[2] = moonloop.sleep(0.001, "later")
      end)
    end
    assert.same({ "at once", "later" }, list)
  end)

  it("awaits while an error unwinds, which stays as it is", function()
    local list, problem = {}, {}
    assert.equal(problem, tasks.failure(function()
      local _ <close> = moonloop.defer(function() list[1] = moonloop.sleep(0, "cleaned") end)
      error(problem)
    end))
    assert.same({ "cleaned" }, list)
  end)

  it("awaits undisturbed after a cancellation, which then goes on", function()
    local list = {}
    local task = tasks.start(function()
      local _ <close> = moonloop.defer(function()
        list[#list + 1] = moonloop.sleep(0.001, "first")
        list[#list + 1] = moonloop.sleep(0, "second")
      end)
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(task))
    assert.same({ "first", "second" }, list)
  end)

  it("holds back a cancellation that comes while it waits", function()
    local gate, list = moonloop.Future(), {}
    local task = tasks.start(function()
      do
        local _ <close> = moonloop.defer(function() list[#list + 1] = gate:await() end)
      end
      list[#list + 1] = select(2, pcall(moonloop.sleep, 0)).kind
    end)
    task:cancel()
    task:cancel()
    testing.wait_all_blocked()
    assert.is_false(task:done())
    gate:set_result("finished")
    moonloop.await(task)
    assert.same({ "finished", "CancelledError" }, list)
  end)

  it("is closed while it waits, when the run gives up", function()
    local status, out, err = stock.closed([[
      do
        local _ <close> = moonloop.defer(function() moonloop.sleep_forever() end)
      end
    ]])
    assert.equal(0, status)
    assert.equal(stock.closed_output, out)
    assert.matches("stubborn", err)
  end)

  it("raises its function's error where the block ended well", function()
    local err = tasks.failure(function()
      local _ <close> = moonloop.defer(function() error("in defer", 0) end)
    end)
    assert.equal("in defer", err)
  end)

  it("lets its function's error replace the one under way", function()
    assert.equal("second", tasks.failure(function()
      local _ <close> = moonloop.defer(function()
        moonloop.sleep(0)
        error("second", 0)
      end)
      error("first", 0)
    end))
  end)

  it("runs once", function()
    local count = 0
    do
      local outer <close> = moonloop.defer(function() count = count + 1 end)
      local again <close> = outer
      assert.equal(outer, again)
    end
    assert.equal(1, count)
  end)

  it("runs in a wrapped generator that fails or is cancelled", function()
    local list = {}
    local function generator(fn)
      return coroutine.wrap(function()
        local _ <close> = moonloop.defer(function()
          list[#list + 1] = moonloop.sleep(0, "cleaned")
        end)
        fn()
      end)
    end
    assert.matches("boom", tasks.failure(generator(function() error("boom", 0) end)))
    assert.is_true(tasks.cancel(tasks.start(generator(moonloop.sleep_forever))))
    assert.same({ "cleaned", "cleaned" }, list)
  end)

  it("may run tasks and wait for them", function()
    local value
    local task = tasks.start(function()
      local _ <close> = moonloop.defer(function()
        value = moonloop.await(moonloop.create_task(moonloop.sleep, 0.001, "from a task"))
      end)
      moonloop.sleep_forever()
    end)
    tasks.cancel(task)
    assert.equal("from a task", value)
  end)
end)
