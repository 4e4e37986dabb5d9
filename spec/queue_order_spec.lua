-- SPDX-License-Identifier: MIT
-- PriorityQueue and LifoQueue: the order of their items, comparisons that fail,
-- and that they keep what a Queue promises to those who wait.
local moonloop = require "moonloop"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local core = require "moonloop.core" -- closes a task by force
local PriorityQueue, LifoQueue = moonloop.PriorityQueue, moonloop.LifoQueue

local kind, drained = tasks.raised, queues.drained

local function put_all(queue, ...)
  for _, item in ipairs { ... } do queue:put_nowait(item) end
  return queue
end

-- Orders {rank=, name=} by rank.
local function by_rank(a, b) return a.rank < b.rank end

local function names(queue)
  local list = {}
  while not queue:empty() do list[#list + 1] = queue:get_nowait().name end
  return table.concat(list)
end

-- `<`, which raises "no order" while `state.failing`.
local function failing_order(state)
  return function(a, b)
    if state.failing then error("no order", 0) end
    return a < b
  end
end

-- The smallest item's place in a list, the first among equals.
local function smallest(list)
  local best = 1
  for i = 2, #list do
    if list[i].rank < list[best].rank then best = i end
  end
  return best
end

describe("PriorityQueue", function()
  it("gives the smallest first", function()
    assert.equal("1 1 2 3 4 5 9", drained(put_all(PriorityQueue(), 3, 1, 4, 1, 5, 9, 2)))
    assert.equal("a b c", drained(put_all(PriorityQueue(), "c", "a", "b")))
  end)

  it("gives equal ones first in, first out", function()
    local queue = PriorityQueue(0, by_rank)
    for name, rank in ("b2a1c2d1e1f2g0"):gmatch("(%a)(%d)") do
      queue:put_nowait { rank = tonumber(rank), name = name }
    end
    assert.equal("gadebcf", names(queue))
  end)

  it("takes an order of its own", function()
    local queue = PriorityQueue(nil, function(a, b) return a > b end)
    assert.equal("3 2 1", drained(put_all(queue, 2, 3, 1)))
  end)

  it("keeps its order through any puts and gets", function()
    local queue, model = PriorityQueue(0, by_rank), {}
    for step = 1, 3000 do
      if #model == 0 or math.random(5) > 2 then
        local item = { rank = math.random(20), name = step }
        queue:put_nowait(item)
        model[#model + 1] = item
      else
        local expected = table.remove(model, smallest(model))
        assert(queue:get_nowait() == expected, "a wrong item in step " .. step)
      end
    end
    while #model > 0 do
      assert.equal(table.remove(model, smallest(model)), queue:get_nowait())
    end
    assert.is_true(queue:empty())
  end)
end)

describe("A priority queue", function()
  it("holds nil where its order knows it", function()
    local queue = PriorityQueue(0, function(a, b) return (a or 0) < (b or 0) end)
    for _, item in ipairs { 1, false, -1 } do queue:put(item or nil) end
    assert.equal(-1, queue:get())
    assert.same({ n = 1 }, table.pack(queue:get()))
    assert.equal(1, queue:get())
  end)

  it("has a bound, and putters take the room in line, not by priority", function()
    local queue, list = put_all(PriorityQueue(2), 5, 6), {}
    for _, item in ipairs { 4, 1, 3 } do
      tasks.start(function()
        queue:put(item)
        list[#list + 1] = item
      end)
    end
    assert.equal("QueueFull", kind(queue.put_nowait, queue, 0))
    local got = {}
    for i = 1, 5 do
      got[i] = queue:get()
      testing.wait_all_blocked()
    end
    assert.same({ 5, 4, 1, 3, 6 }, got)
    assert.same({ 4, 1, 3 }, list)
  end)

  it("takes a size, an order and a name, and nothing else", function()
    assert.matches("bad argument #1 to 'PriorityQueue' (", kind(PriorityQueue, "x"), 1, true)
    assert.matches("bad argument #2 to 'PriorityQueue' (", kind(PriorityQueue, 0, 5), 1, true)
    assert.matches("bad argument #3 to 'PriorityQueue' (there is no option 'nam'",
      kind(PriorityQueue, 0, by_rank, { nam = "jobs" }), 1, true)
    for _, queue in ipairs {
      PriorityQueue { name = "jobs" }, PriorityQueue(1, { name = "jobs" }),
      PriorityQueue(1, by_rank, { name = "jobs" }),
    } do
      assert.matches('^PriorityQueue.*"jobs"', tostring(queue))
      local waiter = tasks.start(queue.get, queue)
      assert.matches('queue "jobs"', waiter:awaiting(), 1, true)
      tasks.cancel(waiter)
    end
  end)

  it("takes an item back that it cannot compare now", function()
    local fails = false
    local queue = moonloop.PriorityQueue(0, function(a, b)
      return fails and error("not now", 0) or a < b
    end)
    local task = tasks.start(queue.get, queue)
    put_all(queue, 1, 3, 2)
    fails = true
    core.close_task(task)
    fails = false
    assert.equal("1 2 3", drained(queue))
  end)

  it("gives an item back to its place when its getter is closed by force", function()
    local queue = PriorityQueue(0, by_rank)
    local task = tasks.start(queue.get, queue)
    for name, rank in ("a1b1c0"):gmatch("(%a)(%d)") do
      queue:put_nowait { rank = tonumber(rank), name = name }
    end
    core.close_task(task)
    assert.equal("cab", names(queue))
  end)
end)

describe("A priority queue whose order fails", function()
  it("raises from put, and is as before", function()
    local state = {}
    for _, name in ipairs { "put", "put_nowait" } do
      local queue = put_all(PriorityQueue(0, failing_order(state)), 4, 2, 6, 1)
      state.failing = true
      assert.equal("no order", kind(queue[name], queue, 3))
      state.failing = false
      assert.equal(4, queue:qsize())
      queue:put_nowait(5)
      assert.equal("1 2 4 5 6", drained(queue))
    end
  end)

  it("raises from get, and is as before", function()
    local state = {}
    for _, name in ipairs { "get", "get_nowait" } do
      local queue = put_all(PriorityQueue(0, failing_order(state)), 4, 2, 6, 1, 5)
      state.failing = true
      assert.equal("no order", kind(queue[name], queue))
      state.failing = false
      assert.equal(5, queue:qsize())
      assert.equal("1 2 4 5 6", drained(queue))
    end
  end)

  it("does so at any comparison of a put or a get", function()
    local left = math.huge
    local queue = PriorityQueue(0, function(a, b)
      left = left - 1
      if left < 0 then error("no order", 0) end
      return a < b
    end)
    for i = 1, 20 do queue:put_nowait(i * 7 % 20) end
    for name, size in pairs { put_nowait = 20, get_nowait = 21 } do
      if name == "get_nowait" then put_all(queue, -1) end
      for count = 0, 40 do
        left = count
        if pcall(queue[name], queue, -1) then break end
        assert.equal(size, queue:qsize())
      end
      left = math.huge
      if name == "put_nowait" then assert.equal(-1, queue:get_nowait()) end
    end
    assert.equal("0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19", drained(queue))
  end)
end)

describe("A priority queue whose items fit no order", function()
  it("raises what cannot be compared", function()
    local queue = put_all(PriorityQueue(), 1)
    assert.matches("attempt to compare", kind(queue.put, queue, "one"), 1, true)
    assert.matches("attempt to compare", kind(queue.put_nowait, queue, {}), 1, true)
    assert.equal("1", drained(queue))
  end)

  it("loses and doubles nothing when a waiting put meets it", function()
    local queue = put_all(PriorityQueue(2), 1, 2)
    local putter = tasks.start(queue.put, queue, "not a number")
    local items = {}
    for _ = 1, 10 do
      local ok, item = pcall(queue.get_nowait, queue)
      if ok then items[#items + 1] = tostring(item) end
      testing.wait_all_blocked()
    end
    putter:cancel()
    local kept = pcall(putter.await, putter)
    while not queue:empty() do items[#items + 1] = tostring(queue:get_nowait()) end
    assert.equal(kept and "1 2 not a number" or "1 2", table.concat(items, " "))
  end)

  it("may not await in it", function()
    local queue = PriorityQueue(0, function(a, b)
      moonloop.sleep(0)
      return a < b
    end)
    queue:put(1)
    assert.equal("Error", kind(queue.put, queue, 2))
    assert.equal("1", drained(queue))
  end)
end)

describe("LifoQueue", function()
  it("gives the last first", function()
    local queue = put_all(LifoQueue(), 1, 2, 3)
    assert.equal(3, queue:get())
    queue:put(4)
    assert.equal("4 2 1", drained(queue))
  end)

  it("holds nil", function()
    local queue = LifoQueue()
    queue:put("first")
    queue:put(nil)
    assert.same({ n = 1 }, table.pack(queue:get()))
    assert.equal("first", queue:get())
  end)

  it("has a bound, and putters take the room in line", function()
    local queue, list = put_all(LifoQueue(2), "a", "b"), {}
    for _, item in ipairs { "c", "d" } do
      tasks.start(function()
        queue:put(item)
        list[#list + 1] = item
      end)
    end
    assert.equal("b", queue:get_nowait())
    assert.equal("c", queue:get_nowait())
    testing.wait_all_blocked()
    assert.same({ "c", "d" }, list)
    assert.equal("d a", drained(queue))
  end)

  it("takes a size and a name, and nothing else", function()
    assert.matches("bad argument #1 to 'LifoQueue' (", kind(LifoQueue, "x"), 1, true)
    assert.matches("bad argument #2 to 'LifoQueue' (there is no option 'nam'",
      kind(LifoQueue, 0, { nam = "jobs" }), 1, true)
    assert.matches('^LifoQueue.*"jobs"', tostring(LifoQueue { name = "jobs" }))
  end)
end)

for _, name in ipairs { "PriorityQueue", "LifoQueue" } do
  local class = moonloop[name]

  describe("A wait at a " .. name, function()
    it("for an item is handed the item, first in, first out", function()
      local queue, list = class(), {}
      for i = 1, 3 do
        tasks.start(function()
          local item = queue:get()
          list[#list + 1] = i .. item
        end)
      end
      put_all(queue, "c", "a", "b")
      assert.equal("QueueEmpty", kind(queue.get_nowait, queue))
      testing.wait_all_blocked()
      assert.same({ "1c", "2a", "3b" }, list)
    end)

    it("times out and leaves the line", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local queue = class(1)
      assert.is_false((moonloop.move_on_after(5, queue.get, queue)))
      queue:put("item")
      assert.is_false((moonloop.move_on_after(5, queue.put, queue, "late")))
      assert.equal("item", drained(queue))
    end)

    it("does not begin in a cancelled scope", function()
      local queue, full = class(), put_all(class(), "item")
      local scope = moonloop.CancelScope {}
      scope:cancel()
      assert.is_false(scope:run(function()
        pcall(full.get, full)
        queue:put("item")
      end))
      assert.is_true(queue:empty())
      assert.equal("item", drained(full))
    end)
  end)

  describe("A wait that ends at a " .. name, function()
    it("has its item or not as the cancellation came after it or before", function()
      for _, first in ipairs { "put", "cancel" } do
        local queue = class()
        local task = tasks.start(queue.get, queue)
        if first == "put" then queue:put_nowait("item") end
        task:cancel()
        if first == "cancel" then queue:put_nowait("item") end
        local ok, item = tasks.outcome(task)
        assert.equal(first == "put", ok)
        assert.equal("item", ok and item or drained(queue))
        assert.is_true(queue:empty())
      end
    end)

    it("has its room or not as the cancellation came after it or before", function()
      for _, first in ipairs { "get", "cancel" } do
        local queue = put_all(class(1), "a")
        local task = tasks.start(queue.put, queue, "b")
        if first == "get" then queue:get_nowait() end
        task:cancel()
        if first == "cancel" then queue:get_nowait() end
        assert.equal(first == "get", (tasks.outcome(task)))
        assert.equal(first == "get" and "b" or "", drained(queue))
      end
    end)

    it("by force passes its item on", function()
      local queue = class()
      local task = tasks.start(queue.get, queue)
      local next_one = tasks.start(queue.get, queue)
      queue:put_nowait("item")
      core.close_task(task)
      assert.equal("item", next_one:await())
      assert.is_true(queue:empty())
    end)
  end)
end
