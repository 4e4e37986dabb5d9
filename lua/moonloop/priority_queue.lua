-- SPDX-License-Identifier: MIT
-- The PriorityQueue: a Queue that gives the smallest item first, and of equal
-- ones the one put first. A binary heap: items in one table, the numbers in which
-- they came in another. Where an item belongs is found before anything is moved,
-- so an error in a comparison leaves the heap as it was.

local core = require "moonloop.core"
local options = require "moonloop.options"
local queue = require "moonloop.queue"
local sync = require "moonloop.sync"

local M = {}

local priority_mt = queue.subclass "PriorityQueue"

local function is_less(a, b) return a < b end

-- Lets one of the functions below compare, which cannot await meanwhile. Where
-- items cannot be compared, the message says what to do about it.
local function compare(self, find, ...)
  if self.compares then
    core.raise("InvalidStateError", ("%s: a comparison must leave its queue alone"):format(
      self.label))
  end
  self.compares = true
  local ok, found = pcall(core.unyieldable, "the comparison of a PriorityQueue", find, self, ...)
  self.compares = false
  if ok then return found end
  if self.less == is_less and type(found) == "string" then
    found = ("%s%s: %s; give it a function that compares items"):format(core.caller(), self.label,
      found:match("attempt to compare.*") or found)
  end
  error(found, 0)
end

-- Whether item `a`, which came as number `m`, goes before `b` with number `n`.
local function goes_before(less, a, m, b, n)
  if less(a, b) then return true end
  return m < n and not less(b, a)
end

-- Finds the place of an item on its way up from the end of the heap.
local function find_up(self, item, number)
  local items, numbers, less = self.items, self.numbers, self.less
  local place = self.last + 1
  while place > 1 do
    local parent = place // 2
    if not goes_before(less, item, number, items[parent], numbers[parent]) then break end
    place = parent
  end
  return place
end

-- Finds the way down from the top along which the heap closes when its last item
-- goes there: a list of places.
local function find_down(self)
  local items, numbers, less, last = self.items, self.numbers, self.less, self.last
  local item, number = items[last], numbers[last]
  local way, place = {}, 1
  while 2 * place < last do
    local child = 2 * place
    if child + 1 < last and goes_before(less, items[child + 1], numbers[child + 1],
      items[child], numbers[child]) then
      child = child + 1
    end
    if not goes_before(less, items[child], numbers[child], item, number) then break end
    way[#way + 1] = child
    place = child
  end
  return way
end

local function insert(self, item, number)
  local place = compare(self, find_up, item, number)
  local items, numbers, at = self.items, self.numbers, self.last + 1
  while at > place do
    local parent = at // 2
    items[at], numbers[at] = items[parent], numbers[parent]
    at = parent
  end
  items[place], numbers[place] = item, number
  self.last = self.last + 1
  if self.last > self.highest then self.highest = self.last end
end

function priority_mt.store(self, item)
  local number = self.number + 1
  insert(self, item, number)
  self.number = number
end

-- An item that was handed over in vain is the first of its equals. Where it cannot
-- be compared it stands before the heap, at 0 and below, so that it is not lost.
function priority_mt.unfetch(self, item)
  self.returned = self.returned - 1
  if pcall(insert, self, item, self.returned) then return end
  self.first = self.first - 1
  self.items[self.first] = item
end

local function fetch_returned(self)
  local first = self.first
  local item = self.items[first]
  self.items[first] = nil
  self.first = first + 1
  return item
end

function priority_mt.peek(self) return self.items[math.min(self.first, 1)] end

function priority_mt.fetch(self)
  if self.first < 1 then return fetch_returned(self) end
  local way = compare(self, find_down)
  local items, numbers, last = self.items, self.numbers, self.last
  local first, place = items[1], 1
  for _, child in ipairs(way) do
    items[place], numbers[place] = items[child], numbers[child]
    place = child
  end
  items[place], numbers[place] = items[last], numbers[last]
  items[last], numbers[last] = nil, nil
  self.last = last - 1
  return first
end

-- An item that cannot be compared is refused, and its error goes to who put it.
function priority_mt.admit(self)
  while true do
    local waits, item = self.putters:peek()
    if not waits then return end
    local ok, err = pcall(priority_mt.store, self, item)
    self.putters:wake(ok, not ok, err)
    if ok then return end
  end
end

function priority_mt.open(self)
  priority_mt.clear(self)
  self.number, self.returned = 0, 0 -- the latest given, the lowest given back
end

function priority_mt.clear(self)
  self.items, self.numbers, self.first, self.last, self.highest = {}, {}, 1, 0, 0
end

function priority_mt.count(self) return self.last - self.first + 1 end

function priority_mt.pushed(self) return self.number end

function priority_mt.room(self) return self.highest end

--- Makes a queue that gives the smallest item first, of equal ones the one put
-- first.
-- @param[opt=0] maxsize integer, as for `Queue`
-- @param[opt] less function(a, b): whether item `a` goes before `b`; it cannot
-- await, and what it raises `put` or `get` raises; `a < b` when none is given
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return PriorityQueue, a Queue
-- @raise as `Queue`
-- @see asyncio.PriorityQueue
function M.PriorityQueue(...)
  local name, maxsize, less = sync.arguments("PriorityQueue", 2, ...)
  if less ~= nil then options.check_callable(2, "PriorityQueue", less) end
  local self = queue.new(priority_mt, "PriorityQueue", name, maxsize)
  self.less = less or is_less
  return self
end

return M
