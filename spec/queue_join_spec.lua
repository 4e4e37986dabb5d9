-- SPDX-License-Identifier: MIT
-- A queue's join: waiting until as many items were reported done as were put.
local moonloop = require "moonloop"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local Queue = moonloop.Queue

local kind, queue_of = tasks.raised, queues.of

-- A task that does `queue:name(...)` and appends its value or its error's kind.
local function start(list, queue, name, ...)
  return tasks.start(function(...)
    local ok, result = pcall(queue[name], queue, ...)
    list[#list + 1] = ok and (result or "done") or moonloop.is_error(result) and result.kind
  end, ...)
end

describe("A queue's join", function()
  it("returns at once when nothing was put, without letting others run", function()
    local ran = false
    local task = moonloop.create_task(function()
      moonloop.create_task(function() ran = true end)
      Queue():join()
      return ran
    end)
    assert.is_false(task:await())
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("returns later, when every item that was put is done", function()
    local queue, list = queue_of(0, "a", "b"), {}
    local joiner = start(list, queue, "join")
    queue:get()
    queue:get()
    queue:task_done()
    testing.wait_all_blocked()
    assert.same({}, list)
    queue:task_done()
    joiner:await()
    assert.same({ "done" }, list)
  end)

  it("counts an item that was handed over to one who waited", function()
    local queue, list = Queue(), {}
    local getter = tasks.start(queue.get, queue)
    queue:put_nowait("item")
    getter:await()
    local joiner = start(list, queue, "join")
    assert.is_false(joiner:done())
    queue:task_done()
    joiner:await()
  end)

  it("wakes all who wait, in order, although more is put right after", function()
    local queue, list = queue_of(0, "item"), {}
    for i = 1, 3 do
      tasks.start(function()
        queue:join()
        list[#list + 1] = i
      end)
    end
    queue:get()
    queue:task_done()
    queue:put_nowait("more")
    testing.wait_all_blocked()
    assert.same({ 1, 2, 3 }, list)
    local late = tasks.start(queue.join, queue)
    assert.is_false(late:done())
    tasks.cancel(late)
  end)
end)

describe("A join", function()
  it("is told of no more than was put", function()
    local queue = Queue()
    assert.equal("InvalidStateError", kind(queue.task_done, queue))
    queue:put("item")
    queue:get()
    queue:task_done()
    assert.equal("InvalidStateError", kind(queue.task_done, queue))
  end)

  it("is what its task says it waits for", function()
    local named, unnamed = Queue(0, { name = "jobs" }), Queue()
    for text, queue in pairs { ['join of queue "jobs"'] = named, ["join of a queue"] = unnamed } do
      queue:put("item")
      local task = tasks.start(queue.join, queue)
      assert.equal(text, task:awaiting())
      tasks.cancel(task)
    end
  end)

  it("is named with the queue in a DeadlockError", function()
    local queue = Queue(0, { name = "jobs" })
    queue:put("item")
    local ok, err = pcall(queue.join, queue)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for join of queue "jobs"', err.message, 1, true)
  end)
end)

describe("A join that is given up", function()
  it("was cancelled, timed out or closed by force while it waited", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local queue, list = queue_of(0, "item"), {}
    assert.is_true(tasks.cancel(tasks.start(queue.join, queue)))
    assert.is_false((moonloop.move_on_after(5, queue.join, queue)))
    local closed = start(list, queue, "join")
    core.close_task(closed)
    assert.is_true(closed:done())
    local other = start(list, queue, "join")
    queue:get()
    queue:task_done()
    other:await()
    assert.same({ "done" }, list)
  end)

  it("was cancelled before it began, although all was done", function()
    local scope, queue = moonloop.CancelScope {}, Queue()
    scope:cancel()
    assert.is_false(scope:run(queue.join, queue))
  end)

  it("was or was not as the cancellation came before or after the last task_done", function()
    for _, first in ipairs { "task_done", "cancel" } do
      local queue, list = queue_of(0, "item"), {}
      local joiner = tasks.start(function()
        queue:join()
        list[1] = "joined"
        list[2] = kind(moonloop.sleep, 0)
      end)
      queue:get()
      if first == "task_done" then queue:task_done() end
      joiner:cancel()
      if first == "cancel" then queue:task_done() end
      tasks.outcome(joiner)
      assert.same(first == "cancel" and {} or { "joined", "CancelledError" }, list)
    end
  end)

  it("was or was not as the deadline passed before or after the last task_done", function()
    for _, first in ipairs { "task_done", "deadline" } do
      local queue, scope = queue_of(0, "item"), moonloop.CancelScope {}
      local joiner = tasks.start(scope.run, scope, queue.join, queue)
      queue:get()
      if first == "task_done" then queue:task_done() end
      scope.deadline = moonloop.time() - 1
      if first == "deadline" then queue:task_done() end
      assert.equal(first == "task_done", (joiner:await()))
    end
  end)
end)
