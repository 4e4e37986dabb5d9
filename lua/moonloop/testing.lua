-- SPDX-License-Identifier: MIT
-- Testing async code: bodies for busted, waiting until nothing moves, a clock
-- that jumps, and what was left open.

local core = require "moonloop.core"
local options = require "moonloop.options"
local run = require "moonloop.run"

local M = {}

local ASYNC_OPTIONS = { timeout = "number", virtual_clock = "boolean or table" }
local CLOCK_OPTIONS = { threshold = "number" }

local DEFAULT_TIMEOUT = 5
local DEFAULT_THRESHOLD = 0.01

--- Waits until every other task waits for something and one look at the
-- descriptors brought nothing. Awaits.
-- @raise see Awaiting functions
-- @see trio.testing.wait_all_tasks_blocked
function M.wait_all_blocked()
  core.wait_idle()
end

-- ---- the virtual clock -------------------------------------------------------

local clock_mt = { __name = "moonloop.VirtualClock" }

local function stop_clock(self)
  if self.stopped then return end
  self.stopped = true
  core.set_virtual_clock(false)
end

clock_mt.__close = stop_clock

--- Makes time jump to the next timer whenever every task waits and the
-- descriptors have been silent; until the run ends or the value is closed.
-- @param[opt] opts table: `threshold`, real seconds of silence (0.01; 0: one look)
-- @return a value for a to-be-closed variable
-- @raise Error outside a task
-- @see trio.testing.MockClock
function M.virtual_clock(opts)
  opts = options.check(1, "virtual_clock", opts, CLOCK_OPTIONS)
  if not core.current_task() then
    core.raise("Error", "no running task: the virtual clock belongs to a run")
  end
  core.set_virtual_clock(true, opts.threshold or DEFAULT_THRESHOLD)
  local clock = setmetatable({ stopped = false }, clock_mt)
  run.at_end(function() stop_clock(clock) end)
  return clock
end

-- ---- leaks -------------------------------------------------------------------

--- Marks a point in time for `leaks` to count from.
-- @return mark
function M.mark()
  return { task = core.last_task_id(), resource = core.resource_mark(), timer = core.timer_mark() }
end

local leak_mt = { __name = "moonloop.Leak" }

function leak_mt:__tostring()
  return self.site and ("%s (made at %s)"):format(self.what, self.site) or self.what
end

local function leak(kind, what, site, object)
  return setmetatable({ kind = kind, what = what, site = site, object = object }, leak_mt)
end

local function add_tasks(list, since)
  for _, task in ipairs(core.all_tasks()) do
    local counts = core.id_of(task) > since and not core.is_internal(task)
    if counts and task ~= core.current_task() then
      list[#list + 1] = leak("task", ("task '%s', which waits for %s")
        :format(task:get_name(), task:awaiting()), core.site_of(task), task)
    end
  end
end

--- Lists what was opened since the run began (or since a `mark`) and is still
-- open: tasks, descriptors, timers.
-- @param[opt] mark what `testing.mark()` gave
-- @return list of {kind=, what=, site=}; `tostring` of one is a line of text
function M.leaks(mark)
  mark = mark or run.mark() or { task = 0, resource = 0, timer = 0 }
  local list = {}
  add_tasks(list, mark.task)
  for _, resource in ipairs(core.open_resources(mark.resource)) do
    list[#list + 1] = leak("descriptor", resource.what, resource.site)
  end
  for _, timer in ipairs(core.open_timers(mark.timer)) do
    list[#list + 1] = leak("timer", tostring(timer.handle), timer.site, timer.handle)
  end
  return list
end

--- Remembers from now on where everything is made, for `leaks` to tell.
function M.record_sites()
  core.record_sites(true)
end

-- ---- bodies for busted -------------------------------------------------------

local function start_clock(opts)
  if not opts.virtual_clock then return end
  M.virtual_clock(type(opts.virtual_clock) == "table" and opts.virtual_clock or nil)
end

-- In real time even where the body's clock is virtual: a body that hangs does
-- not move it.
local function run_body(fn, opts, ...)
  local timeout = opts.timeout or DEFAULT_TIMEOUT
  local task = core.current_task()
  local scope = core.cancel_scope(core.time() + timeout)
  local arguments = table.pack(...)
  local ok = scope:run(function()
    start_clock(opts)
    if opts.virtual_clock then scope.deadline = nil end
    fn(table.unpack(arguments, 1, arguments.n))
  end)
  if not ok then
    core.raise("TimeoutError", ("the body (task '%s') took longer than %g s")
      :format(task:get_name(), timeout))
  end
end

--- Makes a busted body of `fn`: it runs as the main task of a run of its own
-- (under the command, in the task that busted runs in).
-- @param fn function, or anything that can be called
-- @param[opt] opts table: `timeout` (real seconds, 5), `virtual_clock` (true, or its
-- options)
-- @return function that runs `fn` with its own arguments; it raises TimeoutError
-- when that takes too long, and what `fn` raises
-- @see unittest.IsolatedAsyncioTestCase
function M.async(fn, opts)
  options.check_callable(1, "async", fn)
  opts = options.check(2, "async", opts, ASYNC_OPTIONS)
  return function(...)
    return run.run(run_body, fn, opts, ...)
  end
end

-- What few need is loaded when its name is first used.
return setmetatable(M, {
  __index = function(self, name)
    if name ~= "fault_socketpair" then return nil end
    local value = require("moonloop.testing.faults")[name]
    rawset(self, name, value)
    core.hide_files()
    return value
  end,
})
