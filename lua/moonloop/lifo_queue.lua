-- SPDX-License-Identifier: MIT
-- The LifoQueue: a Queue that gives the item put last first.

local queue = require "moonloop.queue"
local sync = require "moonloop.sync"

local M = {}

local lifo_mt = queue.subclass "LifoQueue"
local LifoQueue = lifo_mt.__index

function LifoQueue:drop() self.items, self.first, self.last = {}, 1, 0 end

function LifoQueue:unfetch(item)
  self.last = self.last + 1
  self.items[self.last] = item
end

function LifoQueue:store(item)
  self:unfetch(item)
  self.uncounted = self.uncounted + 1
end

function LifoQueue:peek() return self.items[self.last] end

function LifoQueue:fetch()
  local last = self.last
  local item = self.items[last]
  self.items[last] = nil
  self.last = last - 1
  return item
end

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
