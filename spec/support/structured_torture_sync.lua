-- SPDX-License-Identifier: MIT
-- The structured torture of locks, semaphores, events, barriers, conditions and
-- queues: each function makes one with a crowd of prey around it, waits until all
-- have ended, and checks that nothing was lost, doubled, overtaken or left.
local m = require "moonloop"
local tools = require "spec.support.structured_torture_tools"

local R = math.random
local bounded, check, in_line, is_cancelled = tools.bounded, tools.check, tools.in_line,
  tools.is_cancelled
local join, join_all, later, leaving = tools.join, tools.join_all, tools.later, tools.leaving
local nap, spawn, strike = tools.nap, tools.spawn, tools.strike

-- ---- locks, semaphores, events, barriers -------------------------------------

local M = {}

-- Tasks that take `what` again and again; at most `n` of them at once.
local function crowd(what, label, n)
  local line, inside, all = {}, 0, {}
  local function use()
    local _ <close> = in_line(line, label, function() return what:acquire() end)
    inside = inside + 1
    check(inside <= n, tostring(what) .. " has too many holders")
    local _ <close> = leaving(function() inside = inside - 1 end)
    nap()
  end
  for i = 1, R(10, 60) do
    all[i] = spawn(function()
      for _ = 1, R(4) do
        bounded(use)
        nap()
      end
    end, true)
  end
  join_all(all)
  check(inside == 0 and #line == 0, "somebody is left")
end

function M.locks()
  local lock = m.Lock { name = "torture" }
  crowd(lock, 'lock "torture"', 1)
  check(not lock:locked(), "a lock without holder is held")
end

function M.semaphores()
  local n = R(4)
  local semaphore = m[R(2) == 1 and "Semaphore" or "BoundedSemaphore"](n, { name = "torture" })
  crowd(semaphore, 'semaphore "torture"', n)
  for _ = 1, n do
    check(not semaphore:locked(), "a permit was lost")
    semaphore:acquire()
  end
  check(semaphore:locked(), "a permit was doubled")
end

-- A holder that ends without letting go.
function M.abandoned()
  local lock, ended, all = m.Lock(), false, {}
  local holder = m.create_task(function()
    lock:acquire()
    m.sleep_until(later(1, 3))
    ended = true
  end)
  m.sleep(0)
  for i = 1, 10 do
    all[i] = spawn(function()
      nap()
      local ok, err = pcall(lock.acquire, lock)
      check(not ok, "an abandoned lock was acquired")
      if is_cancelled(err) then error(err, 0) end
      check(ended and m.is_error(err, "InvalidStateError"), err)
    end, true)
  end
  join(holder)
  join_all(all)
end

function M.events()
  local event, sets, arrived, last, all = m.Event(), 0, 0, 0, {}
  local function set()
    sets = sets + 1
    event:set()
    if R(3) > 1 then event:clear() end
  end
  for i = 1, R(20, 60) do
    all[i] = spawn(function()
      nap()
      arrived = arrived + 1
      local place, before, at_once = arrived, sets, event:is_set()
      check(event:wait() == true, "wait answered something else")
      if at_once then return end
      check(sets > before, "woken by nothing")
      check(place > last, "overtaken at an event")
      last = place
    end, true)
  end
  for _ = 1, 10 do
    nap()
    set()
    if R(2) == 1 then strike() end
  end
  m.sleep_until(later(4, 4))
  sets = sets + 1
  event:set()
  join_all(all)
end

function M.barriers()
  local n = R(2, 4)
  local barrier, counts, all = m.Barrier(n), {}, {}
  for i = 1, n do counts[i] = 0 end
  local function pass()
    local ok, number = pcall(barrier.wait, barrier)
    if ok then
      counts[number] = counts[number] + 1
    elseif not m.is_error(number, "BrokenBarrierError") then
      error(number, 0)
    end
  end
  for i = 1, R(10, 30) do
    all[i] = spawn(function()
      while not barrier.broken do
        bounded(pass)
        m.sleep_until(later(1, 2))
      end
    end)
  end
  for _ = 1, 10 do
    m.sleep_until(later(1, 3))
    if R(4) == 1 then barrier:reset() end
  end
  barrier:abort()
  join_all(all)
  for i = 2, n do check(counts[i] == counts[1], "a round was passed by fewer or more") end
  check(barrier.n_waiting == 0, "somebody still waits at the barrier")
end

-- ---- conditions, queues ------------------------------------------------------

-- Calls `fn` as it is: what must not be healed by a limit that is over.
local function unbounded(fn) return fn() end

-- Producers and consumers around a few places, as one builds it of two conditions
-- that share a lock.
function M.conditions()
  local lock, most, call = m.Lock(), R(3), R(2) == 1 and bounded or unbounded
  local filled, emptied = m.Condition(lock), m.Condition(lock)
  local places, sent, got, over, busy = 0, 0, 0, false, false
  -- Waits for `ready` at `own`, does `change`, and tells `other`.
  local function step(own, ready, other, change)
    local _ <close> = own:acquire()
    own:wait_for(ready)
    check(not busy and ready(), "the lock is not held alone")
    busy = true
    local _ <close> = leaving(function()
      busy = false
      other:notify()
    end)
    change()
    nap()
  end
  local function consume()
    while not (over and places == 0) do
      call(function()
        step(filled, function() return places > 0 or over end, emptied, function()
          if places > 0 then places, got = places - 1, got + 1 end
        end)
      end)
    end
  end
  local function produce()
    for _ = 1, R(10) do
      call(function()
        step(emptied, function() return places < most end, filled, function()
          places, sent = places + 1, sent + 1
        end)
      end)
    end
  end
  local producers, consumers = {}, { m.create_task(consume) }
  for i = 1, R(2, 8) do producers[i], consumers[i + 1] = spawn(produce), spawn(consume) end
  join_all(producers)
  over = true
  local guard = lock:acquire()
  filled:notify_all()
  guard:release()
  join_all(consumers)
  check(places == 0 and sent == got, ("%d items sent, %d got"):format(sent, got))
end

local QUEUES = {
  Queue = function(a, b) return a.order < b.order end,
  LifoQueue = function(a, b) return a.order > b.order end,
  PriorityQueue = function(a, b)
    return a.rank < b.rank or a.rank == b.rank and a.order < b.order
  end,
}

local function by_rank(a, b) return a.rank < b.rank end

-- What goes into the queue: each item is noted as what became of its put.
local function producer(queue, items)
  return function()
    for _ = 1, R(20) do
      local item = { order = #items + 1, rank = R(5), state = "trying", got = 0 }
      items[item.order] = item
      local ok, err = pcall(bounded, function()
        queue:put(item)
        item.state = "sent"
      end)
      if item.state == "trying" then item.state = "refused" end
      if m.is_error(err, "QueueShutDown") then return end
      if not ok then error(err, 0) end
      nap()
    end
  end
end

local function consumer(queue, orderly)
  local last = 0
  local function take()
    local item = queue:get()
    item.got = item.got + 1
    check(item.got == 1, "an item was got twice")
    check(not orderly or item.order > last, "an item was overtaken")
    last = item.order
    queue:task_done()
  end
  return function()
    while true do
      local ok, err = pcall(bounded, take)
      if m.is_error(err, "QueueShutDown") then return end
      if not ok then error(err, 0) end
      nap()
    end
  end
end

-- Takes in one go what is there, which must lie in the queue's order.
local function drain(queue, before)
  local previous
  while not queue:empty() do
    local item = queue:get_nowait()
    item.got = item.got + 1
    check(not (before and previous) or before(previous, item), "items lie in a wrong order")
    previous = item
    queue:task_done()
  end
end

-- Takes some of what comes while the work goes on. Awaits.
local function drain_at_times(queue, before)
  for _ = 1, 8 do
    m.sleep_until(later(1, 1))
    drain(queue, before)
  end
end

local function queues(name)
  local maxsize, closable, immediate = R(-3, 3), R(2) == 1, R(4) == 1
  local queue = m[name](math.max(0, maxsize), name == "PriorityQueue" and by_rank or nil)
  local items, producers, consumers = {}, {}, {}
  local orderly = name == "Queue" and not closable
  consumers[1] = m.create_task(consumer(queue, orderly))
  for i = 1, R(4, 12) do
    producers[i] = spawn(producer(queue, items), closable)
    if i % 3 == 0 then consumers[i // 3 + 1] = spawn(consumer(queue, orderly), closable) end
  end
  if maxsize <= 0 then drain_at_times(queue, not closable and QUEUES[name] or nil) end
  if immediate then m.sleep_until(later(1, 9)) else join_all(producers) end
  queue:shutdown(immediate)
  drain(queue, not closable and QUEUES[name] or nil)
  join_all(producers)
  join_all(consumers)
  drain(queue)
  for _, item in ipairs(items) do
    local wrong = item.state == "refused" and item.got > 0 or item.got > 1
      or item.state == "sent" and item.got == 0 and not immediate
    check(not wrong, ("an item was %s and got %d times"):format(item.state, item.got))
  end
  queue:join()
  check(not pcall(queue.task_done, queue), "join counted wrong")
end

function M.queues() queues "Queue" end

function M.priority_queues() queues "PriorityQueue" end

function M.lifo_queues() queues "LifoQueue" end

return M
