-- SPDX-License-Identifier: MIT
-- The LifoQueue: a Queue that gives the item put last first.

local queue = require "moonloop.queue"
local sync = require "moonloop.sync"

local M = {}

local lifo_mt = queue.subclass "LifoQueue"

function lifo_mt.open(self)
  lifo_mt.clear(self)
  self.stored = 0
end

function lifo_mt.clear(self) self.items, self.last, self.highest = {}, 0, 0 end

function lifo_mt.count(self) return self.last end

function lifo_mt.unfetch(self, item)
  local last = self.last + 1
  self.items[last] = item
  self.last = last
  if last > self.highest then self.highest = last end
end

function lifo_mt.store(self, item)
  lifo_mt.unfetch(self, item)
  self.stored = self.stored + 1
end

function lifo_mt.fetch(self)
  local last = self.last
  local item = self.items[last]
  self.items[last] = nil
  self.last = last - 1
  return item
end

function lifo_mt.peek(self) return self.items[self.last] end

function lifo_mt.pushed(self) return self.stored end

function lifo_mt.room(self) return self.highest end

--- Makes a queue that gives the item put last first.
-- @param[opt=0] maxsize integer, as for `Queue`
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return LifoQueue, a Queue
-- @raise as `Queue`
-- @see asyncio.LifoQueue
function M.LifoQueue(...)
  return queue.new(lifo_mt, "LifoQueue", sync.arguments("LifoQueue", 1, ...))
end

return M
