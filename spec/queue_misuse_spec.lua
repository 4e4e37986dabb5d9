-- SPDX-License-Identifier: MIT
-- Queues, locks and barriers used in ways that cannot work: what is raised, in
-- the user's words and at the user's line, and that nothing is lost by it.
local moonloop = require "moonloop"
local queues = require "spec.support.queues"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local Queue, LifoQueue = moonloop.Queue, moonloop.LifoQueue
local PriorityQueue = moonloop.PriorityQueue

local HERE <const> = "queue_misuse_spec.lua:"

-- The error that a call fails with, as text.
local function refusal(fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok)
  return tostring(err)
end

local drained = queues.drained

describe("An option that does not exist", function()
  local CLASSES = { "Queue", "LifoQueue", "PriorityQueue", "Semaphore", "Condition", "Lock" }

  for _, name in ipairs(CLASSES) do
    it("is refused by " .. name .. " with the place of its table", function()
      local message = refusal(moonloop[name], { nam = "x" })
      assert.matches(("bad argument #1 to '%s'"):format(name), message, 1, true)
      assert.matches("did you mean 'name'?", message, 1, true)
    end)
  end

  it("is refused after a size too", function()
    for _, name in ipairs { "Queue", "LifoQueue", "Semaphore" } do
      assert.matches(("bad argument #2 to '%s'"):format(name),
        refusal(moonloop[name], 1, { nam = "x" }), 1, true)
    end
    assert.matches("bad argument #3 to 'PriorityQueue'",
      refusal(PriorityQueue, 1, nil, { nam = "x" }), 1, true)
  end)
end)

describe("A method taken from one class", function()
  local CLASSES = { Queue = Queue, LifoQueue = LifoQueue, PriorityQueue = PriorityQueue }

  for name, class in pairs(CLASSES) do
    it("serves no other: " .. name .. "'s put and get", function()
      for other, make in pairs(CLASSES) do
        if other ~= name then
          local queue = make()
          for _ = 1, 2 do
            local ok, err = pcall(class().put, queue, 1)
            if not ok then assert.matches(name .. " expected", tostring(err), 1, true) end
          end
          for _ = 1, queue:qsize() do assert.equal(1, (queue:get())) end
          queue:put(1)
          local ok, err = pcall(class().get, queue)
          if not ok then assert.matches(name .. " expected", tostring(err), 1, true) end
        end
      end
    end)
  end

  it("is one of a queue's documented ones", function()
    local names = {}
    for name in pairs(getmetatable(Queue()).__index) do names[#names + 1] = name end
    table.sort(names)
    assert.same({ "empty", "full", "get", "get_nowait", "iter", "join", "put", "put_nowait",
      "qsize", "shutdown", "task_done" }, names)
  end)
end)

describe("A guard's release", function()
  for name, make in pairs { Lock = moonloop.Lock, Semaphore = moonloop.Semaphore } do
    it("refuses another self: " .. name, function()
      local owner = make { name = "mine" }
      local guard = owner:acquire()
      for _, other in ipairs { owner, "text", {} } do
        local message = refusal(guard.release, other)
        assert.matches("bad argument #1 to 'release'", message, 1, true)
        assert.matches("Guard expected", message, 1, true)
        assert.matches(HERE, refusal(function() guard.release(other) end), 1, true)
      end
      assert.matches('"mine"', tostring(guard), 1, true)
      assert.matches("held", tostring(guard), 1, true)
      guard:release()
      assert.matches("released", tostring(guard), 1, true)
    end)
  end
end)

describe("A priority queue", function()
  it("says what to do about items that cannot be compared, at the line of the put", function()
    local queue = PriorityQueue { name = "jobs" }
    queue:put { 1, "a" }
    for _, put in ipairs { queue.put, queue.put_nowait } do
      local message = refusal(function() put(queue, { 2, "b" }) end)
      assert.matches(HERE, message, 1, true)
      assert.matches('queue "jobs"', message, 1, true)
      assert.matches("attempt to compare two table values", message, 1, true)
      assert.matches("function that compares", message, 1, true)
      assert.is_nil(message:find("moonloop/", 1, true))
    end
    assert.equal(1, queue:qsize())
  end)

  it("says that its comparison cannot await", function()
    local queue = PriorityQueue(0, function(a, b)
      moonloop.sleep(0)
      return a < b
    end)
    queue:put(1)
    local message = refusal(queue.put, queue, 2)
    assert.matches("the comparison of a PriorityQueue", message, 1, true)
    assert.is_nil(message:find("comparing_in", 1, true))
    assert.equal("1", drained(queue))
  end)

  it("raises nil where its comparison does, also to a put that waits", function()
    local queue = PriorityQueue(2, function(a, b)
      if a == 66 or b == 66 then error() end
      return a < b
    end)
    queue:put(1)
    queue:put(2)
    local putter = tasks.start(function() return pcall(queue.put, queue, 66) end)
    assert.equal(1, queue:get())
    local ok, err = putter:await()
    assert.is_false(ok)
    assert.is_nil(err)
    assert.equal("2", drained(queue))
  end)

  for name, use in pairs {
    put_nowait = function(queue) queue:put_nowait(0) end,
    get_nowait = function(queue) queue:get_nowait() end,
  } do
    it("lets its comparison use " .. name .. " of no queue of its own, and loses none", function()
      local queue, refused, used
      queue = PriorityQueue(0, function(a, b)
        if not used then
          used = true
          local ok, err = pcall(use, queue)
          refused = not ok and err.kind
        end
        return a < b
      end)
      for _, item in ipairs { 3, 1, 2, 4, 5 } do queue:put(item) end
      assert.equal("InvalidStateError", refused)
      assert.equal("1 2 3 4 5", drained(queue))
    end)
  end
end)

describe("A nil that a loop over a queue meets", function()
  it("stays in the queue, which takes no more for it than its bound", function()
    local queue = Queue(1)
    queue:put(nil)
    local putter = tasks.start(queue.put, queue, 2)
    assert.matches("nil", refusal(function()
      for _ in queue:iter() do assert.is_nil("an element") end
    end), 1, true)
    testing.wait_all_blocked()
    assert.equal(1, queue:qsize())
    assert.is_false(putter:done())
    assert.is_nil(queue:get())
    assert.equal(2, queue:get())
    putter:await()
  end)
end)

describe("A barrier that was reset", function()
  it("says so to who waits, and not that it is broken", function()
    local barrier = moonloop.Barrier(2, { name = "start" })
    local waiter = tasks.start(barrier.wait, barrier)
    barrier:reset()
    local ok, err = tasks.outcome(waiter)
    assert.is_false(ok)
    assert.equal("BrokenBarrierError", err.kind)
    assert.matches('barrier "start" was reset', err.message, 1, true)
  end)
end)
