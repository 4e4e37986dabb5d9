-- SPDX-License-Identifier: MIT
-- Tasks: making them, their options, names, stacks, results, lives.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local create_task, await = moonloop.create_task, moonloop.await

local function contains(list, value)
  return tasks.find(list, function(each) return each == value end) ~= nil
end

describe("create_task", function()
  it("runs its function with arguments and keeps the values", function()
    local task = create_task(function(...) return ... end, 1, nil, 3, nil)
    assert.same({ 1, nil, 3, nil, n = 4 }, table.pack(await(task)))
    assert.same({ 1, nil, 3, nil, n = 4 }, table.pack(task:result()))
    assert.same({ 1, nil, 3, nil, n = 4 }, table.pack(await(task)))
  end)

  it("lets the task run first when its creator waits", function()
    local ran = false
    local task = create_task(function() ran = true end)
    assert.is_false(ran)
    await(task)
    assert.is_true(ran)
  end)

  it("starts tasks in the order they were made", function()
    local list = {}
    for i = 1, 5 do create_task(function() list[i] = #list + 1 end) end
    testing.wait_all_blocked()
    assert.same({ 1, 2, 3, 4, 5 }, list)
  end)

  it("makes a Task, which is a Future", function()
    local task = create_task(function() return "v" end)
    assert.is_true(moonloop.isfuture(task))
    assert.is_false(task:done())
    local got
    task:add_done_callback(function(done) got = done end)
    await(task)
    testing.wait_all_blocked()
    assert.equal(task, got)
    assert.is_true(task:done())
    assert.is_nil(task:error())
  end)

  it("takes a C function and a table with __call", function()
    assert.equal(3, await(create_task(math.max, 1, 3)))
    local callable = setmetatable({ 40 }, { __call = function(self, n) return self[1] + n end })
    assert.equal(42, await(create_task(callable, 2)))
    assert.equal(43, await(create_task({ name = "callable" }, callable, 3)))
  end)

  it("gives the result to many that wait", function()
    local gate = moonloop.Future()
    local task = tasks.start(function() return gate:await() end)
    local waiters = {}
    for i = 1, 10 do waiters[i] = tasks.start(await, task) end
    gate:set_result("v")
    for i = 1, 10 do assert.equal("v", await(waiters[i])) end
  end)
end)

describe("Awaiting a task", function()
  it("returns at once when it has ended", function()
    local task = create_task(function() return "v" end)
    testing.wait_all_blocked()
    assert.is_true(task:done())
    assert.equal("v", await(task))
    assert.equal("v", task:await())
  end)

  it("returns later when it ends later", function()
    assert.equal("v", await(create_task(moonloop.sleep, 0.001, "v")))
  end)

  it("cancelled, leaves the awaited task alone", function()
    local gate = moonloop.Future()
    local inner = tasks.start(function() return gate:await() end)
    local outer = tasks.start(await, inner)
    assert.is_true(tasks.cancel(outer))
    assert.is_false(inner:done())
    gate:set_result("fine")
    assert.equal("fine", await(inner))
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed("moonloop.await(moonloop.create_task(moonloop.sleep, 60))")
    assert.equal(0, status)
    assert.equal(stock.closed_output, out)
  end)

  it("raises when it is the task itself", function()
    local task
    task = tasks.start(function() moonloop.current_task():await() end)
    local ended = task:done()
    tasks.cancel(task)
    assert.is_true(ended)
    assert.is_true(moonloop.is_error(task:error()))
  end)
end)

describe("A task's result", function()
  it("is set by the task alone", function()
    local task = tasks.start(moonloop.sleep_forever)
    for _, setter in ipairs { "set_result", "set_error", "set_exception" } do
      assert.is_false((pcall(task[setter], task, "v")))
    end
    assert.is_false(task:done())
    tasks.cancel(task)
  end)

  it("is not there before its end", function()
    local task = tasks.start(moonloop.sleep_forever)
    local ok, err = pcall(task.result, task)
    assert.is_false(ok)
    assert.equal("InvalidStateError", err.kind)
    tasks.cancel(task)
  end)

  it("is the error that ended it", function()
    local task = create_task(function() error("why", 0) end)
    assert.same({ false, "why" }, { tasks.outcome(task) })
    assert.equal("why", task:error())
    assert.same({ false, "why" }, { pcall(task.result, task) })
    assert.is_false(task:cancelled())
  end)
end)

describe("A task's name", function()
  it("is given, changed and told", function()
    local task = create_task({ name = "first" }, moonloop.sleep_forever)
    assert.equal("first", task:get_name())
    task:set_name("second")
    assert.equal("second", task:get_name())
    assert.matches("second", tostring(task))
    tasks.cancel(task)
  end)

  it("is made up, each another, when none is given", function()
    local a, b = create_task(moonloop.sleep, 0), create_task(moonloop.sleep, 0)
    assert.is_string(a:get_name())
    assert.not_equal(a:get_name(), b:get_name())
    await(a)
    await(b)
  end)
end)

describe("eager_start", function()
  it("runs the task at once, up to its first wait", function()
    local list = {}
    local task = create_task({ eager_start = true }, function(value)
      list[1] = value
      moonloop.sleep(0)
      list[2] = "after"
    end, "before")
    assert.same({ "before" }, list)
    await(task)
    assert.same({ "before", "after" }, list)
  end)

  it("ends a task that never waits at once", function()
    local task = create_task({ eager_start = true }, function() return "v" end)
    assert.is_true(task:done())
    assert.equal("v", task:result())
  end)

  it("keeps an error for whoever awaits the task", function()
    local task = create_task({ eager_start = true }, error, "early", 0)
    assert.is_true(task:done())
    assert.same({ false, "early" }, { tasks.outcome(task) })
  end)

  it("leaves the creator the current task", function()
    local creator, inside = moonloop.current_task(), nil
    local task = create_task({ eager_start = true }, function()
      inside = moonloop.current_task()
    end)
    assert.equal(task, inside)
    assert.equal(creator, moonloop.current_task())
  end)

  it("starts normally below a chain of 50", function()
    local depth, deepest = 0, 0
    local made = {}
    local function link(n)
      depth = depth + 1
      deepest = math.max(deepest, depth)
      if n > 1 then made[n] = create_task({ eager_start = true }, link, n - 1) end
      depth = depth - 1
    end
    await(create_task({ eager_start = true }, link, 200))
    for n = 200, 2, -1 do await(made[n]) end
    assert.is_true(deepest > 1 and deepest <= 51)
  end)
end)

describe("current_task and all_tasks", function()
  it("know the task that runs", function()
    local task
    task = create_task(function()
      local first = moonloop.current_task()
      moonloop.sleep(0)
      return first == task, moonloop.current_task() == task
    end)
    assert.same({ true, true }, { await(task) })
  end)

  it("is nil in a loop callback", function()
    local future = moonloop.Future()
    moonloop.get_running_loop():call_soon(function()
      future:set_result(moonloop.current_task() == nil)
    end)
    assert.is_true(future:await())
  end)

  it("lists the unfinished tasks", function()
    local sleeping = tasks.start(moonloop.sleep_forever)
    local ended = create_task(function() end)
    local fresh = create_task(function() end)
    assert.is_true(contains(moonloop.all_tasks(), fresh))
    await(ended)
    local list = moonloop.all_tasks()
    assert.is_true(contains(list, moonloop.current_task()))
    assert.is_true(contains(list, sleeping))
    assert.is_false(contains(list, ended))
    tasks.cancel(sleeping)
    assert.is_false(contains(moonloop.all_tasks(), sleeping))
    await(fresh)
  end)
end)

describe("A task's stack", function()
  local function deep_inside() moonloop.sleep_forever() end

  it("is its Lua traceback while it waits", function()
    local task = tasks.start(function() deep_inside() end)
    local stack = task:get_stack()
    assert.is_string(stack)
    assert.truthy(stack:find("deep_inside", 1, true))
    assert.truthy(stack:find("tasks_spec.lua", 1, true))
    tasks.cancel(task)
  end)

  it("is its Lua traceback now while it runs", function()
    local function right_here() return (moonloop.current_task():get_stack()) end
    local stack = await(create_task(function() return (right_here()) end))
    assert.truthy(stack:find("right_here", 1, true))
  end)

  it("is printed to stderr by print_stack", function()
    local _, out, err = stock.lua([[
      local moonloop = require "moonloop"
      local function deep_inside() moonloop.sleep_forever() end
      moonloop.run(function()
        local task = moonloop.create_task(function() deep_inside() end)
        moonloop.sleep(0)
        task:print_stack()
      end)
    ]])
    assert.equal("", out)
    assert.matches("deep_inside", err)
  end)

  it("can be asked of a task that has ended or not begun", function()
    local task = create_task(function() end)
    assert.has_no_error(function() task:get_stack() end)
    await(task)
    assert.has_no_error(function() task:get_stack() end)
  end)
end)

describe("awaiting", function()
  it("tells in words what a task waits for", function()
    local other = tasks.start({ name = "other" }, moonloop.sleep_forever)
    local task = tasks.start(await, other)
    assert.is_string(task:awaiting())
    assert.is_string(other:awaiting())
    assert.matches("other", task:awaiting())
    tasks.cancel(task)
    tasks.cancel(other)
  end)
end)

describe("A started task", function()
  it("is held until it ends, though nobody else holds it", function()
    local done = moonloop.Future()
    create_task(function()
      moonloop.sleep(0.001)
      collectgarbage()
      done:set_result("ended")
    end)
    collectgarbage()
    collectgarbage()
    assert.equal("ended", done:await())
  end)

  it("is held also when all it waits for is held by itself", function()
    local weak = setmetatable({}, { __mode = "v" })
    weak.task = tasks.start({ name = "lonely" }, function() moonloop.Future():await() end)
    collectgarbage()
    collectgarbage()
    assert.is_not_nil(weak.task)
    tasks.cancel(weak.task)
  end)

  it("may collect all garbage, itself among it", function()
    for _ = 1, 20 do
      create_task(function()
        moonloop.sleep(0)
        collectgarbage()
        collectgarbage()
      end)
    end
    testing.wait_all_blocked()
    collectgarbage()
    assert.equal("fine", await(create_task(function() return "fine" end)))
  end)

  it("is collected after its end", function()
    local weak = setmetatable({}, { __mode = "v" })
    weak.task = create_task(function() end)
    testing.wait_all_blocked()
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak.task)
  end)
end)

describe("Many tasks #load", function()
  it("sleep a hundred thousand at once", function()
    local awake = 0
    local list = {}
    for i = 1, 100000 do
      list[i] = create_task(function()
        moonloop.sleep((i * 7919) % 1000 / 1000)
        awake = awake + 1
      end)
    end
    for i = 1, #list do await(list[i]) end
    assert.equal(100000, awake)
  end)

  it("are spawned a million, in tens of thousands", function()
    local ended = 0
    local function work() ended = ended + 1 end
    for _ = 1, 100 do
      local last
      for _ = 1, 10000 do last = create_task(work) end
      await(last)
    end
    assert.equal(1000000, ended)
  end)

  it("are cancelled a hundred thousand at once", function()
    local list = {}
    for i = 1, 100000 do list[i] = create_task(moonloop.sleep_forever) end
    testing.wait_all_blocked()
    for i = 1, #list do list[i]:cancel() end
    testing.wait_all_blocked()
    for i = 1, #list do assert(list[i]:cancelled()) end
    assert.equal(100000, #list)
  end)
end)
