-- SPDX-License-Identifier: MIT
-- Queue: items, getters and putters, each in line. What stands elsewhere: gets and
-- puts that are given up in queue_cancel_spec.lua, join in queue_join_spec.lua,
-- shutdown and iter in queue_shutdown_spec.lua, other orders in queue_order_spec.lua.
local moonloop = require "moonloop"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local Queue, create_task = moonloop.Queue, moonloop.create_task

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

describe("Queue", function()
  it("knows its size", function()
    local queue = Queue(2)
    assert.equal(2, queue.maxsize)
    for i = 0, 2 do
      assert.equal(i, queue:qsize())
      assert.equal(i == 0, queue:empty())
      assert.equal(i == 2, queue:full())
      if i < 2 then queue:put(i) end
    end
  end)

  it("is without bound unless told", function()
    local queue = Queue()
    assert.equal(0, queue.maxsize)
    for i = 1, 1000 do queue:put_nowait(i) end
    assert.is_false(queue:full())
    assert.equal(1000, queue:qsize())
    assert.is_false(Queue(0):full())
  end)

  it("gives what was put, first in, first out", function()
    local queue = Queue()
    for round = 1, 3 do
      for i = 1, 5 do queue:put(round * i) end
      for i = 1, 5 do assert.equal(round * i, queue:get()) end
    end
    assert.is_true(queue:empty())
  end)

  it("keeps its order through any puts and gets", function()
    local queue, first, last = Queue(), 1, 0
    for _ = 1, 500 do
      for _ = 1, math.random(0, 40) do
        last = last + 1
        queue[math.random(2) == 1 and "put" or "put_nowait"](queue, last)
      end
      for _ = 1, math.random(0, 40) do
        if first > last then break end
        local item = queue[math.random(2) == 1 and "get" or "get_nowait"](queue)
        assert(item == first, "a wrong item in place of " .. first)
        first = first + 1
      end
      assert.equal(last - first + 1, queue:qsize())
    end
  end)
end)

describe("A queue's items", function()
  it("may be nil, false and anything else", function()
    local queue, thing = Queue(), {}
    for _, item in ipairs { false, thing } do queue:put(item) end
    queue:put(nil)
    queue:put_nowait(nil)
    assert.equal(4, queue:qsize())
    assert.is_false(queue:get())
    assert.equal(thing, queue:get())
    assert.same({ n = 1 }, table.pack(queue:get()))
    assert.same({ n = 1 }, table.pack(queue:get_nowait()))
    assert.is_true(queue:empty())
  end)

  it("may be nil also for one who waits", function()
    local queue = Queue()
    local task = tasks.start(function() return table.pack(queue:get()) end)
    queue:put(nil)
    assert.same({ n = 1 }, task:await())
  end)
end)

describe("A queue", function()
  it("is put to and got from where there is no task", function()
    local queue, list = Queue(1), {}
    local putting = tasks.start(function()
      queue:put("a")
      queue:put("b")
    end)
    moonloop.get_running_loop():call_soon(function()
      list[1] = queue:get_nowait()
      list[2] = kind(queue.put_nowait, queue, "c")
      list[3] = queue:get_nowait()
      list[4] = kind(queue.get_nowait, queue)
      queue:put_nowait("d")
    end)
    testing.wait_all_blocked()
    assert.same({ "a", "QueueFull", "b", "QueueEmpty" }, list)
    assert.is_true(putting:done())
    assert.equal("d", drained(queue))
  end)

  it("takes a size and a name, and nothing else", function()
    for _, bad in ipairs { 1.5, "x", true } do
      assert.matches("bad argument #1 to 'Queue' (", kind(Queue, bad), 1, true)
    end
    assert.matches("bad argument #2 to 'Queue' (there is no option 'nam'",
      kind(Queue, 1, { nam = "jobs" }), 1, true)
    assert.matches('^Queue.*"jobs"', tostring(Queue(1, { name = "jobs" })))
    assert.matches('"jobs"', tostring(Queue { name = "jobs" }), 1, true)
  end)

  it("awaits nowhere outside a task", function()
    local queue, messages = queue_of(2, "item"), {}
    moonloop.get_running_loop():call_soon(function()
      for i, name in ipairs { "get", "put", "join" } do
        messages[i] = select(2, pcall(queue[name], queue, "more")).message
      end
    end)
    testing.wait_all_blocked()
    for i = 1, 3 do assert.matches("no running task", messages[i], 1, true) end
    assert.equal("item", drained(queue))
  end)
end)

