-- SPDX-License-Identifier: MIT
-- The Queue: items that tasks put and get, first in, first out, and a bound at
-- which putting waits. Who gets waits only while there is no item, and who puts
-- only while there is no room, so it is enough to look for a waiter where the
-- queue is empty or full. An item goes straight to the task that waits for it.

local core = require "moonloop.core"
local options = require "moonloop.options"
local sync = require "moonloop.sync"

local M = {}

local queue_mt, check, begin = sync.class "Queue"
local Queue = queue_mt.__index

-- ---- the store: a ring ---------------------------------------------------------------
--
-- The items are those numbered `first` to `last`, which only grow; the place of a
-- number in the ring is that number modulo its length, a power of two. Empty
-- places hold false, which keeps the ring an array (but for place 0). The other
-- classes have their own `store`, `fetch`, `unfetch` and `drop`.

local FIRST_MASK <const> = 7

local function empty_ring(mask)
  local ring = {}
  for i = 1, mask do ring[i] = false end
  ring[0] = false
  return ring
end

-- From how many items on `put` and `get` look closer: no room in the ring or in the
-- queue, or tasks that wait for some. Always so in the other classes.
local function set_limits(self)
  self.put_limit = self.is_shut and -1 or math.min(self.mask + 1, self.bound)
  self.get_limit = self.bound
end

function queue_mt.clear(self)
  self.items, self.mask = empty_ring(FIRST_MASK), FIRST_MASK
  self.first = self.last + 1
  self.peak = #self.items
  set_limits(self)
end

local function grow(self)
  local items, mask = self.items, self.mask
  local bigger_mask = 2 * mask + 1
  local bigger = empty_ring(bigger_mask)
  for number = self.first, self.last do
    bigger[number & bigger_mask] = items[number & mask]
  end
  self.items, self.mask, self.peak = bigger, bigger_mask, bigger_mask
  set_limits(self)
end

function queue_mt.store(self, item)
  local last = self.last + 1
  if last - self.first > self.mask then grow(self) end
  self.items[last & self.mask] = item
  self.last = last
end

function queue_mt.peek(self) return self.items[self.first & self.mask] end

function queue_mt.fetch(self)
  local first, items = self.first, self.items
  local place = first & self.mask
  local item = items[place]
  items[place] = false
  self.first = first + 1
  return item
end

-- Puts an item back where `fetch` will find it next.
function queue_mt.unfetch(self, item)
  if self.last - self.first >= self.mask then grow(self) end
  self.first = self.first - 1
  self.items[self.first & self.mask] = item
end

-- Lets in the item of who has waited longest to put one.
function queue_mt.admit(self)
  local task, item = self.putters:wake(true)
  if task then self.kind.store(self, item) end
end

local KEPT <const> = 1024 -- items for which an empty queue keeps its memory

local function count(self) return self.last - self.first + 1 end

-- How many items were put and are not done. `last` counts what was stored, which
-- spares `put` a counter; `uncounted` is what went another way.
function queue_mt.count_unfinished(self) return self.last + self.uncounted - self.finished end

-- ---- making one ------------------------------------------------------------------------

local function finish(self, n)
  self.finished = self.finished + n
  if self.kind.count_unfinished(self) == 0 then self.joiners:wake_all() end
end

-- An item handed to a task that was closed before it ran is the next one again.
local function take_back(self, has_item, item)
  if not has_item then return end
  if self.is_dropped then return finish(self, 1) end
  if not self.getters:wake(true, item) then self.kind.unfetch(self, item) end
end

--- Makes a queue of a class.
function M.new(class, class_name, name, maxsize)
  maxsize = sync.check_integer(1, class_name, maxsize == nil and 0 or maxsize, math.mininteger)
  local label = sync.label("queue", name)
  local self = setmetatable({
    kind = class, name = name, label = label,
    maxsize = maxsize, bound = maxsize > 0 and maxsize or math.huge,
    put_limit = -1, get_limit = -1,
    first = 1, last = 0, uncounted = 0, finished = 0, is_shut = false,
    putters = core.waiters("put to " .. label), joiners = core.waiters("join of " .. label),
  }, class)
  self.getters = core.waiters("get from " .. label, function(...) take_back(self, ...) end)
  self.kind.clear(self)
  return self
