-- SPDX-License-Identifier: MIT
-- What: three jobs that wait at the same time, in one thread.
-- Why: a program that mostly waits (for the network, for a timer) can have thousands of jobs under
--      way. While one waits, the loop lets another run: the whole takes as long as the longest job.
-- Usage: moonloop examples/concepts_concurrency.lua
local moonloop = require "moonloop"

local function job(name, seconds)
  print(name .. " begins")
  moonloop.sleep(seconds)
  print(name .. " ends")
end

local long = moonloop.create_task(job, "long", 0.06)
local short = moonloop.create_task(job, "short", 0.02)
local middle = moonloop.create_task(job, "middle", 0.04)

print("three tasks are made, none has run yet")
long:await()
short:await()
middle:await()
