-- SPDX-License-Identifier: MIT
-- What the structured torture is made with: time in whole ticks, tasks that are
-- prey, and limits that may be over at any tick. `check` ends the process when a
-- promise is broken. Builds on the public names and the one that closes a task.
local m = require "moonloop"
local core = require "moonloop.core" -- closes a task by force

local M = { made = 0 }

local R = math.random
local TICK, HUNTED_TICKS = 1000, 60
local base -- the time of a round's tick 0
local prey, struck = {}, setmetatable({}, { __mode = "k" })

--- Prints what is broken with a traceback and ends the process, unless `condition`.
function M.check(condition, text)
  if condition then return end
  io.stderr:write(debug.traceback("broken: " .. tostring(text)), "\n")
  os.exit(1)
end

function M.is_cancelled(err) return m.is_error(err, "CancelledError") end

--- Begins to count ticks from now.
function M.start_ticks() base = m.time() end

--- The time of a tick that is `least` to `most` ticks away; 0 is past.
function M.later(least, most)
  return base + ((m.time() - base) // TICK + R(least, most)) * TICK
end

--- Makes a task that is cancelled some day, or closed by force if it may be.
function M.spawn(fn, closable)
  local task = m.create_task({ eager_start = R(5) == 1 }, fn)
  M.made = M.made + 1
  M.hunted(task, closable)
  return task
end

function M.hunted(task, closable)
  prey[#prey + 1] = { task = task, closable = closable }
end

--- Cancels or closes one of the prey.
function M.strike()
  if #prey == 0 then return end
  local i = R(#prey)
  local victim = prey[i]
  prey[i] = prey[#prey]
  prey[#prey] = nil
  if victim.task:done() then return end
  struck[victim.task] = true
  if victim.closable and R(3) == 1 then core.close_task(victim.task) end
  victim.task:cancel()
end

--- Strikes at every tick of a round. Awaits.
function M.hunt()
  for _ = 1, HUNTED_TICKS do
    m.sleep_until(M.later(1, 1))
    for _ = 1, R(0, 3) do M.strike() end
  end
end

--- Does nothing, or lets others run, or waits for a tick. Awaits.
function M.nap()
  local how = R(4)
  if R(20) == 1 then M.strike() end
  if how == 1 then m.sleep(0) elseif how == 2 then m.sleep_until(M.later(1, 2)) end
end

--- Waits for a task that may have been struck, and must not have failed. Awaits.
function M.join(task)
  local ok, err = pcall(task.await, task)
  if m.current_task():cancelling() > 0 then error(err, 0) end -- a deadlock ends all
  M.check(ok or struck[task] and M.is_cancelled(err), err)
end

function M.join_all(list)
  for _, task in ipairs(list) do M.join(task) end
end

--- Calls `fn` without a limit, or with one that may be over at any tick. Awaits.
function M.bounded(fn)
  local how = R(4)
  if how == 1 then return fn() end
  if how == 2 then return m.CancelScope { deadline = M.later(0, 3) }:run(fn) end
  if how == 3 then return m.move_on_after(R(0, 3) * TICK, fn) end
  local ok, err = pcall(function()
    local _ <close> = m.timeout_at(M.later(0, 3))
    fn()
  end)
  if not ok and not m.is_error(err, "TimeoutError") then error(err, 0) end
end

--- A value that calls `fn` when it is closed.
function M.leaving(fn) return setmetatable({}, { __close = fn }) end

--- Calls `take`, a wait for `label`, and checks that those in line are served as
-- they came. Whoever came before has been served, or given up, but may not have
-- run since. Awaits.
function M.in_line(line, label, take)
  local task = m.current_task()
  line[#line + 1] = task
  local _ <close> = M.leaving(function()
    for i = 1, #line do
      if line[i] == task then return table.remove(line, i) end
    end
  end)
  local taken = take()
  for i = 1, #line do
    if line[i] == task then return taken end
    M.check(line[i]:awaiting() ~= label, "overtaken at " .. label)
  end
end

return M