end

--- Makes a queue. Its field `maxsize` is the bound.
-- @param[opt=0] maxsize integer, how many items it holds until `put` waits; 0 or
-- less for no bound
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return Queue
-- @raise bad argument for another `maxsize`, and for an option that does not exist
-- @see asyncio.Queue
function M.Queue(...)
  return M.new(queue_mt, "Queue", sync.arguments("Queue", 1, ...))
end

-- ---- putting ---------------------------------------------------------------------------

local function raise_shut(self)
  core.raise("QueueShutDown", ("%s is shut down"):format(self.label))
end

-- Puts into a queue that has room: to who waits for an item, or into the store.
local function accept(self, item)
  if count(self) == 0 and self.getters:wake(true, item) then
    self.uncounted = self.uncounted + 1
  else
    self.kind.store(self, item)
  end
end

local function put_slowly(self, item)
  if self.is_shut then raise_shut(self) end
  if count(self) < self.bound then return accept(self, item) end
  local is_in, is_refused, err = self.putters:wait(item)
  if is_in then return end
  if is_refused then error(err, 0) end
  raise_shut(self)
end

--- Puts an item. Awaits while the queue is full; a call that is cancelled has put
-- nothing.
-- @function Queue:put
-- @param item any value, nil too
-- @raise QueueShutDown; see Awaiting functions
-- @see asyncio.Queue.put
function Queue:put(item)
  begin(self)
  local last = self.last + 1
  local size = last - self.first
  if size == 0 or size >= self.put_limit then return put_slowly(self, item) end
  self.items[last & self.mask] = item -- as `store`, without a call
  self.last = last
end

--- Puts an item, where there is room.
-- @function Queue:put_nowait
-- @param item any value, nil too
-- @raise QueueFull; QueueShutDown
-- @see asyncio.Queue.put_nowait
function Queue:put_nowait(item)
  check(self, "put_nowait")
  if self.is_shut then raise_shut(self) end
  if count(self) >= self.bound then
    core.raise("QueueFull", ("%s is full (%d items)"):format(self.label, count(self)))
  end
  accept(self, item)
end

-- ---- getting ---------------------------------------------------------------------------

-- Takes an item; who waits to put gets its place.
local function take(self)
  local was_full = count(self) == self.bound
  local item = self.kind.fetch(self)
  if was_full then self.kind.admit(self) end
  return item
end

local function wait_for_item(self)
  if self.is_shut then raise_shut(self) end
  if self.peak > KEPT then self.kind.clear(self) end -- gives memory back after a burst
  local has_item, item = self.getters:wait()
  if not has_item then raise_shut(self) end
  return item
end

local function get_slowly(self)
  if count(self) > 0 then return take(self) end
  return wait_for_item(self)
end

--- Takes an item out. Awaits while the queue is empty; a call that is cancelled
-- has taken none.
-- @function Queue:get
-- @return the item, which may be nil
-- @raise QueueShutDown when it is shut down and empty; see Awaiting functions
-- @see asyncio.Queue.get
function Queue:get()
  begin(self)
  local first = self.first
  local size = self.last - first + 1
  if size == 0 or size >= self.get_limit then return get_slowly(self) end
  local items, place = self.items, first & self.mask
  local item = items[place] -- as `fetch`, without a call
  items[place] = false
  self.first = first + 1
  return item
end

-- Of a class whose `last` goes down too, `store` counts what is put.
local function count_all(self) return self.uncounted - self.finished end

