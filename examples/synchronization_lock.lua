-- SPDX-License-Identifier: MIT
-- What: a Lock lets one task at a time into a stretch of code that waits.
-- Why: a task that waits between reading something and writing it back can be overtaken. acquire
--      gives a guard for `<close>`, which releases the lock however the block is left. Tasks get
--      the lock in the order in which they came.
-- Usage: moonloop examples/synchronization_lock.lua
local moonloop = require "moonloop"

local lock = moonloop.Lock { name = "ledger" }
local balance = 0

local function deposit(amount)
  local _ <close> = lock:acquire()
  local seen = balance
  moonloop.sleep(0) -- as if asking the bank
  if amount < 0 then
    error("not a deposit: " .. amount, 0)
  end
  balance = seen + amount
end

local jobs = {}
for i, amount in ipairs { 10, 20, -5, 30 } do
  jobs[i] = function() deposit(amount) end
end
local results = moonloop.gather(jobs, { return_exceptions = true })
print("balance: " .. balance)
print("third: " .. results[3].message)
print("locked: " .. tostring(lock:locked()))

-- Without `<close>`, the lock is released by hand.
lock:acquire()
print("locked: " .. tostring(lock:locked()))
lock:release()
print(pcall(lock.release, lock))
