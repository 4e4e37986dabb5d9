-- SPDX-License-Identifier: MIT
-- Tasks as far as they are policy: creating one with options, awaiting anything
-- that can be awaited, clean-up with `defer`.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local options = require "moonloop.options"
local context = require "moonloop.context"

local M = {}

local OPTIONS = { name = "string", context = "table", eager_start = "boolean" }

--- Gives a function that does what calling `fn` does.
function M.callable_as_function(fn)
  if type(fn) == "function" then return fn end
  return function(...) return fn(...) end
end

local callable_as_function = M.callable_as_function

--- Makes a task of what `name` was given: options or not, function, arguments.
function M.spawn(name, first, ...)
  if type(first) == "function" then return core.task_new(nil, nil, false, first, ...) end
  if options.is_callable(first) then
    return core.task_new(nil, nil, false, callable_as_function(first), ...)
  end
  if type(first) ~= "table" then options.check_callable(1, name, first) end
  local opts = options.check(1, name, first, OPTIONS)
  if opts.context and not context.is_context(opts.context) then
    options.bad_argument(1, name, "option 'context': Context expected")
  end
  options.check_callable(2, name, (...))
  return core.task_new(opts.name, opts.context, opts.eager_start,
    callable_as_function((...)), select(2, ...))
end

local function create_task_with(...) return M.spawn("create_task", ...) end

-- In C, which comes here when the first argument is not a function.
M.create_task = core.make_create_task(create_task_with)

local outlasted = {} -- task -> Future, or group of children, that it waits for

-- Tasks that each wait here for the end of the other would do so for ever.
local function is_circle(future, own)
  while future do
    future = outlasted[future]
    if future == own then return true end
    if type(future) == "table" then return future.children[own] ~= nil end
  end
  return false
end

-- Ends the waiting of children, of a group that is being left, for the very task
-- that waits for them.
local function break_circles(own, children)
  for child in pairs(children) do
    if outlasted[child] == own then
      core.throw(child, core.InvalidStateError:new(
        ("task '%s' waits for the end of task '%s', which waits for its end"):format(
          child:get_name(), own:get_name())))
    end
  end
end

local ending_mt = { __close = function(self) outlasted[self.own] = self.outer end }

--- Tells, until the value is closed, that the task `own` cannot end before a Future
-- or a group.
function M.outlasting(own, thing)
  local ending = setmetatable({ own = own, outer = outlasted[own] }, ending_mt)
  outlasted[own] = thing
  if type(thing) == "table" then break_circles(own, thing.children) end
  return ending
end

--- Waits, shielded, until a Future has ended, and leaves the outcome. Where
-- nothing can wait (the task is closed by force) it does not. Awaits.
function M.outlast(future)
  local own = core.current_task()
  if not core.may_wait() or is_circle(future, own) then return end
  local _ <close> = M.outlasting(own, future)
  core.cancel_scope(nil, true):run(core.join, future)
end

local function cancel_and_join(task)
  if task:done() then return end
  task:cancel()
  M.outlast(task)
end

local function result_if_any(task, joined, err)
  if not joined then
    cancel_and_join(task)
    if task:cancelled() or not core.is_error(err, "CancelledError") then error(err, 0) end
  end
  return task:result()
end

-- A task made for this call ends with it: cancelled, it is cancelled too and
-- waited for. What it returns all the same is not lost.
function M.await_own(task)
  local _ <close> = blocks.on_leaving(function() cancel_and_join(task) end)
  return result_if_any(task, pcall(core.join, task))
end

--- Waits for an awaitable. Awaits. A function is made a task that belongs to
-- this call: cancelling the call cancels it.
-- @param aw Future, Task or function
-- @return its values
-- @raise its error; Error in the Task itself; see Awaiting functions
-- @see await
-- @see asyncio.ensure_future
function M.await(aw)
  if core.isfuture(aw) then return core.await_future(aw) end
  options.check_callable(1, "await", aw)
  core.check()
  return M.await_own(core.task_new(nil, nil, false, callable_as_function(aw)))
end

local deferred_mt = { __name = "moonloop.Deferred" }

function deferred_mt:__close()
  local fn = self.fn
  self.fn = nil
  if not fn then return end
  if not core.current_task() then
    fn() -- in a callback, or in a plain coroutine: it cannot await anyway
    return
  end
  core.cancel_scope(nil, true):run(fn)
end

--- Runs `fn` when the block is left: `local _ <close> = moonloop.defer(fn)`.
-- There it may await, shielded from cancellation; outside a task it cannot.
-- @param fn function, or anything that can be called; what it raises, the block
-- raises
-- @return a value for a to-be-closed variable
-- @see contextlib.AsyncExitStack.callback
function M.defer(fn)
  options.check_callable(1, "defer", fn)
  return setmetatable({ fn = callable_as_function(fn) }, deferred_mt)
end

return M
