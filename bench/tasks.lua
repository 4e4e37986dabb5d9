-- SPDX-License-Identifier: MIT
--
-- The tasks workload. `tasks.lua spawn [n]`: CPU from spawn to finish of a task
-- that does nothing. `tasks.lua switch [n]`: CPU of one `sleep(0)` while two
-- tasks take turns. `tasks.lua sleepers [n]`: CPU and resident memory of each
-- of many tasks that sleep at once. Prints one line of JSON.

local moonloop = require "moonloop"

local BATCH = 1000
local SPAWNED, SWITCHES, SLEEPERS = 1000000, 2000000, 100000

local PAGE_BYTES = 4096

local function resident_bytes()
  local file = assert(io.open("/proc/self/statm"))
  local _, pages = file:read("n", "n")
  file:close()
  return pages * PAGE_BYTES
end

local function cpu_of(fn)
  collectgarbage()
  local started = os.clock()
  fn()
  return os.clock() - started
end

local function spawn(n)
  local ended = 0
  local function body() ended = ended + 1 end
  local function spawn_all()
    for first = 1, n, BATCH do
      local last = math.min(first + BATCH - 1, n)
      for _ = first, last do moonloop.create_task(body) end
      while ended < last do moonloop.sleep(0) end
    end
  end
  local seconds = cpu_of(spawn_all)
  assert(ended == n, "a task is missing")
  return ('{"tasks": %d, "spawn_ns": %.2f}'):format(n, seconds / n * 1e9)
end

local function switch(n)
  local turns = 0
  local function body(count)
    local sleep = moonloop.sleep
    for _ = 1, count do
      sleep(0)
      turns = turns + 1
    end
  end
  local seconds = cpu_of(function()
    local other = moonloop.create_task(body, n // 2)
    moonloop.await(moonloop.create_task(body, n // 2))
    moonloop.await(other)
  end)
  return ('{"switches": %d, "switch_ns": %.2f}'):format(turns, seconds / turns * 1e9)
end

-- Every task sleeps for 1 to 2 s, so all sleep at once if they are made within
-- 1 s; how many did is counted, not assumed.
local function sleepers(n)
  local asleep, most, woken = 0, 0, 0
  local function body(delay)
    asleep = asleep + 1
    moonloop.sleep(delay)
    if asleep - woken > most then most = asleep - woken end
    woken = woken + 1
  end
  local before, after
  math.randomseed(1)
  local seconds = cpu_of(function()
    before = resident_bytes()
    for _ = 1, n do moonloop.create_task(body, 1 + math.random()) end
    moonloop.sleep(0.5)
    assert(asleep == n, "not every task sleeps yet")
    after = resident_bytes()
    while woken < n do moonloop.sleep(0.05) end
  end)
  assert(most == n, "some had woken before the last one slept")
  return ('{"sleepers": %d, "sleeper_us": %.3f, "sleeper_bytes": %.1f}'):format(
    n, seconds / n * 1e6, (after - before) / n)
end

local what, n = ...
n = math.tointeger(tonumber(n))
if what == "spawn" then
  print(spawn(n or SPAWNED))
elseif what == "switch" then
  print(switch(n or SWITCHES))
elseif what == "sleepers" then
  print(sleepers(n or SLEEPERS))
else
  error("usage: tasks.lua spawn|switch|sleepers [n]", 0)
end
