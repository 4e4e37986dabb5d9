-- SPDX-License-Identifier: MIT
-- Waiting for several things: gather, wait, as_completed, race; for one thing
-- with a limit: wait_for; and for anything that calls back: wrap.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local crowds = require "moonloop.crowds"
local errors = require "moonloop.errors"
local generators = require "moonloop.generators"
local options = require "moonloop.options"

local M = {}

-- ---- gather ----------------------------------------------------------------------

local OWNS_ALL <const> = { owns_all = true }
local OWNS_FUNCTIONS <const> = {}

local function outcome(future)
  local ok, value = pcall(future.result, future)
  if ok then return value end
  return errors.as_error(value, future)
end

-- The results in order; a table, for there may be more than fit on a stack.
local function results_of(crowd, get)
  local results = { n = crowd.n }
  for i = 1, crowd.n do results[i] = get(crowd.futures[i]) end
  return results
end

local function first_value(future) return (future:result()) end

local function gather_all(list, n, return_exceptions)
  local crowd <close> = crowds.new(list, n, ("gather of %d"):format(n), OWNS_ALL)
  local failed
  crowd:watch(function(future)
    if return_exceptions or failed or not core.has_failed(future) then return false end
    failed = future
    return true
  end)
  crowd:wait_until(function() return failed end, crowd.has_succeeded)
  if not failed then return results_of(crowd, return_exceptions and outcome or first_value) end
  crowd:finish()
  crowd:drop_errors()
  failed:result()
end

local GATHER_OPTIONS = { return_exceptions = "boolean" }

-- What stands in the list beside the awaitables is options.
local function options_in(list)
  local opts = {}
  for key, value in pairs(list) do
    if type(key) == "string" and key ~= "n" then opts[key] = value end
  end
  return options.check(1, "gather", opts, GATHER_OPTIONS)
end

local function gather_list(list, opts)
  local n = crowds.check_list(1, "gather", list, true)
  local flag = options_in(list).return_exceptions
  opts = options.check(2, "gather", opts, GATHER_OPTIONS)
  if flag == nil then flag = opts.return_exceptions end
  return gather_all(list, n, flag)
end

--- Runs awaitables side by side and waits for all. The first failure (or
-- cancellation of one) cancels the others, waits for them, and is raised;
-- cancelling the call cancels them all and waits for them. Awaits.
-- @param ... awaitables (Futures, Tasks, functions), or one list of them and a
-- table of options: `return_exceptions` (boolean: nothing is raised, Error
-- objects stand in the places of what failed); the list may have that field too
-- @return one value for each awaitable, in order; of a list: a list of them with
-- field `n`
-- @raise what the first one to fail raised; bad argument; see Awaiting functions
-- @see asyncio.gather
function M.gather(...)
  local first = ...
  if type(first) == "table" and not options.is_callable(first) then
    return gather_list(first, select(2, ...))
  end
  local n = select("#", ...)
  for i = 1, n do crowds.check_awaitable(i, "gather", (select(i, ...))) end
  return table.unpack(gather_all({ ... }, n), 1, n)
end

-- ---- wait ------------------------------------------------------------------------

local WAIT_OPTIONS = { timeout = "number", return_when = "string" }

-- Whether the end of this future, with so many left, is what is waited for.
local ENOUGH = {
  FIRST_COMPLETED = function() return true end,
  FIRST_EXCEPTION = function(future, left)
    return left == 0 or core.has_failed(future) and not future:cancelled()
  end,
  ALL_COMPLETED = function(_, left) return left == 0 end,
}

