-- SPDX-License-Identifier: MIT
--
-- What a workload is given: the contenders that take part, and rounds in which
-- each of them is measured once, one after another, so that the drift of the
-- machine hits all alike. A round that another process disturbed is repeated.

local proc = require "lib.proc"

local Bench = {}
Bench.__index = Bench

local QUIET_CORE = 0.12 -- of a core that other processes may use in a sample
local REPEATS = 3 -- of one disturbed round, at most
local REPEAT_SECONDS = 60 -- for all repeats of a run; later rounds stand as they are

--- @param options `quick`, `reps`, `build` (the folder with the programs),
-- `contenders` (a list, as in suite/contenders.lua)
function Bench.new(options)
  local self = setmetatable({ disturbed = 0, repeating = 0 }, Bench)
  self.quick, self.reps, self.build = options.quick, options.reps, options.build
  self.contenders = options.contenders
  return self
end

--- The contenders that have a command for a workload and are installed.
function Bench:taking_part(workload)
  local list = {}
  for _, contender in ipairs(self.contenders) do
    if contender[workload] and proc.exists(contender.program) then
      list[#list + 1] = contender
    end
  end
  return list
end

--- The command line of one of our C programs.
function Bench:tool(name, flags) return ("%s/bench/%s %s"):format(self.build, name, flags) end

function Bench:say(...)
  io.stderr:write(...)
  io.stderr:flush()
  return self
end

--- Calls fn and returns what it returns, or says why it failed: a figure
-- that cannot be had is missing from the table and costs no other.
function Bench:try(fn, ...)
  local ok, result = pcall(fn, ...)
  if ok then return result end
  self:say("  left out: ", tostring(result), "\n")
  return nil
end

-- Odd rounds go forward, even ones backward.
local function in_turn(list, round)
  local order = {}
  for i = 1, #list do
    order[i] = list[round % 2 == 1 and i or #list + 1 - i]
  end
  return order
end

local function one_round(contenders, round, fn)
  local samples, worst = {}, 0
  for _, contender in ipairs(in_turn(contenders, round)) do
    local sample, others = proc.watch(function() return fn(contender) end)
    samples[contender.name] = sample
    worst = math.max(worst, others)
  end
  return samples, worst
end

function Bench:may_repeat(times)
  return not self.quick and times < REPEATS and self.repeating < REPEAT_SECONDS
end

function Bench:quiet_round(contenders, round, fn)
  local samples, others = one_round(contenders, round, fn)
  local times = 0
  while others > QUIET_CORE and self:may_repeat(times) do
    self:say("~")
    local started = proc.uptime()
    samples, others = one_round(contenders, round, fn)
    self.repeating = self.repeating + proc.uptime() - started
    times = times + 1
  end
  if others > QUIET_CORE then self.disturbed = self.disturbed + 1 end
  return samples
end

--- Measures every contender `reps` times.
-- @param label what is measured, for the line of progress
-- @param fn called with a contender, returns a table of figures
-- @return a list of samples for each contender's name
function Bench:rounds(label, contenders, reps, fn)
  local all = {}
  self:say(label, " ")
  for round = 1, #contenders > 0 and reps or 0 do
    for name, sample in pairs(self:quiet_round(contenders, round, fn)) do
      all[name] = all[name] or {}
      table.insert(all[name], sample)
    end
    self:say(".")
  end
  self:say("\n")
  return all
end

return Bench
