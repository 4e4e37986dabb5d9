-- SPDX-License-Identifier: MIT
-- A task that is closed by force (for swallowing its cancellation without end, at
-- the shutdown timeout, by the embedding program) cannot await any more. What it
-- waited for as its own is cancelled all the same, and later failures are told.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force

-- Closes `task` by force, and lets that have its effect.
local function close(task)
  core.close_task(task)
  assert.is_true(task:done())
  testing.wait_all_blocked()
end

local function all_cancelled(list, count)
  assert.equal(count, #list)
  for _, task in ipairs(list) do assert.is_true(task:cancelled()) end
end

-- A function that appends its task to `list` and waits for ever.
local function waiting(list)
  return function()
    list[#list + 1] = moonloop.current_task()
    moonloop.sleep_forever()
  end
end

local CALLS = {
  gather = function(...) moonloop.gather(...) end,
  race = function(...) moonloop.race { ... } end,
  wait = function(...) moonloop.wait { ... } end,
  ["wait with a timeout"] = function(...) moonloop.wait({ ... }, { timeout = 3600 }) end,
}

for name, call in pairs(CALLS) do
  describe("A task closed by force in " .. name, function()
    it("leaves no task of its functions running", function()
      local children = {}
      local fn = waiting(children)
      close(tasks.start(call, fn, fn))
      all_cancelled(children, 2)
    end)

    it("leaves none running where it waits in a generator", function()
      local children = {}
      local fn = waiting(children)
      close(tasks.start(coroutine.wrap(function() call(fn, fn) end)))
      all_cancelled(children, 2)
    end)
  end)
end

local OWNERS = {
  gather = function(task) moonloop.gather(task) end,
  race = function(task) moonloop.race { task } end,
  wait_for = function(task) moonloop.wait_for(task) end,
  ["wait_for with a limit"] = function(task) moonloop.wait_for(task, 3600) end,
}

for name, call in pairs(OWNERS) do
  describe("A task that was given to " .. name, function()
    it("is cancelled when who waits for it is closed by force", function()
      local other = tasks.start(moonloop.sleep_forever)
      close(tasks.start(call, other))
      assert.is_true(other:cancelled())
    end)

    it("is cancelled though who waits swallows the cancellation without end", function()
      local reports <close> = tasks.reports()
      local others = {}
      local task = tasks.start(function()
        while true do
          local other = moonloop.create_task(moonloop.sleep_forever)
          others[#others + 1] = other
          pcall(call, other)
        end
      end)
      assert.is_true(tasks.cancel(task))
      testing.wait_all_blocked()
      all_cancelled(others, #others)
      assert.is_true(#others > 1)
      assert.equal(1, #reports)
    end)
  end)
end

-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    fn(tg)
  end,
  ["task_group"] = function(fn) moonloop.task_group(fn) end,
}

for form, in_group in pairs(FORMS) do
  describe("A task closed by force while it leaves a " .. form, function()
    -- A task that has two children of `fn` and waits for them, and those.
    local function leaving(fn, place)
      local children = {}
      local task = tasks.start((place or function(...) return ... end)(function()
        in_group(function(tg)
          for i = 1, 2 do children[i] = tg:create_task(fn) end
        end)
      end))
      assert.equal("children of a task group", task:awaiting())
      return task, children
    end

    it("leaves no child running", function()
      local task, children = leaving(moonloop.sleep_forever)
      close(task)
      all_cancelled(children, 2)
    end)

    it("leaves none running where it does so in a generator", function()
      local task, children = leaving(moonloop.sleep_forever, coroutine.wrap)
      close(task)
      all_cancelled(children, 2)
    end)

    it("has later failures of the children reported", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local reports <close> = tasks.reports()
      local task = leaving(function()
        pcall(moonloop.sleep_forever)
        error("clean-up", 0)
      end)
      close(task)
      moonloop.sleep(60)
      assert.equal(2, #reports)
      for i = 1, 2 do assert.equal("clean-up", reports[i].error) end
    end)
  end)

  describe("A task that opens a " .. form .. " again and again after its cancellation", function()
    it("leaves no child behind, not one of the group it leaves at the end", function()
      local reports <close> = tasks.reports()
      local live = 0
      local task = tasks.start(function()
        while true do
          pcall(in_group, function(tg)
            tg:create_task(function()
              live = live + 1
              local _ <close> = setmetatable({}, { __close = function() live = live - 1 end })
              moonloop.sleep_forever()
            end)
          end)
        end
      end)
      assert.equal(1, live)
      assert.is_true(tasks.cancel(task))
      testing.wait_all_blocked()
      assert.equal(0, live)
      assert.equal(1, #reports)
    end)
  end)
end

describe("A condition", function()
  it("tells the next where who was told is closed while it waits for the lock", function()
    local condition, told = moonloop.Condition(), {}
    local function listen(name)
      return tasks.start(function()
        local _ <close> = condition:acquire()
        condition:wait()
        told[#told + 1] = name
      end)
    end
    local first, second = listen("first"), listen("second")
    local gate = moonloop.Future()
    local notifier = tasks.start(function()
      local _ <close> = condition:acquire()
      condition:notify()
      gate:await()
    end)
    close(first)
    gate:set_result()
    notifier:await()
    testing.wait_all_blocked()
    assert.same({ "second" }, told)
    assert.is_true(second:done())
    assert.is_false(condition:locked())
  end)
end)

describe("Closing a task by force", function()
  it("is refused while it runs, though another task is the current one", function()
    local status, out, err = stock.moonloop([[
      local moonloop = require "moonloop"
      local core = require "moonloop.core"
      local outer
      outer = moonloop.create_task(function()
        moonloop.create_task({ eager_start = true }, function() core.close_task(outer) end)
        moonloop.sleep(0)
        print("goes on")
      end)
      outer:await()
    ]])
    assert.equal("goes on\n", out)
    assert.equal("", err)
    assert.equal(0, status)
  end)
end)