local function split_by_done(crowd)
  local done, pending = {}, {}
  for i = 1, crowd.n do
    local future = crowd.futures[i]
    local list = future:done() and done or pending
    list[#list + 1] = future
  end
  return done, pending
end

local function wait_until(crowd, is_over)
  while not is_over() do crowd.waiters:wait() end
end

local function wait_in_time(crowd, is_over, timeout)
  if not timeout then return wait_until(crowd, is_over) end
  if timeout <= 0 and not is_over() then core.sleep(0) end -- what is ready ends
  core.cancel_scope(core.time() + timeout):run(wait_until, crowd, is_over)
end

local function check_timeout(name, opts)
  if opts.timeout ~= opts.timeout then
    options.bad_argument(2, name, "option 'timeout' is not a number of seconds (nan)")
  end
end

--- Waits for several awaitables and cancels none. A function is made a task,
-- which is handed back in one of the lists. Awaits.
-- @param list list of awaitables, not empty
-- @param[opt] opts table: `timeout` (seconds; nothing is raised when it is over),
-- `return_when` ("FIRST_COMPLETED", "FIRST_EXCEPTION" or "ALL_COMPLETED", which
-- it is when not given)
-- @return list of those that are done, list of the others, both in the order of
-- `list`; errors are left for who looks at them
-- @raise bad argument for an empty list, an unknown option or word; see Awaiting
-- functions
-- @see asyncio.wait
function M.wait(list, opts)
  local n = crowds.check_list(1, "wait", list)
  if n == 0 then options.bad_argument(1, "wait", "the list is empty") end
  opts = options.check(2, "wait", opts, WAIT_OPTIONS)
  local is_enough = ENOUGH[opts.return_when or "ALL_COMPLETED"]
  if not is_enough then
    options.bad_argument(2, "wait", ("option 'return_when': FIRST_COMPLETED, FIRST_EXCEPTION or"
      .. " ALL_COMPLETED expected, got '%s'"):format(opts.return_when))
  end
  check_timeout("wait", opts)
  local crowd <close> = crowds.new(list, n, ("wait of %d"):format(n), OWNS_FUNCTIONS)
  local over = false
  crowd:watch(function(future)
    over = over or is_enough(future, crowd.left)
    return over
  end)
  local _ <close> = blocks.on_leaving(function() crowd:unwatch() end)
  wait_in_time(crowd, function() return over end, opts.timeout)
  return split_by_done(crowd)
end

-- ---- as_completed ------------------------------------------------------------------

local Completion = {} -- the state of one loop
local completion_mt = { __index = Completion }

-- Several tasks may draw from one loop, so it may be over while one waits.
local function wait_for_one(self)
  while self.first > #self.done and self.first <= #self.crowd.members do
    self.crowd.waiters:wait()
  end
end

local function wait_for_next(self)
  if self.first <= #self.done then return end
  if not self.deadline then return wait_for_one(self) end
  if core.cancel_scope(self.deadline):run(wait_for_one, self) then return end
  core.raise("TimeoutError", ("as_completed: %d of %d not done after %s"):format(
    self.crowd.left, #self.crowd.members, options.seconds(self.timeout)))
end

local function next_done(self)
  core.checkpoint_if_due()
  wait_for_next(self)
  if self.first > #self.crowd.members then return nil end
  local future = self.done[self.first]
  self.done[self.first] = false
  self.first = self.first + 1
  return future
end

-- Left by its end, by `break`, by an error.
function completion_mt:__close()
  generators.release(self)
  self.crowd:unwatch()
  if self.crowd.left > 0 then self.crowd:finish() end
end

-- Dropped together with the generator that it stands in.
function Completion:abandon()
  for _, task in ipairs(self.crowd.own) do task:cancel("the loop was abandoned") end
end

--- Iterates over awaitables in the order in which they end: `for task in
-- moonloop.as_completed(list) do local v = task:result() end`. A function is made
-- a task that belongs to the loop: `break` (or an error, or the timeout) cancels
-- it and waits for it. The iterator awaits.
-- @param list list of awaitables
-- @param[opt] opts table: `timeout` (seconds from this call on)
-- @return iterator of Futures and Tasks that are done, for a `for` loop
-- @raise bad argument; TimeoutError in the loop; there see Awaiting functions
-- @see asyncio.as_completed
function M.as_completed(list, opts)
  local n = crowds.check_list(1, "as_completed", list)
  opts = options.check(2, "as_completed", opts, { timeout = "number" })
  check_timeout("as_completed", opts)
  if core.may_wait() then core.check() end -- a cancelled task begins nothing
  local self = setmetatable({
    crowd = crowds.new(list, n, "as_completed", { later = true }), done = {}, first = 1,
    timeout = opts.timeout, deadline = opts.timeout and core.time() + opts.timeout,
  }, completion_mt)
  self.crowd:watch(function(future)
    self.done[#self.done + 1] = future
    return true
  end)
  generators.guard(self)
  return next_done, self, nil, self
end

-- ---- race --------------------------------------------------------------------------

local function errors_of(crowd)
  local list = results_of(crowd, outcome)
  list.n = nil
  return list
end

--- Runs awaitables side by side until the first one succeeds; the others are
-- cancelled and waited for. Cancelling the call cancels them all. Awaits.
-- @param list list of awaitables, not empty
-- @return the values of the winner
-- @raise ErrorGroup of all errors, in the order of `list`, when none succeeds; bad
-- argument for an empty list; see Awaiting functions
-- @see asyncio.wait
function M.race(list)
  local n = crowds.check_list(1, "race", list)
  if n == 0 then options.bad_argument(1, "race", "the list is empty") end
  local crowd <close> = crowds.new(list, n, ("race of %d"):format(n), OWNS_ALL)
  local winner
  crowd:watch(function(future)
    if not winner and not core.has_failed(future) then winner = future end
    return winner ~= nil
  end)
  local function has_winner() return winner ~= nil end
  crowd:wait_until(has_winner, has_winner)
  if not winner then error(errors.group("every one in the race failed", errors_of(crowd)), 0) end
  crowd:finish()
  crowd:drop_errors()
  return winner:result()
end

-- ---- wait_for ------------------------------------------------------------------------

local function raise_timed_out(seconds)
  core.raise("TimeoutError", "wait_for: timed out after " .. options.seconds(seconds))
end

local function values_in_time(seconds, in_time, ...)
  if in_time then return ... end
  raise_timed_out(seconds)
end

-- In this task: what it acquires is the caller's, and what it has in the turn in
-- which it is cancelled is not lost in between.
local function call_for(fn, seconds)
  core.checkpoint_if_due()
  if not seconds then return fn() end
  if seconds <= 0 then raise_timed_out(seconds) end
  return values_in_time(seconds, core.cancel_scope(core.time() + seconds):run(fn))
end

local function not_yet() return false end

local function await_for(future, seconds)
  local crowd <close> = crowds.new({ future }, 1, "wait_for", OWNS_ALL)
  crowd:watch(not_yet)
  if not seconds then
    crowd:wait_until(not_yet, not_yet)
  elseif not future:done() then
    core.cancel_scope(core.time() + seconds):run(wait_until, crowd, function()
      return crowd.left == 0
    end)
  end
  if not future:done() then
    crowd:finish()
    if future:cancelled() then raise_timed_out(seconds) end
  end
  return future:result()
end

--- Waits for an awaitable, for `seconds` at most; then it is cancelled and waited
-- for. Should it return or fail all the same, that is the outcome. Cancelling
-- the call cancels it too. A function is called in this task. Awaits.
-- @param aw Future, Task or function
-- @param seconds number, or nil for no limit
-- @return its values
-- @raise TimeoutError; its error; bad argument; see Awaiting functions
-- @see asyncio.wait_for
function M.wait_for(aw, seconds)
  crowds.check_awaitable(1, "wait_for", aw)
  if seconds ~= nil then options.check_seconds(2, "wait_for", seconds) end
  if not core.isfuture(aw) then return call_for(aw, seconds) end
  return await_for(aw, seconds)
end

-- ---- wrap ------------------------------------------------------------------------------

-- Before the wait the first answer is kept, in it it is handed over; one that
-- comes when the wait was given up is none.
local wrapping_mt = {
  __close = function(self)
    local undo = self.undo
    self.undo = nil
    if not undo or self.is_answered then return end
    if core.may_wait() then core.cancel_scope(nil, true):run(undo) else undo() end
  end,
}

local function settle(self, ...)
  if self.is_answered then return end
  if not self.waits then
    self.answer = table.pack(...)
  elseif not self.waiters:wake(...) then
    return
  end
  self.is_answered = true
end

local function new_wrapping()
  local self = setmetatable({}, wrapping_mt)
  self.resolve = function(...) settle(self, true, ...) end
  self.reject = function(err) settle(self, false, err) end
  self.waiters = core.waiters("a callback", function()
    self.is_answered = false -- a task that was closed has not seen it
  end)
  return self
end

local function take_answer(ok, ...)
  if ok then return ... end
  error(..., 0)
end

local function answer(self)
  if self.is_answered then return take_answer(table.unpack(self.answer, 1, self.answer.n)) end
  self.waits = true
  return take_answer(self.waiters:wait())
end

--- Waits for something that calls back. `fn(resolve, reject)` starts it;
-- `resolve(...)` ends the waiting with values, `reject(e)` with an error; the
-- first of the two counts, later ones are ignored. Awaits.
-- @param fn function, or anything that can be called; a function that it returns
-- is called when the waiting ends otherwise, by cancellation above all; it may
-- await, shielded
-- @return what `resolve` was given
-- @raise what `reject` was given; what `fn` raises; see Awaiting functions
-- @see asyncio.Future
function M.wrap(fn)
  options.check_callable(1, "wrap", fn)
  core.checkpoint_if_due()
  local self = new_wrapping()
  local undo = fn(self.resolve, self.reject)
  if undo ~= nil and not options.is_callable(undo) then
    core.raise("Error", "wrap: the function returned a " .. options.type_name(undo)
      .. ", and no function to call on cancellation")
  end
  self.undo = undo
  local _ <close> = self
  return answer(self)
end

return M
