-- SPDX-License-Identifier: MIT
-- What becomes of an item when its get or put is cancelled, times out or is
-- closed by force: before the item was handed over, after, and in the same turn.
local moonloop = require "moonloop"
local stock = require "spec.support.stock"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Queue = moonloop.Queue

local kind, queue_of, drained = tasks.raised, queues.of, queues.drained

-- A task that gets one item and appends it, after its mark if it has one.
local function getter(queue, list, mark)
  return tasks.start(function()
    local item = queue:get()
    list[#list + 1] = (mark or "") .. item
  end)
end

-- A task that puts one item and appends it then.
local function putter(queue, item, list)
  return tasks.start(function()
    queue:put(item)
    list[#list + 1] = item
  end)
end

describe("A get that is given up", function()
  it("was cancelled while it waited, and the next gets the item", function()
    local queue, list = Queue(), {}
    local first = getter(queue, list)
    getter(queue, list, "next ")
    assert.is_true(tasks.cancel(first))
    queue:put("item")
    testing.wait_all_blocked()
    assert.same({ "next item" }, list)
  end)

  it("timed out while it waited, and the item stays", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local queue = Queue()
    assert.is_false((moonloop.move_on_after(5, queue.get, queue)))
    queue:put("item")
    assert.equal("item", drained(queue))
  end)

  it("was cancelled before it began, and the item stays", function()
    local queue, scope = queue_of(0, "item"), moonloop.CancelScope {}
    scope:cancel()
    assert.is_false(scope:run(queue.get, queue))
    assert.equal("item", drained(queue))
  end)
end)

describe("A get that is cancelled in the turn of a put", function()
  it("has its item when that was handed over before", function()
    local queue, list = Queue(), {}
    local task = tasks.start(function()
      list[1] = queue:get()
      list[2] = kind(queue.get, queue)
    end)
    queue:put_nowait("item")
    task:cancel()
    queue:put_nowait("other")
    task:await()
    assert.same({ "item", "CancelledError" }, list)
    assert.equal("other", drained(queue))
  end)

  it("leaves the item to the next when it was cancelled before", function()
    local queue, list = Queue(), {}
    local first = getter(queue, {})
    getter(queue, list)
    first:cancel()
    queue:put_nowait("item")
    testing.wait_all_blocked()
    assert.is_true(first:cancelled())
    assert.same({ "item" }, list)
  end)

  it("has its item or not as its deadline passed after the put or before", function()
    for _, first in ipairs { "put", "deadline" } do
      local queue, scope = Queue(), moonloop.CancelScope {}
      local task = tasks.start(scope.run, scope, queue.get, queue)
      if first == "put" then queue:put_nowait("item") end
      scope.deadline = moonloop.time() - 1
      queue:put_nowait("late")
      local expected = first == "put" and { true, "item" } or { false }
      assert.same(expected, { task:await() })
      assert.equal("late", drained(queue))
    end
  end)
end)

describe("A get that is closed by force", function()
  it("leaves the line", function()
    local queue, list = Queue(), {}
    local first = getter(queue, list)
    getter(queue, list)
    core.close_task(first)
    assert.is_true(first:done())
    queue:put_nowait("a")
    queue:put_nowait("b")
    testing.wait_all_blocked()
    assert.same({ "a" }, list)
    assert.equal("b", drained(queue))
  end)

  it("leaves the item that it was handed to the next", function()
    local queue, list = Queue(), {}
    local first = getter(queue, {})
    getter(queue, list)
    queue:put_nowait("item")
    core.close_task(first)
    testing.wait_all_blocked()
    assert.same({ "item" }, list)
    assert.is_true(queue:empty())
  end)

  it("leaves its item to the next also when a generator was handed it", function()
    local queue, list = Queue(), {}
    local task = tasks.start(function()
      coroutine.wrap(function() queue:get() end)()
    end)
    getter(queue, list)
    queue:put_nowait("item")
    core.close_task(task)
    testing.wait_all_blocked()
    assert.same({ "item" }, list)
  end)

  it("gives nothing back when it was cancelled before", function()
    local queue = queue_of(0, "a")
    local task = tasks.start(function()
      for _ = 1, 3 do queue:get() end
    end)
    queue:put_nowait("b")
    testing.wait_all_blocked()
    task:cancel()
    core.close_task(task)
    assert.equal(0, queue:qsize())
    queue:put_nowait("c")
    assert.equal("c", drained(queue))
  end)
end)

describe("A get that is closed by force with its item", function()
  it("leaves the item that it was handed first in the queue", function()
    local queue = Queue(1)
    local first = getter(queue, {})
    queue:put_nowait("a")
    queue:put_nowait("b")
    core.close_task(first)
    local waiting = putter(queue, "c", {})
    assert.is_false(waiting:done())
    for _, item in ipairs { "a", "b", "c" } do assert.equal(item, queue:get()) end
    waiting:await()
    assert.is_true(queue:empty())
  end)

  it("leaves it first in the queue, however many came after it", function()
    for count = 0, 20 do
      local queue, expected = Queue(), {}
      for i = 1, count // 2 do
        queue:put_nowait(i)
        queue:get_nowait()
      end
      local task = getter(queue, {})
      for i = 0, count do
        queue:put_nowait(i)
        expected[i + 1] = i
      end
      core.close_task(task)
      assert.equal(table.concat(expected, " "), drained(queue))
    end
  end)
end)

describe("A queue whose task is closed", function()
  it("is left at the end of its run", function()
    for _, name in ipairs { "get()", "put(2)", "join()" } do
      local status, out = stock.closed("local queue = moonloop.Queue(1)\n" ..
        (name == "get()" and "" or "queue:put(1)\n") .. "queue:" .. name)
      assert.equal(stock.closed_output, out)
      assert.equal(0, status)
    end
  end)
end)

describe("A put that is given up", function()
  it("was cancelled while it waited, and its item is in no queue", function()
    local queue, list = queue_of(1, "a"), {}
    local first = putter(queue, "b", list)
    putter(queue, "c", list)
    assert.is_true(tasks.cancel(first))
    assert.equal("a", queue:get())
    testing.wait_all_blocked()
    assert.same({ "c" }, list)
    assert.equal("c", drained(queue))
  end)

  it("timed out while it waited, and its item is in no queue", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local queue = queue_of(1, "a")
    assert.is_false((moonloop.move_on_after(5, queue.put, queue, "b")))
    assert.equal("a", drained(queue))
  end)

  it("was cancelled before it began, although there was room", function()
    local queue, scope = Queue(1), moonloop.CancelScope {}
    scope:cancel()
    assert.is_false(scope:run(queue.put, queue, "item"))
    assert.is_true(queue:empty())
  end)
end)

describe("A put that is cancelled in the turn of a get", function()
  it("is done when room was made before", function()
    local queue, list = queue_of(1, "a"), {}
    local task = tasks.start(function()
      queue:put("b")
      list[1] = "put"
      list[2] = kind(moonloop.sleep, 0)
    end)
    queue:get_nowait()
    task:cancel()
    task:await()
    assert.same({ "put", "CancelledError" }, list)
    assert.equal("b", drained(queue))
  end)

  it("leaves the room to the next when it was cancelled before", function()
    local queue, list = queue_of(1, "a"), {}
    local first = putter(queue, "b", {})
    putter(queue, "c", list)
    first:cancel()
    queue:get_nowait()
    testing.wait_all_blocked()
    assert.is_true(first:cancelled())
    assert.same({ "c" }, list)
    assert.equal("c", drained(queue))
  end)

  it("is done or not as its deadline passed after the get or before", function()
    for _, first in ipairs { "get", "deadline" } do
      local queue, scope = queue_of(1, "a"), moonloop.CancelScope {}
      local task = tasks.start(scope.run, scope, queue.put, queue, "b")
      if first == "get" then queue:get_nowait() end
      scope.deadline = moonloop.time() - 1
      assert.equal(first == "get", (task:await()))
      assert.equal(first == "get" and "b" or "a", drained(queue))
    end
  end)
end)

describe("A put that is closed by force", function()
  it("leaves the line, and its item is in no queue", function()
    local queue, list = queue_of(1, "a"), {}
    local first = putter(queue, "b", list)
    putter(queue, "c", list)
    core.close_task(first)
    assert.is_true(first:done())
    assert.equal("a c", drained(queue))
    testing.wait_all_blocked()
    assert.same({ "c" }, list)
  end)

  it("holds nobody up when room was made before", function()
    local queue, list = queue_of(1, "a"), {}
    local first = putter(queue, "b", list)
    putter(queue, "c", list)
    queue:get_nowait()
    core.close_task(first)
    local rest = { drained(queue) }
    testing.wait_all_blocked()
    assert.same({ "c" }, list)
    assert.is_true(rest[1] == "b c" or rest[1] == "c")
  end)
end)
