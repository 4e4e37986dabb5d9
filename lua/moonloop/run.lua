-- SPDX-License-Identifier: MIT
-- Running: what `moonloop.run` does around the main task. Each run has a number,
-- which tasks and resources inherit from the task that makes them; on the way
-- out a run cancels and awaits what bears its number, within a bounded time.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local options = require "moonloop.options"
local tasks = require "moonloop.tasks"

local M = {}

local SHUTDOWN_TIMEOUT = 10
local RUNNER_OPTIONS = { debug = "boolean", shutdown_timeout = "number" }

local last_run = 0
local current = {} -- the outermost run under way: main task, exit status

local function new_run()
  last_run = last_run + 1
  return last_run
end

local at_end = {} -- run number -> functions to call when it ends
local marks = {} -- run number -> what had been opened before it began

local function current_number()
  local task = core.current_task()
  return task and core.run_of(task) or core.run_id()
end

--- Calls `fn` when the run that the caller belongs to ends.
function M.at_end(fn)
  local number = current_number()
  at_end[number] = at_end[number] or {}
  table.insert(at_end[number], fn)
end

--- Gives what had been opened before the present run began.
function M.mark() return marks[current_number()] end

local function begin_run()
  local number = new_run()
  marks[number] = { task = core.last_task_id(), resource = core.resource_mark(),
    timer = core.timer_mark() }
  return number
end

local function end_run(number)
  for _, fn in ipairs(at_end[number] or {}) do fn() end
  at_end[number], marks[number] = nil, nil
end