--- Makes a class of queues below Queue, with a store of its own.
function M.subclass(name)
  local class, _, begin_own = sync.class(name, queue_mt)
  local methods = class.__index
  class.count_unfinished = count_all
  function methods.put(self, item)
    begin_own(self)
    put_slowly(self, item)
  end
  function methods.get(self)
    begin_own(self)
    return get_slowly(self)
  end
  return class
end

--- Takes an item out, where there is one.
-- @function Queue:get_nowait
-- @return the item, which may be nil
-- @raise QueueEmpty; QueueShutDown when it is shut down and empty
-- @see asyncio.Queue.get_nowait
function Queue:get_nowait()
  check(self, "get_nowait")
  if count(self) > 0 then return take(self) end
  if self.is_shut then raise_shut(self) end
  core.raise("QueueEmpty", ("%s is empty"):format(self.label))
end

local function raise_nil_item(self)
  core.raise("Error", ("%s: the next item is nil, which would end the loop; use get")
    :format(self.label))
end

local function next_item(self)
  begin(self)
  if count(self) > 0 then
    if self.kind.peek(self) == nil then raise_nil_item(self) end
    return take(self)
  end
  if self.is_shut then return nil end
  local has_item, item = self.getters:wait()
  if not has_item or item ~= nil then return item end
  take_back(self, true, nil)
  raise_nil_item(self)
end

--- Iterates over the items as they come, until the queue is shut down and empty.
-- The iterator awaits.
-- @function Queue:iter
-- @return iterator for a `for` loop
-- @raise in the loop: Error for an item that is nil, which stays in the queue; see
-- Awaiting functions
-- @see asyncio.Queue.get
function Queue:iter()
  check(self, "iter")
  return next_item, self
end

-- ---- counting ---------------------------------------------------------------------------

--- Counts the items in the queue.
-- @function Queue:qsize
-- @return integer
-- @see asyncio.Queue.qsize
function Queue:qsize()
  check(self, "qsize")
  return count(self)
end

--- Tells whether there is no item in the queue.
-- @function Queue:empty
-- @see asyncio.Queue.empty
function Queue:empty()
  check(self, "empty")
  return count(self) == 0
end

--- Tells whether the queue has reached its bound.
-- @function Queue:full
-- @see asyncio.Queue.full
function Queue:full()
  check(self, "full")
  return count(self) >= self.bound
end

--- Says that the work on an item that was taken out is done.
-- @function Queue:task_done
-- @raise InvalidStateError when called more often than items were put
-- @see asyncio.Queue.task_done
function Queue:task_done()
  check(self, "task_done")
  if self.kind.count_unfinished(self) == 0 then
    core.raise("InvalidStateError", ("%s: task_done() called too often"):format(self.label))
  end
  finish(self, 1)
end

--- Waits until `task_done` was called for every item that was put. Awaits.
-- @function Queue:join
-- @raise see Awaiting functions
-- @see asyncio.Queue.join
function Queue:join()
  begin(self)
  if self.kind.count_unfinished(self) > 0 then self.joiners:wait() end
end

--- Shuts the queue down: `put` raises from now on, `get` when the queue is empty;
-- those who wait get a QueueShutDown now.
-- @function Queue:shutdown
-- @param[opt=false] immediate boolean: drop the items that are left, as if they
-- were done
-- @see asyncio.Queue.shutdown
function Queue:shutdown(immediate)
  check(self, "shutdown")
  if immediate ~= nil then options.check_type(1, "shutdown", immediate, "boolean") end
  self.is_shut = true
  self.put_limit = -1
  self.putters:wake_all(false)
  self.getters:wake_all(false)
  if not immediate then return end
  local dropped = count(self)
  self.is_dropped = true
  self.kind.clear(self)
  if dropped > 0 then finish(self, dropped) end
end

function queue_mt.describe(self)
  return ("%d item%s%s%s"):format(count(self), count(self) == 1 and "" or "s",
    self.maxsize > 0 and (" of %d"):format(self.maxsize) or "",
    self.is_shut and ", shut down" or "")
end

return M
