-- SPDX-License-Identifier: MIT
-- What: a wait that is cancelled has no half effect.
-- Why: whoever leaves a queue of waiters loses nothing and keeps nothing: the item goes to the next
--      one, the lock as well. And what was handed over already counts, even if the cancellation
--      comes in the same turn: it is delivered at the next wait.
-- Usage: moonloop examples/synchronization_cancelled.lua
local moonloop = require "moonloop"

local queue, lock = moonloop.Queue(), moonloop.Lock()

local function taker(name)
  print(name .. " got " .. queue:get())
  local ok, e = pcall(moonloop.sleep, 0)
  print(name .. " goes on: " .. tostring(ok or e.kind))
end

local function start(...)
  local task = moonloop.create_task(...)
  moonloop.sleep(0) -- it runs up to its wait
  return task
end

local first, second = start(taker, "first"), start(taker, "second")
first:cancel()
queue:put_nowait("a parcel") -- passes the first one by
moonloop.wait { first, second }

local third = start(taker, "third")
queue:put_nowait("a letter") -- it is the third one's now,
third:cancel() -- and this comes too late to change that
moonloop.wait { third }

lock:acquire()
local leaving = start(lock.acquire, lock)
local patient = start(function()
  local _ <close> = lock:acquire()
  print("the patient one has the lock")
end)
leaving:cancel()
lock:release()
patient:await()
print("locked: " .. tostring(lock:locked()))