-- The unfinished tasks of the runs numbered `first` to `last`, but for one.
local function unfinished(first, last, except)
  local list = {}
  for _, task in ipairs(core.all_tasks()) do
    local run = core.run_of(task)
    if run >= first and run <= last and task ~= except then list[#list + 1] = task end
  end
  return list
end

-- A Register: what else has to be ended in good order, each with its run's number.
local Register = {}
local register_mt = { __index = Register }
local registers = {}

--- Makes a Register of things that are ended by `close(thing)`, which may await, when
-- their run ends; where that takes too long by `abort(thing)`.
function M.register(close, abort)
  local self = setmetatable({ runs = {}, close = close, abort = abort or close }, register_mt)
  registers[#registers + 1] = self
  return self
end

--- Adds a thing of the present run.
function Register:add(thing) self.runs[thing] = current_number() end

--- Takes a thing out that has ended.
function Register:remove(thing) self.runs[thing] = nil end

--- Gives the number of a thing's run.
function Register:run_of(thing) return self.runs[thing] end

-- A transport that nobody has closed is aborted, and nobody waits for it.
local function begin_to_close(stream)
  if stream:is_closing() then return end
  if core.is_transport(stream) then stream:abort() else stream:close() end
end

local function report_unsent(stream)
  core.call_exception_handler(nil, {
    message = ("%s: what was written could not be sent within the shutdown timeout; closing it")
      :format(tostring(stream)),
    stream = stream,
  })
end

-- Calls `fn(register, thing)` for all that has to be ended in good order. Returns
-- whether there was something.
local function each_to_close(first, last, fn)
  local found = false
  for _, register in ipairs(registers) do
    local things = {}
    for thing, number in pairs(register.runs) do
      if number >= first and number <= last then things[#things + 1] = thing end
    end
    for _, thing in ipairs(things) do fn(register, thing) end
    found = found or things[1] ~= nil
  end
  return found
end

local function close(register, thing) core.pcall(register.close, thing) end
local function abort(register, thing) register.abort(thing) end

local function abort_unsent(streams)
  for _, stream in ipairs(streams) do
    if stream:fileno() >= 0 then
      report_unsent(stream)
      stream:abort()
    end
  end
end

local function cancel_and_join(list)
  for _, task in ipairs(list) do
    if task:cancelling() == 0 then task:cancel() end
  end
  for _, task in ipairs(list) do core.join(task) end
end

-- Gives up after `limit` seconds, where that is given. Returns whether there was
-- something to do.
local function finish_open(first, last, limit)
  core.close_idle_streams(first, last)
  local streams = core.unfinished_streams(first, last)
  local found = #streams > 0
  for _, stream in ipairs(streams) do begin_to_close(stream) end
  local in_time = core.cancel_scope(limit and core.time() + limit):run(function()
    for _, stream in ipairs(streams) do core.pcall(core.stream_wait_closed, stream) end
    found = each_to_close(first, last, close) or found
  end)
  if in_time then return found end
  abort_unsent(streams)
  each_to_close(first, last, abort)
  return true
end

-- Cancels and awaits, again for what that leaves behind, until nothing is left.
local function cancel_all(first, last, reaper, limit)
  while true do
    local left = unfinished(first, last, reaper)
    cancel_and_join(left)
    local found = finish_open(first, last, limit)
    if #left == 0 and not found then return end
    core.sleep(0) -- callbacks of what was closed
  end
end

local function is_something_open(first, last)
  return #core.unfinished_streams(first, last) > 0 or each_to_close(first, last, function() end)
end

local function report_stuck(task)
  core.call_exception_handler(nil, {
    message = ("task '%s' did not end within the shutdown timeout (it waits for %s); closing it")
      :format(task:get_name(), task:awaiting()),
    task = task,
    traceback = task:get_stack(),
    created_at = core.site_of(task),
  })
end

-- Runs the loop for the reaper until it is done or the time is over.
local function drive_reaper(reaper, timeout)
  local timer = core.call_later(nil, timeout, core.stop)
  local outcome = core.run_until(reaper)
  timer:cancel()
  return outcome == "done"
end

-- Callbacks of what was closed are called: protocols are told.
local function let_turn()
  local task = core.task_new("shutdown", nil, false, core.sleep, 0)
  core.set_run(task, -1)
  if not drive_reaper(task, 1) then core.close_task(task) end
end

local function close_stuck(first, last, reaper)
  for _, stream in ipairs(core.unfinished_streams(first, last)) do report_unsent(stream) end
  for _, task in ipairs(unfinished(first, last, reaper)) do
    report_stuck(task)
    core.close_task(task)
  end
  core.close_task(reaper)
  each_to_close(first, last, abort)
  let_turn()
end

-- What was written to the standard streams goes out, however long a reader takes: as
-- with C's own at the end of a process. They stay open.
local function flush_standard_streams()
  local streams = core.unfinished_streams()
  if #streams == 0 then return end
  local task = core.task_new("flush", nil, false, function()
    for _, stream in ipairs(streams) do
      if stream:is_closing() then
        core.pcall(core.stream_wait_closed, stream)
      elseif core.pcall(core.take_pen, stream) then -- which waits until the queue is out
        core.drop_pen(stream)
      end
    end
  end)
  core.set_run(task, -1)
  core.run_until(task)
end

-- Leaves nothing of the runs numbered `first` to `last` behind.
local function wind_up(first, last, timeout)
  local left = unfinished(first, last)
  for _, task in ipairs(left) do
    if task:cancelling() == 0 then task:cancel() end -- before any of them runs on
  end
  if #left > 0 or is_something_open(first, last) then
    local reaper
    reaper = core.task_new("shutdown", nil, false, function()
      cancel_all(first, last, reaper)
    end)
    core.set_run(reaper, -1)
    if not drive_reaper(reaper, timeout) then close_stuck(first, last, reaper) end
  end
  core.drop_handles(first, last)
  if core.abort_resources(first, last) > 0 then let_turn() end
  core.report_untaken(first, last)
end

-- ---- deadlock ----------------------------------------------------------------

local function describe_waiting(list)
  local lines, infos = {}, {}
  for i, task in ipairs(list) do
    infos[i] = { name = task:get_name(), awaiting = task:awaiting(),
      traceback = task:get_stack() }
    lines[i] = ("\n  task '%s' waits for %s"):format(infos[i].name, infos[i].awaiting)
  end
  return table.concat(lines), infos
end

local function deadlock_error(main)
  local text, infos = describe_waiting(core.all_tasks())
  return core.DeadlockError:new("every task waits for something that nothing can wake:" .. text,
    { tasks = infos, traceback = main:get_stack() })
end

-- ---- the outermost run -------------------------------------------------------

-- Raises a DeadlockError where the main task waits. One that goes on waiting for
-- what nothing can wake gets it again, but not for ever.
local DEADLOCKS_AT_MOST = 1000

local function break_deadlock(main, count)
  local err = deadlock_error(main)
  if count <= DEADLOCKS_AT_MOST and core.throw(main, err) then return end
  core.close_task(main)
  return err
end

-- Runs the loop until the main task has ended, whatever comes between. Returns
-- the error that ended it where that is not its own.
local function drive_main(main, timeout)
  local deadlocks = 0
  while true do
    local outcome = core.run_until(main)
    if outcome == "done" then return end
    if outcome == "stopped" then
      main:cancel("the loop was stopped")
      if not drive_reaper(main, timeout) then core.close_task(main) end
      return
    end
    deadlocks = deadlocks + 1
    local err = break_deadlock(main, deadlocks)
    if err then return err end
  end
end

-- Set by the command, which ends the process itself.
M.is_command = false

local function take(main)
  if current.exit_status ~= nil and not M.is_command then
    local status = current.exit_status
    current.exit_status = nil
    os.exit(status, true)
  end
  return main:result()
end

local function run_outermost(opts, fn, ...)
  if core.is_running() then
    core.raise("InvalidStateError", "the loop is running already")
  end
  core.set_closed(false)
  core.forget_stop()
  local number, outer = begin_run(), core.run_id()
  core.run_id(number)
  local timeout = opts.shutdown_timeout or SHUTDOWN_TIMEOUT
  local main = core.task_new("main", nil, false, fn, ...)
  core.set_run(main, number)
  core.take(main)
  current.main, current.exit_status = main, nil
  local failure = drive_main(main, timeout)
  end_run(number)
  wind_up(number, last_run, timeout)
  flush_standard_streams()
  current.main = nil
  core.run_id(outer)
  if failure then error(failure, 0) end
  return take(main)
end

-- ---- a run inside a task -----------------------------------------------------

local function finish_nested(number)
  end_run(number)
  if core.may_wait() then
    core.cancel_scope(nil, true):run(cancel_all, number, number, core.current_task(),
      SHUTDOWN_TIMEOUT)
  else -- the task is closed by force
    for _, task in ipairs(unfinished(number, number)) do task:cancel() end
  end
  core.drop_handles(number, number)
  core.abort_resources(number, number)
  core.report_untaken(number, number)
end

local function run_nested(fn, ...)
  local number = begin_run()
  local main = core.task_new("run", nil, false, fn, ...)
  core.set_run(main, number)
  core.take(main)
  local _ <close> = blocks.on_leaving(function() finish_nested(number) end)
  return tasks.await_own(main)
end

-- ---- the public face ---------------------------------------------------------

local as_function = tasks.callable_as_function

--- Runs `fn(...)` as the main task. On the way out every task left over is
-- cancelled and awaited, streams are flushed and closed: for `shutdown_timeout`
-- (10 s) at most, then what is left is reported and closed where it stands.
-- Inside a task it awaits `fn` in a scope of its own, without that bound. Awaits
-- there.
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return what `fn` returns
-- @raise what `fn` raises; CancelledError after `loop:stop` and, in the command,
-- Ctrl-C; DeadlockError; InvalidStateError in a callback of the loop; inside a
-- task see Awaiting functions
-- @see asyncio.run
function M.run(fn, ...)
  options.check_callable(1, "run", fn)
  if core.current_task() then return run_nested(as_function(fn), ...) end
  return run_outermost({}, as_function(fn), ...)
end

--- Ends the program after unwinding: the main task and all others are cancelled
-- and awaited, then the process exits with `status`. Outside a run it exits now.
-- @param[opt=true] status boolean or integer, as for `os.exit`
-- @raise CancelledError in the task that calls it
-- @see os.exit
function M.exit(status)
  options.check_type(1, "exit", status == nil and 0 or status, "number or boolean")
  if type(status) == "number" and not math.tointeger(status) then
    options.bad_argument(1, "exit", "number has no integer representation")
  end
  if not current.main then os.exit(status == nil or status, true) end
  current.exit_status = status == nil and true or status
  current.main:cancel("moonloop.exit was called")
  if core.current_task() then core.raise("CancelledError", "moonloop.exit was called") end
end

local Runner = {}
local runner_mt = { __index = Runner, __name = "moonloop.Runner" }

--- Makes a Runner: several runs on one loop, with options.
-- @param[opt] opts table: `debug` (boolean), `shutdown_timeout` (seconds, 10: as
-- long as the end of a run may take)
-- @return Runner, which may be held in a to-be-closed variable
-- @raise bad argument for an option that does not exist or of another type
-- @see asyncio.Runner
function M.Runner(opts)
  options.check(1, "Runner", opts, RUNNER_OPTIONS)
  return setmetatable({ opts = opts or {}, closed = false }, runner_mt)
end

local function check_runner(self, name)
  if getmetatable(self) ~= runner_mt then
    options.bad_argument(1, name, "Runner expected, got " .. type(self))
  end
  if self.closed then core.raise("InvalidStateError", "the Runner is closed") end
end

--- Runs `fn(...)` as `moonloop.run` does outside a task.
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return what `fn` returns
-- @raise as `moonloop.run`; InvalidStateError when the Runner is closed, or the
-- loop runs already
-- @see asyncio.Runner.run
function Runner:run(fn, ...)
  check_runner(self, "run")
  options.check_callable(1, "run", fn)
  if core.is_running() then
    core.raise("InvalidStateError", "a Runner cannot run while the loop is running")
  end
  if self.opts.debug ~= nil then core.set_debug(nil, self.opts.debug) end
  return run_outermost(self.opts, as_function(fn), ...)
end

--- Gives the loop.
-- @return Loop
-- @raise InvalidStateError when the Runner is closed
-- @see asyncio.Runner.get_loop
function Runner:get_loop()
  check_runner(self, "get_loop")
  return core.loop()
end

--- Closes the Runner: what is left over of any run is cancelled and awaited, for
-- `shutdown_timeout` at most. Twice is fine. While the loop runs it only marks
-- the Runner closed.
-- @see asyncio.Runner.close
function Runner:close()
  if self.closed then return end
  self.closed = true
  if not core.is_running() then
    wind_up(0, last_run, self.opts.shutdown_timeout or SHUTDOWN_TIMEOUT)
  end
end

--- Closes the Runner when the block is left.
-- @function Runner:__close
-- @see asyncio.Runner
function runner_mt:__close() self:close() end

-- Leaves nothing at all behind: for `moonloop_close` and `loop:close`.
function M.shut_down(timeout)
  if core.is_running() then return end
  wind_up(-1, last_run, timeout or SHUTDOWN_TIMEOUT)
end

-- For the command, which ends the process itself: the status that
-- `moonloop.exit` asked for, and what Ctrl-C does.
function M.take_exit_status()
  local status = current.exit_status
  current.exit_status = nil
  return status
end

function M.interrupt()
  if current.main then current.main:cancel("interrupted") end
end

return M
