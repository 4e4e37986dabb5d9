-- SPDX-License-Identifier: MIT
-- Waiting for several things: gather, wait, as_completed, race; for one thing
-- with a limit: wait_for; and for anything that calls back: wrap.

local core = require "moonloop.core"
local crowds = require "moonloop.crowds"
local errors = require "moonloop.errors"
local options = require "moonloop.options"

local M = {}

-- ---- gather ----------------------------------------------------------------------

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
  local crowd <close> = crowds.new(list, n, ("gather of %d"):format(n))
  local failed
  crowd:watch(function(future)
    if return_exceptions or failed or not core.has_failed(future) then return end
    failed = future
    crowd:cancel()
  end)
  crowd:wait()
  if not failed then return results_of(crowd, return_exceptions and outcome or first_value) end
  crowd:drop_errors()
  failed:result()
end

local GATHER_OPTIONS = { return_exceptions = "boolean" }

local function gather_list(list, opts)
  local n = crowds.check_list(1, "gather", list)
  opts = options.check(2, "gather", opts, GATHER_OPTIONS)
  local flag = list.return_exceptions
  if flag ~= nil and type(flag) ~= "boolean" then
    options.bad_argument(1, "gather", "field 'return_exceptions': boolean expected")
  end
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

local function wait_until(crowd, is_over, timeout)
  core.checkpoint_if_due()
  local function wait()
    while not is_over() do crowd.waiters:wait() end
  end
  if not timeout then return wait() end
  if timeout <= 0 and not is_over() then core.sleep(0) end -- what is ready ends
  core.cancel_scope(core.time() + timeout):run(wait)
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
  local crowd = crowds.new(list, n, ("wait of %d"):format(n))
  local over = false
  crowd:watch(function(future)
    over = over or is_enough(future, crowd.left)
    if over then crowd.waiters:wake_all() end
  end)
  local _ <close> = setmetatable({}, { __close = function(_, err)
    crowd:unwatch()
    if err ~= nil then crowd:finish(crowd.own) end -- there is no handing back
  end })
  wait_until(crowd, function() return over end, opts.timeout)
  return split_by_done(crowd)
end

-- ---- as_completed ------------------------------------------------------------------

local function next_done(state)
  core.checkpoint_if_due()
  while state.first > #state.done do
    if state.first > state.crowd.n then return nil end
    local arrived = true
    if state.deadline then
      arrived = core.cancel_scope(state.deadline):run(state.wait)
    else
      state.wait()
    end
    if not arrived and state.first > #state.done then
      core.raise("TimeoutError", ("as_completed: %d of %d not done after %.3g s"):format(
        state.crowd.left, state.crowd.n, state.timeout))
    end
  end
  local future = state.done[state.first]
  state.done[state.first] = false
  state.first = state.first + 1
  return future
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
  local crowd = crowds.new(list, n, ("as_completed of %d"):format(n))
  local state = {
    crowd = crowd, done = {}, first = 1, timeout = opts.timeout,
    deadline = opts.timeout and core.time() + opts.timeout,
    wait = function() crowd.waiters:wait() end,
  }
  crowd:watch(function(future)
    state.done[#state.done + 1] = future
    crowd.waiters:wake_all()
  end)
  local closing = setmetatable({}, { __close = function()
    crowd:unwatch()
    if crowd.left > 0 then crowd:finish(crowd.own) end
  end })
  return next_done, state, nil, closing
end

-- ---- race --------------------------------------------------------------------------

local function errors_of(crowd)
  local list = {}
  for i = 1, crowd.n do list[i] = outcome(crowd.futures[i]) end
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
  local crowd <close> = crowds.new(list, n, ("race of %d"):format(n))
  local winner
  crowd:watch(function(future)
    if winner or core.has_failed(future) then return end
    winner = future
    crowd:cancel()
  end)
  crowd:wait()
  if not winner then error(errors.group("every one in the race failed", errors_of(crowd)), 0) end
  crowd:drop_errors()
  return winner:result()
end

-- ---- wait_for ------------------------------------------------------------------------

--- Waits for an awaitable, for `seconds` at most; then it is cancelled and waited
-- for. Should it return or fail all the same, that is the outcome. Cancelling
-- the call cancels it too. Awaits.
-- @param aw Future, Task or function
-- @param seconds number, or nil for no limit
-- @return its values
-- @raise TimeoutError; its error; bad argument; see Awaiting functions
-- @see asyncio.wait_for
function M.wait_for(aw, seconds)
  crowds.check_awaitable(1, "wait_for", aw)
  if seconds ~= nil then options.check_seconds(2, "wait_for", seconds) end
  local crowd <close> = crowds.new({ aw }, 1, "wait_for")
  local future = crowd.futures[1]
  crowd:watch()
  if seconds then
    core.cancel_scope(core.time() + seconds):run(crowd.wait, crowd)
  else
    crowd:wait()
  end
  if future:done() then return future:result() end
  crowd:finish()
  if future:cancelled() then
    core.raise("TimeoutError", ("wait_for: timed out after %.3g s"):format(math.max(0, seconds)))
  end
  return future:result()
end

-- ---- wrap ------------------------------------------------------------------------------

--- Waits for something that calls back. `fn(resolve, reject)` starts it;
-- `resolve(...)` ends the waiting with values, `reject(e)` with an error; the
-- first of the two counts, later ones are ignored. Awaits.
-- @param fn function, or anything that can be called; a function that it returns
-- is called when the waiting ends otherwise: by cancellation above all
-- @return what `resolve` was given
-- @raise what `reject` was given; what `fn` raises; see Awaiting functions
-- @see asyncio.Future
function M.wrap(fn)
  options.check_callable(1, "wrap", fn)
  core.check()
  local future = core.Future()
  local undo = fn(function(...)
    if not future:done() then future:set_result(...) end
  end, function(err)
    if not future:done() then future:set_error(err) end
  end)
  if undo ~= nil and not options.is_callable(undo) then
    core.raise("Error", "wrap: the function returned a " .. options.type_name(undo)
      .. ", and no function to call on cancellation")
  end
  local _ <close> = setmetatable({}, { __close = function()
    if future:done() then return end
    future:cancel()
    if undo then undo() end
  end })
  return core.await_future(future)
end

return M
