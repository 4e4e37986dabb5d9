-- SPDX-License-Identifier: MIT
-- The Queue: items that tasks put and get, first in, first out, and a bound at
-- which putting waits. Who gets waits only while there is no item, and who puts
-- only while there is no room, so it is enough to look for a waiter where the
-- queue is empty or full. An item goes straight to the task that waits for it.
-- The items stand in a ring, which is C, and so is the way of an item in and out
-- of a queue that is neither empty nor full.

local core = require "moonloop.core"
local options = require "moonloop.options"
local sync = require "moonloop.sync"

local M = {}

local queue_mt, check, begin = sync.class "Queue"
local Queue = queue_mt.__index

-- ---- the store ---------------------------------------------------------------------------
--
-- What a class of queues has to have: how it keeps its items. `store` adds one, `fetch`
-- takes out the next, `unfetch` puts it back, `peek` only looks at it, `pushed` counts
-- what was stored so far, `room` for how many there is memory.

local RING <const> = 1 -- where `put` and `get` in C find the ring

function queue_mt.open(self) self[RING] = core.ring(self.bound) end

function queue_mt.count(self) return #self[RING] end

function queue_mt.store(self, item) self[RING]:push(item) end

function queue_mt.fetch(self) return self[RING]:pop() end

function queue_mt.unfetch(self, item) self[RING]:unpop(item) end

function queue_mt.peek(self) return self[RING]:peek() end

function queue_mt.pushed(self) return self[RING]:pushed() end

function queue_mt.room(self) return self[RING]:room() end

function queue_mt.clear(self) self[RING]:clear() end

-- From now on `put` in C does nothing by itself.
function queue_mt.shut(self) self[RING]:set_bound(0) end

-- Lets in the item of who has waited longest to put one.
function queue_mt.admit(self)
  local task, item = self.putters:wake(true)
  if task then self.kind.store(self, item) end
end

local KEPT <const> = 1024 -- items for which an empty queue keeps its memory

local function count(self) return self.kind.count(self) end

-- How many items were put and are not done; `handed` were never stored.
local function count_unfinished(self)
  return self.kind.pushed(self) + self.handed - self.finished
end

-- ---- making one ------------------------------------------------------------------------

local function finish(self, n)
  self.finished = self.finished + n
  if count_unfinished(self) == 0 then self.joiners:wake_all() end
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
    maxsize = maxsize, bound = maxsize > 0 and maxsize or math.maxinteger,
    handed = 0, finished = 0, is_shut = false, is_dropped = false,
    put = class.methods.put, get = class.methods.get, -- a tenth cheaper than the way up
    putters = core.waiters("put to " .. label), joiners = core.waiters("join of " .. label),
  }, class)
  self.getters = core.waiters("get from " .. label, function(...) take_back(self, ...) end)
  class.open(self)
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
    self.handed = self.handed + 1
  else
    self.kind.store(self, item)
  end
end

-- What `put` does not do in C. `is_late`: others have to run first.
local function put(self, item, is_late)
  if is_late then core.sleep(0) end
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

--- Puts an item, where there is room.
-- @function Queue:put_nowait
-- @param item any value, nil too
-- @raise QueueFull; QueueShutDown
-- @see asyncio.Queue.put_nowait
function Queue:put_nowait(item)
  check(self, "put_nowait")
  if self.is_shut then raise_shut(self) end
  if count(self) >= self.bound then
    core.raise("QueueFull", ("%s is full (maxsize %d)"):format(self.label, self.maxsize))
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

-- Of an empty queue, after a burst.
local function give_memory_back(self)
  if self.kind.room(self) > KEPT then self.kind.clear(self) end
end

-- What `get` does not do in C. `is_late`: others have to run first.
local function get(self, _, is_late)
  if is_late then core.sleep(0) end
  if count(self) > 0 then return take(self) end
  if self.is_shut then raise_shut(self) end
  give_memory_back(self)
  local has_item, item = self.getters:wait()
  if not has_item then raise_shut(self) end
  return item
end

--- Takes an item out. Awaits while the queue is empty; a call that is cancelled
-- has taken none.
-- @function Queue:get
-- @return the item, which may be nil
-- @raise QueueShutDown when it is shut down and empty; see Awaiting functions
-- @see asyncio.Queue.get

local function add_methods(class, name)
  class.methods.put, class.methods.get = core.queue_methods(name, class, class.kinds, put, get)
end

add_methods(queue_mt, "Queue")

--- Takes an item out, where there is one.
-- @function Queue:get_nowait
-- @return the item, which may be nil
-- @raise QueueEmpty; QueueShutDown when it is shut down and empty
-- @see asyncio.Queue.get_nowait
function Queue:get_nowait()
  check(self, "get_nowait")
  if count(self) > 0 then return take(self) end
  if self.is_shut then raise_shut(self) end
  give_memory_back(self)
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
  give_memory_back(self)
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
  if count_unfinished(self) == 0 then
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
  if count_unfinished(self) > 0 then self.joiners:wait() end
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
  self.kind.shut(self)
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

--- Makes a class of queues below Queue, with a store of its own: `open`, `count`,
-- `store`, `fetch`, `unfetch`, `peek`, `pushed`, `room`, `clear`.
function M.subclass(name)
  local class = sync.class(name, queue_mt)
  class.shut = function() end
  add_methods(class, name)
  return class
end

return M
