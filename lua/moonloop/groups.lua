-- SPDX-License-Identifier: MIT
-- Task groups: tasks whose lives lie inside a block. The group is a scope for its
-- body; a child that fails cancels the body and its siblings; leaving the block
-- waits for every child, whatever happens. Children are observed, so a failure is
-- known the moment it happens.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local errors = require "moonloop.errors"
local generators = require "moonloop.generators"
local options = require "moonloop.options"
local tasks = require "moonloop.tasks"
require "moonloop.scopes" -- which reports blocks that nobody has left

local M = {}

local TaskGroup = {}
local group_mt = { __index = TaskGroup, __name = "moonloop.TaskGroup" }

local function check_group(self, name)
  if getmetatable(self) ~= group_mt then
    options.bad_argument(1, name, "TaskGroup expected, got " .. options.type_name(self))
  end
  return self
end

local function check_open(self)
  if self.left then core.raise("InvalidStateError", "the TaskGroup is closed") end
  if self.aborting then core.raise("InvalidStateError", "the TaskGroup is shutting down") end
end

-- ---- children --------------------------------------------------------------------

-- The list has the children in the order they were made, with some that have
-- ended already; `children` has those that have not.
local function compact(self)
  local list = {}
  for _, task in ipairs(self.list) do
    if self.children[task] then list[#list + 1] = task end
  end
  self.list = list
end

local function add_child(self, task, observer)
  if #self.list > 2 * self.count + 16 then compact(self) end
  self.list[#self.list + 1] = task
  self.children[task] = true
  self.count = self.count + 1
  core.watch(task, observer)
  if self.aborting and self.children[task] then -- it was begun eagerly, and did that
    task:cancel("the group is shutting down")
  end
end

-- First of all what wakes who waits for the children: it needs no memory.
local function remove_child(self, task)
  self.children[task] = nil
  self.count = self.count - 1
  if self.count == 0 then self.waiters:wake_all() end
end

local function cancel_children(self, message)
  self.aborting = true
  for _, task in ipairs(self.list) do
    if self.children[task] then task:cancel(message) end
  end
end

local function on_child_end(self, task)
  remove_child(self, task)
  if self.orphaned or not core.has_failed(task) or task:cancelled() then return end
  self.failed[#self.failed + 1] = task
  core.take(task)
  if self.aborting then return end
  cancel_children(self, "another task of the group failed")
  self.scope:cancel("a task of the group failed")
end

-- Nobody will wait for the children any more: they are cancelled, and what has
-- failed is reported, for it can be raised nowhere.
local function orphan(self)
  if self.left then return end
  self.orphaned, self.left = true, true
  self.scope:cancel("the group was abandoned")
  cancel_children(self, "the group was abandoned")
  if self.own then
    core.call_exception_handler(nil, {
      message = "error in the body of an abandoned task group", error = self.own,
    })
  end
  for _, task in ipairs(self.failed) do
    core.call_exception_handler(nil, {
      message = ("error in task '%s' of an abandoned task group"):format(task:get_name()),
      error = select(2, pcall(task.result, task)), task = task,
      traceback = core.traceback_of(task), created_at = core.site_of(task),
    })
  end
end

-- ---- leaving -------------------------------------------------------------------------

local function wait_for_children(self)
  core.checkpoint_if_due()
  while self.count > 0 do self.waiters:wait() end
end

-- Waits shielded until every child has ended; what is thrown in meanwhile (a
-- deadlock) does not shorten that.
local function outlast_children(self)
  local _ <close> = tasks.outlasting(core.current_task(), self)
  while self.count > 0 and core.may_wait() do
    pcall(function() core.cancel_scope(nil, true):run(wait_for_children, self) end)
  end
end

-- Whether the body has failed with what a child of it has, having awaited that.
local function is_among(failed, err)
  for _, task in ipairs(failed) do
    local _, value = pcall(task.result, task)
    if err ~= nil and rawequal(value, err) then return true end
  end
  return false
end

-- The errors in the order they came: `own`, of the body or nil, came after so many.
local function list_errors(self, own, so_many)
  local list = {}
  for i, task in ipairs(self.failed) do
    list[i] = errors.as_error(select(2, pcall(task.result, task)), task)
  end
  if own then table.insert(list, so_many + 1, own) end
  return list
end

-- The body's error as the group lists it; nil for one that it does not.
local function own_error(self, err, traceback)
  if core.is_error(err, "CancelledError") or is_among(self.failed, err) then return nil end
  return errors.as_error(err, nil, traceback)
end

-- Waits for the children. Returns an error that ended the waiting and has to go on.
local function wind_up(self, body_failed)
  local waited_well, problem = not body_failed, nil
  if waited_well then waited_well, problem = pcall(wait_for_children, self) end
  if not waited_well and not self.aborting then
    cancel_children(self, "the group is being left")
  end
  outlast_children(self)
  if problem ~= nil and not core.scope_owns(self.scope, problem) then return problem end
end

local function raise_errors(self, list, err)
  if #list == 1 and rawequal(list[1], err) and core.is_error(err, "DeadlockError") then
    error(err, 0)
  end
  local which = self.name and ('TaskGroup "%s"'):format(self.name) or "a TaskGroup"
  error(errors.group("unhandled errors in " .. which, list), 0)
end

-- A child that drives the generator in which the group was opened.
local function raise_left_by_child(self)
  orphan(self)
  core.raise("InvalidStateError", ("task '%s' cannot leave the group that it belongs to"):format(
    core.current_task():get_name()))
end

-- Also where the task is closed by force while it waits for the children.
local function go_out(self)
  if self.count > 0 then orphan(self) end
  self.left = true
  generators.release(self)
  if not self.functional then core.leave_scope(self.scope) end
end

local function leave(self, failed, err)
  local so_many = #self.failed
  self.own = failed and own_error(self, err, core.traceback_of_error(err)) or nil
  local late = wind_up(self, failed)
  if late ~= nil then self.own, err = own_error(self, late), late end
  local list = list_errors(self, self.own, so_many)
  self.own = nil
  if #list > 0 then raise_errors(self, list, err) end
  if late ~= nil then error(late, 0) end
end

--- Leaves the block: waits for the children; when the body has failed or was
-- cancelled they are cancelled first. Where nothing can wait (the task is being
-- closed by force) they are cancelled only. Awaits.
-- @function TaskGroup:__close
-- @raise ErrorGroup of what failed, the body's own error among it; CancelledError;
-- see Awaiting functions
-- @see asyncio.TaskGroup
function group_mt:__close(err)
  if self.closed then return end
  self.closed = true
  local _ <close> = blocks.on_leaving(function() go_out(self) end)
  if self.children[core.current_task()] then raise_left_by_child(self) end
  local failed = err ~= nil or self.body_runs -- with error(nil), where that shows
  if not core.may_wait() then
    orphan(self)
    if not core.is_closing() then core.check() end
  elseif not self.left then
    return leave(self, failed, err)
  end
  if self.orphaned and core.scope_owns(self.scope, err) then
    core.raise("InvalidStateError", "the task that opened the TaskGroup has ended")
  end
end

-- ---- making one -------------------------------------------------------------------------

local OPTIONS = { name = "string" }

local function label_of(name)
  return name and ('children of task group "%s"'):format(name) or "children of a task group"
end

local function new_group(name, functional)
  local self = setmetatable({
    what = "task group", name = name, functional = functional, scope = core.cancel_scope(),
    list = {}, children = {}, count = 0, failed = {}, waiters = core.waiters(label_of(name)),
    aborting = false, left = false, closed = false,
  }, group_mt)
  self.on_end = function(task) on_child_end(self, task) end
  return self
end

--- Makes a group for the block that holds it: `local tg <close> =
-- moonloop.TaskGroup()`. Leaving the block waits for the children. A child that
-- fails cancels its siblings and the body; all failures are raised together.
-- @param[opt] opts table: `name` (string, for the inspector)
-- @return TaskGroup
-- @raise Error outside a task; bad argument for an option that does not exist
-- @see asyncio.TaskGroup
function M.TaskGroup(opts)
  opts = options.check(1, "TaskGroup", opts, OPTIONS)
  local self = new_group(opts.name, false)
  generators.guard(self)
  core.enter_scope(self.scope, self)
  return self
end

local function end_body(self, ...)
  self.body_runs = false
  return ...
end

local function run_body(self, fn)
  local _ <close> = self
  generators.guard(self)
  self.body_runs = true
  return end_body(self, fn(self))
end

local function values_of(ended, ...)
  if ended then return ... end
end

--- Runs `fn(tg)` as the body of a group and waits for its children. Unlike the
-- block, `tg:cancel()` ends the body too, quietly. Awaits.
-- @param fn function(tg), or anything that can be called
-- @return what `fn` returns; nothing when `tg:cancel()` has ended it
-- @raise as the group's block; see Awaiting functions
-- @see asyncio.TaskGroup
function M.task_group(fn)
  options.check_callable(1, "task_group", fn)
  core.check()
  local self = new_group(nil, true)
  return values_of(self.scope:run(run_body, self, fn))
end

-- ---- methods --------------------------------------------------------------------------

--- Makes a task of `fn(...)` that belongs to the group.
-- @function TaskGroup:create_task
-- @param[opt] opts table, as for `create_task`
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return Task
-- @raise InvalidStateError when the group is closed or shutting down (cancelled,
-- or a child or its body has failed); bad argument
-- @see asyncio.TaskGroup.create_task
function TaskGroup:create_task(...)
  check_group(self, "create_task")
  check_open(self)
  local task = tasks.spawn("create_task", ...)
  add_child(self, task, self.on_end)
  return task
end

--- Cancels the children, which end quietly; of `task_group` the body too. Does
-- not wait.
-- @function TaskGroup:cancel
-- @see trio.Nursery.cancel_scope
function TaskGroup:cancel()
  check_group(self, "cancel")
  if self.left then return end
  if not self.aborting then cancel_children(self, "the group was cancelled") end
  if self.functional then self.scope:cancel("the group was cancelled") end
end

-- Before the wait what `started` was given is kept, in it it is handed over; when
-- the wait was given up the child has not started, and is being cancelled.
local function make_started(state)
  return function(...)
    if state.is_started then core.raise("InvalidStateError", "started was called already") end
    if not state.waits then
      state.values = table.pack(...)
    elseif not state.waiters:wake(true, ...) then
      return
    end
    state.is_started = true
  end
end

-- An error before `started` is for who called `start`, one after is the group's.
local function spawn_starting(self, state, opts, fn, ...)
  local started = make_started(state)
  local task
  if opts then
    task = tasks.spawn("start", opts, fn, started, ...)
  else
    task = tasks.spawn("start", fn, started, ...)
  end
  add_child(self, task, function(child)
    if state.is_started then return on_child_end(self, child) end
    remove_child(self, child)
    state.waiters:wake_all(false)
  end)
  return task
end

local function started_values(task, is_started, ...)
  if is_started then return ... end
  task:result()
  core.raise("InvalidStateError",
    ("task '%s' has ended without calling started"):format(task:get_name()))
end

local function await_start(task, state)
  local _ <close> = blocks.on_leaving(function()
    if state.is_started or task:done() then return end
    task:cancel()
    tasks.outlast(task)
  end)
  if state.is_started then return table.unpack(state.values, 1, state.values.n) end
  if task:done() then return started_values(task, false) end
  state.waits = true
  return started_values(task, state.waiters:wait())
end

--- Runs `fn(started, ...)` as a child and waits until it calls
-- `started(values...)`: a server that now listens. An error before that is raised
-- here and leaves the group alone; cancelling the call cancels the child. Awaits.
-- @function TaskGroup:start
-- @param[opt] opts table, as for `create_task`
-- @param fn function(started, ...), or anything that can be called
-- @param ... its further arguments
-- @return what `started` was given
-- @raise the child's error when it ends first; InvalidStateError when it ends
-- without error, or the group is closed or shutting down; bad argument; see
-- Awaiting functions
-- @see trio.Nursery.start
function TaskGroup:start(first, ...)
  check_group(self, "start")
  core.check()
  check_open(self)
  local state = { waiters = core.waiters("start of a task") }
  local task
  if type(first) == "table" and not options.is_callable(first) then
    options.check_callable(2, "start", (...))
    task = spawn_starting(self, state, first, ...)
  else
    options.check_callable(1, "start", first)
    task = spawn_starting(self, state, nil, first, ...)
  end
  return await_start(task, state)
end

-- Its block will never be left.
function TaskGroup:abandon() orphan(self) end

function group_mt:__tostring()
  local state = self.left and "closed" or self.aborting and "shutting down" or "open"
  return ("TaskGroup: %s(%s, %d children)"):format(
    self.name and ('"%s" '):format(self.name) or "", state, self.count)
end

return M
