-- SPDX-License-Identifier: MIT
-- The structured torture of task groups, timeouts and the calls that await many:
-- each function does one of them with prey in it, and checks that every child has
-- ended when it is over and that every failure is told.
local m = require "moonloop"
local tools = require "spec.support.structured_torture_tools"

local R = math.random
local bounded, check, is_cancelled, later = tools.bounded, tools.check, tools.is_cancelled,
  tools.later
local join_all, leaving, nap, spawn = tools.join_all, tools.leaving, tools.nap, tools.spawn

local M = {}

-- ---- groups ------------------------------------------------------------------

-- What a group's children have to answer for: how many are alive, who failed.
local Family = {}
Family.__index = Family

local function new_family(depth)
  return setmetatable({ depth = depth, alive = 0, failures = {}, left = false, unsure = false },
    Family)
end

-- A failure of any kind, remembered: the group must raise it.
function Family:fail()
  local failure = R(2) == 1 and m.Error:new("torture") or { "torture" }
  self.failures[#self.failures + 1] = failure
  error(failure, 0)
end

local raise_group

-- Counts the running task as a child until the value is closed.
function Family:enter()
  check(not self.left, "a child began after its group was left")
  tools.hunted(m.current_task())
  self.alive = self.alive + 1
  return leaving(function() self.alive = self.alive - 1 end)
end

function Family:live()
  local _ <close> = self:enter()
  nap()
  if self.depth < 3 and R(3) == 1 then
    local ok, err = pcall(raise_group, self.depth + 1)
    if not ok then
      if not is_cancelled(err) then self.failures[#self.failures + 1] = err end
      error(err, 0)
    end
  end
  bounded(nap)
  if R(12) == 1 then self:fail() end
end

-- A child by `start`, which fails before it has started, after, or never. The group
-- must tell what fails after; it need not when `start` itself was given up.
function Family:start(tg)
  local sign, late, accepted = { start = true }, { "torture", start = true }, false
  local has_failed = false
  local ok, answer = pcall(tg.start, tg, function(started)
    local _ <close> = self:enter()
    nap()
    if R(6) == 1 then error(sign, 0) end
    started(sign)
    nap()
    if R(3) > 1 then return end
    has_failed = true
    if accepted then self.failures[#self.failures + 1] = late end
    error(late, 0)
  end)
  accepted = ok
  if ok and has_failed then self.failures[#self.failures + 1] = late end
  self.unsure = self.unsure or has_failed
  if ok or answer == sign then return check(answer == sign, "start answered something else") end
  check(is_cancelled(answer) or m.is_error(answer, "InvalidStateError"), answer)
end

function Family:body(tg)
  for _ = 1, R(0, 4) do
    local ok, err = pcall(tg.create_task, tg, { eager_start = R(5) == 1 }, self.live, self)
    check(ok or m.is_error(err, "InvalidStateError"), err)
    if R(4) == 1 then self:start(tg) end
    nap()
  end
  if R(6) == 1 then tg:cancel() end
  if R(12) == 1 then self:fail() end
end

local function holds(group, failure)
  for _, err in ipairs(group.errors) do
    if err == failure or err.value == failure then return true end
  end
  return false
end

function Family:judge(ok, err)
  check(self.alive == 0, self.alive .. " children outlived their group")
  self.left = true
  if #self.failures == 0 then
    local unsure = self.unsure and m.is_error(err, "ErrorGroup")
    return check(ok or is_cancelled(err) or unsure, err)
  end
  check(m.is_error(err, "ErrorGroup"), "failures were not told")
  for _, failure in ipairs(self.failures) do
    check(holds(err, failure), "a failure was not told: " .. tostring(failure))
  end
end

-- Does one group in one of its two forms; raises what it raises.
function raise_group(depth)
  local family = new_family(depth)
  local ok, err = pcall(function()
    if R(2) == 1 then return m.task_group(function(tg) family:body(tg) end) end
    local tg <close> = m.TaskGroup()
    family:body(tg)
  end)
  family:judge(ok, err)
  if not ok then error(err, 0) end
end

function M.groups()
  local all = {}
  for i = 1, R(5, 15) do
    all[i] = spawn(function()
      nap()
      local ok, err = pcall(bounded, function() raise_group(1) end)
      if not ok and not m.is_error(err, "ErrorGroup") then error(err, 0) end
    end)
  end
  join_all(all)
end

-- ---- calls that await many ---------------------------------------------------

-- Functions that end with their place or fail, and how many of them run.
local function make_jobs(count)
  local jobs, state = {}, { alive = 0 }
  for i = 1, count do
    jobs[i] = function()
      tools.hunted(m.current_task())
      tools.made = tools.made + 1
      state.alive = state.alive + 1
      local _ <close> = leaving(function() state.alive = state.alive - 1 end)
      nap()
      nap()
      if R(8) == 1 then error({ job = i }, 0) end
      return i
    end
  end
  return jobs, state
end

local calls = {}

function calls.gather(jobs)
  local values = m.gather(jobs, { return_exceptions = R(2) == 1 })
  check(values.n == #jobs, "gather gave more or fewer values")
  for i = 1, #jobs do
    local value = values[i]
    local fine = value == i or is_cancelled(value) or m.is_error(value) and value.value.job == i
    check(fine, "gather gave a value in a wrong place")
  end
end

function calls.race(jobs)
  local ok, result = pcall(m.race, jobs)
  if ok then return check(jobs[result], "race gave no job's value") end
  if m.is_error(result, "ErrorGroup") then
    return check(#result.errors == #jobs, "race did not tell every failure")
  end
  error(result, 0)
end

function calls.wait_for(jobs)
  local ok, result = pcall(m.wait_for, jobs[1], later(0, 2) - m.time())
  if ok then return check(result == 1, "wait_for gave something else") end
  if not m.is_error(result, "TimeoutError") then error(result, 0) end
end

function calls.as_completed(jobs)
  local seen = {}
  for task in m.as_completed(jobs) do
    check(task:done() and not seen[task], "as_completed gave a task twice or too early")
    seen[task] = true
    pcall(task.result, task)
    if R(6) == 1 then break end
  end
end

function calls.wait(jobs)
  local list = {}
  for i, job in ipairs(jobs) do list[i] = m.create_task(job) end
  local _ <close> = m.defer(function()
    for _, task in ipairs(list) do task:cancel() end
    for _, task in ipairs(list) do pcall(task.await, task) end
  end)
  local when = ({ "FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED" })[R(3)]
  local done, pending = m.wait(list, { timeout = R(0, 2) * 1000, return_when = when })
  check(#done + #pending == #list, "wait lost a task")
  for _, task in ipairs(done) do check(task:done(), "wait gave a pending task as done") end
end

local CALLS = { "gather", "race", "wait_for", "as_completed", "wait" }

-- Makes the call inside of a limit and looks at what it left behind.
local function call_once(name)
  local jobs, state = make_jobs(R(5))
  local ok, err = pcall(bounded, function() calls[name](jobs) end)
  check(state.alive == 0, state.alive .. " tasks outlived " .. name)
  local own = type(err) == "table" and err.job
  check(ok or own or is_cancelled(err), err)
end

function M.calls()
  local all = {}
  for i = 1, R(20, 40) do
    all[i] = spawn(function() call_once(CALLS[R(#CALLS)]) end)
  end
  join_all(all)
end

-- ---- deadlines ---------------------------------------------------------------

-- Two timeouts around a sleep: the earliest of the three decides.
local function nest_deadlines()
  local outer, inner, work = later(1, 4), later(1, 4), later(1, 4)
  local a, b
  local ok, err = pcall(function()
    local first <close> = m.timeout_at(outer)
    local second <close> = m.timeout_at(inner)
    a, b = first, second
    m.sleep_until(work)
  end)
  if is_cancelled(err) then error(err, 0) end
  check(ok or m.is_error(err, "TimeoutError"), err)
  local first = math.min(outer, inner)
  check(ok and work <= first or not ok and first <= work, "the wrong one was the earliest")
  if ok or outer == inner then return end
  check(a:expired() == (outer < inner) and b:expired() == (inner < outer),
    "the wrong timeout expired")
end

function M.deadlines()
  local all = {}
  for i = 1, R(20, 40) do all[i] = spawn(nest_deadlines) end
  join_all(all)
end

return M