describe("A queue's get", function()
  it("takes an item at once when there is one, without letting others run", function()
    local ran = false
    local task = create_task(function()
      local queue = queue_of(0, "item")
      create_task(function() ran = true end)
      return queue:get(), ran
    end)
    assert.same({ "item", false }, { task:await() })
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("waits for an item when there is none, first in, first out", function()
    local queue, list = Queue(), {}
    for i = 1, 5 do getter(queue, list, i) end
    for _, item in ipairs { "a", "b", "c", "d", "e" } do queue:put(item) end
    testing.wait_all_blocked()
    assert.equal("1a 2b 3c 4d 5e", table.concat(list, " "))
  end)

  it("is handed its item, so that nobody overtakes", function()
    local queue, list = Queue(), {}
    getter(queue, list)
    queue:put_nowait("a")
    assert.equal("QueueEmpty", kind(queue.get_nowait, queue))
    queue:put_nowait("b")
    assert.equal("b", queue:get())
    testing.wait_all_blocked()
    assert.same({ "a" }, list)
  end)

  it("is handed its item inside a generator", function()
    local queue, list = Queue(), {}
    local task = tasks.start(function()
      for item in coroutine.wrap(function()
        for _ = 1, 3 do coroutine.yield(queue:get()) end
      end) do
        list[#list + 1] = item
      end
    end)
    for i = 1, 3 do
      queue:put_nowait(i)
      testing.wait_all_blocked()
    end
    task:await()
    assert.same({ 1, 2, 3 }, list)
  end)

  it("lets others run although there is always an item", function()
    local queue, stop, count = Queue(), false, 0
    create_task(function() stop = true end)
    while not stop and count < 1e6 do
      queue:put_nowait(count)
      queue:get()
      count = count + 1
    end
    assert.is_true(stop)
  end)
end)

describe("A wait for an item", function()
  it("is what its task says it waits for", function()
    local named = Queue(0, { name = "jobs" })
    local texts = { ['get from queue "jobs"'] = named, ["get from a queue"] = Queue() }
    for text, queue in pairs(texts) do
      local task = tasks.start(queue.get, queue)
      assert.equal(text, task:awaiting())
      tasks.cancel(task)
    end
  end)

  it("is named with the queue in a DeadlockError, and leaves the line", function()
    local queue = Queue(0, { name = "jobs" })
    tasks.outcome(create_task(function() error("the producer ends", 0) end))
    local ok, err = pcall(queue.get, queue)
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for get from queue "jobs"', err.message, 1, true)
    queue:put_nowait("item")
    assert.equal("item", drained(queue))
  end)
end)

describe("A queue's put", function()
  it("is done at once when there is room, without letting others run", function()
    local ran = false
    local task = create_task(function()
      local queue = Queue(1)
      create_task(function() ran = true end)
      queue:put("item")
      return drained(queue), ran
    end)
    assert.same({ "item", false }, { task:await() })
    testing.wait_all_blocked()
    assert.is_true(ran)
  end)

  it("waits for room when there is none, first in, first out", function()
    local queue, list = queue_of(2, "a", "b"), {}
    for _, item in ipairs { "c", "d", "e" } do putter(queue, item, list) end
    assert.same({}, list)
    assert.equal(2, queue:qsize())
    assert.equal("a", queue:get())
    assert.equal(2, queue:qsize())
    testing.wait_all_blocked()
    assert.same({ "c" }, list)
    assert.equal("b c d e", drained(queue))
    testing.wait_all_blocked()
    assert.same({ "c", "d", "e" }, list)
  end)

  it("takes the room before anybody overtakes", function()
    local queue = queue_of(1, "a")
    local waiting = putter(queue, "b", {})
    assert.equal("a", queue:get_nowait())
    assert.equal("QueueFull", kind(queue.put_nowait, queue, "c"))
    waiting:await()
    assert.equal("b", drained(queue))
  end)

  it("is what its task says it waits for", function()
    local named, unnamed = Queue(1, { name = "jobs" }), Queue(1)
    for text, queue in pairs { ['put to queue "jobs"'] = named, ["put to a queue"] = unnamed } do
      queue:put("item")
      local task = tasks.start(queue.put, queue)
      assert.equal(text, task:awaiting())
      tasks.cancel(task)
    end
  end)

  it("is named with the queue in a DeadlockError, and leaves the line", function()
    local queue = Queue(1, { name = "jobs" })
    queue:put("item")
    local ok, err = pcall(queue.put, queue, "stuck")
    assert.is_false(ok)
    assert.equal("DeadlockError", err.kind)
    assert.matches('waits for put to queue "jobs"', err.message, 1, true)
    assert.equal("item", drained(queue))
  end)
end)
