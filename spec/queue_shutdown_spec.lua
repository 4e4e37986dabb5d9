-- SPDX-License-Identifier: MIT
-- A queue's shutdown, for those who wait on either side and for join, and iterating
-- until then.
local moonloop = require "moonloop"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local Queue = moonloop.Queue

local kind, queue_of = tasks.raised, queues.of

local core = require "moonloop.core" -- closes a task by force

-- A task that does `queue:name(...)` and appends its value or its error's kind.
local function start(list, queue, name, ...)
  return tasks.start(function(...)
    local ok, result = pcall(queue[name], queue, ...)
    list[#list + 1] = ok and (result or "done") or moonloop.is_error(result) and result.kind
  end, ...)
end

-- What iterating gives, as text.
local function iterated(queue)
  local items = {}
  for item in queue:iter() do items[#items + 1] = tostring(item) end
  return table.concat(items, " ")
end

-- A task that iterates and appends each item, then "end".
local function iterate(queue, list)
  return tasks.start(function()
    for item in queue:iter() do list[#list + 1] = item end
    list[#list + 1] = "end"
  end)
end

describe("A queue's shutdown", function()
  it("refuses puts, and gets once it is empty", function()
    local queue = queue_of(0, "a", "b")
    queue:shutdown()
    assert.equal("QueueShutDown", kind(queue.put, queue, "c"))
    assert.equal("QueueShutDown", kind(queue.put_nowait, queue, "c"))
    assert.equal("a", queue:get())
    assert.equal("b", queue:get_nowait())
    for _ = 1, 2 do
      assert.equal("QueueShutDown", kind(queue.get, queue))
      assert.equal("QueueShutDown", kind(queue.get_nowait, queue))
    end
  end)

  it("wakes those who wait for an item", function()
    local queue, list = Queue(), {}
    for _ = 1, 3 do start(list, queue, "get") end
    queue:shutdown()
    testing.wait_all_blocked()
    assert.same({ "QueueShutDown", "QueueShutDown", "QueueShutDown" }, list)
  end)

  it("wakes those who wait for room, and their items are in no queue", function()
    local queue, list = queue_of(1, "a"), {}
    for _ = 1, 2 do start(list, queue, "put", "b") end
    queue:shutdown()
    testing.wait_all_blocked()
    assert.same({ "QueueShutDown", "QueueShutDown" }, list)
    assert.equal("a", iterated(queue))
  end)
end)

describe("A join and a shutdown", function()
  it("wait for what is left", function()
    local queue, list = queue_of(0, "a"), {}
    local joiner = start(list, queue, "join")
    queue:shutdown()
    testing.wait_all_blocked()
    assert.is_false(joiner:done())
    queue:get()
    queue:task_done()
    joiner:await()
    assert.same({ "done" }, list)
  end)

  it("do not where the shutdown is immediate and drops it", function()
    local queue, list = queue_of(2, "a", "b"), {}
    start(list, queue, "join")
    start(list, queue, "put", "c")
    queue:shutdown(true)
    assert.is_true(queue:empty())
    assert.equal("QueueShutDown", kind(queue.get_nowait, queue))
    testing.wait_all_blocked()
    table.sort(list)
    assert.same({ "QueueShutDown", "done" }, list)
    assert.equal("InvalidStateError", kind(queue.task_done, queue))
  end)

  it("wait for items that are being worked on all the same", function()
    local queue, list = queue_of(0, "a", "b", "c"), {}
    queue:get()
    local joiner = start(list, queue, "join")
    queue:shutdown(true)
    testing.wait_all_blocked()
    assert.is_false(joiner:done())
    queue:task_done()
    joiner:await()
    assert.same({ "done" }, list)
  end)
end)

describe("A shutdown", function()
  it("may come twice, the second time at once", function()
    local queue = queue_of(0, "a")
    queue:shutdown()
    queue:shutdown(false)
    assert.equal(1, queue:qsize())
    queue:shutdown(true)
    assert.equal(0, queue:qsize())
    queue:join()
    assert.equal("QueueShutDown", kind(queue.get, queue))
  end)

  it("is the same for every kind of queue", function()
    for _, name in ipairs { "PriorityQueue", "LifoQueue" } do
      local queue, list = moonloop[name](1), {}
      queue:put("a")
      start(list, queue, "put", "b")
      queue:shutdown()
      testing.wait_all_blocked()
      assert.equal("a", iterated(queue))
      assert.same({ "QueueShutDown", "QueueShutDown" }, { list[1], kind(queue.get, queue) })
    end
  end)
end)

describe("A shutdown of the same turn", function()
  it("takes nothing back from a getter that was handed its item", function()
    local queue, list = Queue(), {}
    start(list, queue, "get")
    queue:put_nowait("item")
    queue:shutdown(true)
    testing.wait_all_blocked()
    assert.same({ "item" }, list)
  end)

  it("takes nothing back from a putter that was given room", function()
    local queue, list = queue_of(1, "a"), {}
    start(list, queue, "put", "b")
    queue:get_nowait()
    queue:shutdown()
    testing.wait_all_blocked()
    assert.same({ "done" }, list)
    assert.equal("b", iterated(queue))
  end)

  it("is raised when the cancellation comes after it, which is raised next", function()
    local queue, list = Queue(), {}
    local task = tasks.start(function()
      for i, fn in ipairs { queue.get, moonloop.sleep_forever } do list[i] = kind(fn, queue) end
    end)
    queue:shutdown()
    task:cancel()
    task:await()
    assert.same({ "QueueShutDown", "CancelledError" }, list)
  end)

  it("is not raised when the cancellation came first, nor in a cancelled scope", function()
    local queue = Queue()
    local task = tasks.start(queue.get, queue)
    task:cancel()
    queue:shutdown()
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    local scope = moonloop.CancelScope {}
    scope:cancel()
    assert.is_false(scope:run(queue.get, queue))
    scope = moonloop.CancelScope {}
    scope:cancel()
    assert.is_false(scope:run(queue.put, queue, "item"))
  end)
end)

describe("Iterating over a queue", function()
  it("gives every item and ends after the shutdown", function()
    local queue, list = queue_of(0, "a", "b"), {}
    local task = iterate(queue, list)
    assert.same({ "a", "b" }, list)
    queue:put_nowait("c")
    queue:put_nowait(false)
    queue:shutdown()
    task:await()
    assert.same({ "a", "b", "c", false, "end" }, list)
  end)

  it("ends at once after a shutdown of an empty queue or an immediate one", function()
    for _, immediate in ipairs { false, true } do
      local queue = queue_of(0, immediate and "dropped" or nil)
      queue:shutdown(immediate)
      assert.equal("", iterated(queue))
    end
  end)

  it("gives each item to one of several", function()
    local queue, list, all = Queue(1), {}, {}
    for i = 1, 3 do all[i] = iterate(queue, list) end
    for i = 1, 30 do queue:put(("%02d"):format(i)) end
    queue:shutdown()
    for i = 1, 3 do all[i]:await() end
    table.sort(list)
    assert.equal(33, #list)
    for i = 1, 30 do assert.equal(i, tonumber(list[i])) end
  end)

  it("leaves the rest when it is left", function()
    local queue = queue_of(0, "a", "b", "c")
    for item in queue:iter() do
      if item == "b" then break end
    end
    assert.equal("c", queue:get_nowait())
  end)
end)

describe("An iteration", function()
  it("raises at a nil item, naming get, and the item stays the first", function()
    local queue = Queue()
    queue:put(nil)
    queue:put("next")
    local ok, err = pcall(iterated, queue)
    assert.is_false(ok)
    assert.is_true(moonloop.is_error(err, "Error"))
    assert.matches("%f[%w]get%f[%W]", err.message)
    assert.same({ n = 1 }, table.pack(queue:get()))
    assert.equal("next", queue:get())
  end)

  it("raises at a nil item that it waited for, which stays the first too", function()
    local queue, list = Queue(), {}
    local task = iterate(queue, list)
    queue:put_nowait(nil)
    queue:put_nowait("next")
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.matches("%f[%w]get%f[%W]", err.message)
    assert.same({ n = 1 }, table.pack(queue:get_nowait()))
    assert.equal("next", queue:get_nowait())
  end)

  it("times out while it waits, and loses nothing", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local queue = Queue()
    assert.is_false((moonloop.move_on_after(5, iterated, queue)))
    queue:put_nowait("item")
    assert.equal("item", queue:get_nowait())
  end)

  it("has its item when it is cancelled after that was handed over", function()
    local queue, list = Queue(), {}
    local task = iterate(queue, list)
    queue:put_nowait("item")
    task:cancel()
    queue:put_nowait("other")
    tasks.outcome(task)
    assert.is_true(task:cancelled())
    assert.same({ "item" }, list)
    assert.equal("other", queue:get_nowait())
  end)

  it("is cancelled while it waits, and loses nothing", function()
    local queue, list = Queue(), {}
    local task = iterate(queue, list)
    assert.equal("get from a queue", task:awaiting())
    assert.is_true(tasks.cancel(task))
    queue:put_nowait("item")
    assert.equal("item", queue:get_nowait())
    assert.same({}, list)
  end)
end)

describe("An item on its way when its queue is shut down at once", function()
  it("is dropped too where its getter is closed by force", function()
    local queue = Queue()
    local getter = tasks.start(queue.get, queue)
    queue:put_nowait("item")
    queue:shutdown(true)
    core.close_task(getter)
    queue:join()
    assert.equal("QueueShutDown", kind(queue.get_nowait, queue))
  end)
end)
