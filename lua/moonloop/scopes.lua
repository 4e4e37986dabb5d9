-- SPDX-License-Identifier: MIT
-- Cancel scopes as the program sees them: around a function, as a block with a
-- deadline, and as a shield. The CancelScope itself is C.

local core = require "moonloop.core"
local options = require "moonloop.options"

local M = {}

local SCOPE_OPTIONS = { deadline = "number", shield = "boolean" }

--- Makes a cancel scope. Its fields: `deadline` (number on the loop's clock, may
-- be set; nil for none), `cancel_called`, `cancelled_caught`, `shield`.
-- @param[opt] opts table: `deadline` (seconds as `moonloop.time()` counts them),
-- `shield` (boolean: hold back cancellation from outside)
-- @return CancelScope
-- @raise bad argument for an option that does not exist or of another type
-- @see trio.CancelScope
function M.CancelScope(opts)
  opts = options.check(1, "CancelScope", opts, SCOPE_OPTIONS)
  if opts.deadline ~= opts.deadline then
    options.bad_argument(1, "CancelScope", "option 'deadline' is not a time (nan)")
  end
  return core.cancel_scope(opts.deadline, opts.shield)
end

--- Runs `fn(...)` for `seconds` at most. Awaits if `fn` does.
-- @param seconds number; `math.huge` for no limit
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return true and what `fn` returned, or false when the time ran out
-- @raise what `fn` raises; Error outside a task
-- @see trio.move_on_after
function M.move_on_after(seconds, fn, ...)
  options.check_seconds(1, "move_on_after", seconds)
  options.check_callable(2, "move_on_after", fn)
  local scope = core.cancel_scope(core.time() + seconds)
  return scope:run(fn, ...)
end

local function drop_first(_, ...) return ... end

--- Runs `fn(...)` in this task while cancellation from outside is held back, for
-- clean-up that has to wait. Awaits if `fn` does. To bound it use
-- `CancelScope{shield=true, deadline=}`.
-- @param fn function, or anything that can be called
-- @param ... its arguments
-- @return what `fn` returns
-- @raise what `fn` raises; Error outside a task
-- @see asyncio.shield
function M.shield(fn, ...)
  if core.isfuture(fn) then
    options.bad_argument(1, "shield", ("function expected, got %s; who waits for a Future or a"
      .. " Task and is cancelled leaves it alone anyway"):format(options.type_name(fn)))
  end
  options.check_callable(1, "shield", fn)
  return drop_first(core.cancel_scope(nil, true):run(fn, ...))
end

--- Takes a cancellation if there is one, and lets every ready task run once.
-- Awaits.
-- @raise see Awaiting functions
-- @see trio.lowlevel.checkpoint
function M.checkpoint() core.sleep(0) end

-- ---- timeouts ------------------------------------------------------------------

local Timeout = {}
local timeout_mt = { __index = Timeout, __name = "moonloop.Timeout" }

local function check_timeout(self, name)
  if getmetatable(self) ~= timeout_mt then
    options.bad_argument(1, name, "Timeout expected, got " .. type(self))
  end
  return self
end

local function enter(when, seconds)
  local self = setmetatable({
    what = "timeout", seconds = seconds, scope = core.cancel_scope(when), left = false,
  }, timeout_mt)
  core.enter_scope(self.scope, self)
  return self
end

--- Limits the time of the block that holds it: `local t <close> =
-- moonloop.timeout(5)`. When the time is over the block is cancelled, and it is
-- left with a TimeoutError that says where the timeout was made; a block that
-- ends normally all the same leaves quietly.
-- @param seconds number, or nil for no limit yet
-- @return Timeout
-- @raise Error outside a task
-- @see asyncio.timeout
function M.timeout(seconds)
  if seconds == nil then return enter() end
  options.check_seconds(1, "timeout", seconds)
  return enter(core.time() + seconds, seconds)
end

--- As `timeout`, until the loop's clock shows `when`.
-- @param when number, seconds as `moonloop.time()` counts them, or nil for no
-- limit yet
-- @return Timeout
-- @raise Error outside a task
-- @see asyncio.timeout_at
function M.timeout_at(when)
  if when == nil then return enter() end
  options.check_seconds(1, "timeout_at", when)
  return enter(when, when - core.time())
end

--- Tells when it expires.
-- @function Timeout:when
-- @return number on the loop's clock, or nil
-- @see asyncio.Timeout.when
function Timeout:when() return check_timeout(self, "when").scope.deadline end

--- Tells whether it has expired.
-- @function Timeout:expired
-- @see asyncio.Timeout.expired
function Timeout:expired() return core.scope_expired(check_timeout(self, "expired").scope) end

--- Moves the time at which it expires. A time that is past expires it at once.
-- @function Timeout:reschedule
-- @param when number on the loop's clock, or nil for no limit
-- @raise InvalidStateError when it has expired or its block was left
-- @see asyncio.Timeout.reschedule
function Timeout:reschedule(when)
  check_timeout(self, "reschedule")
  if when ~= nil then options.check_seconds(1, "reschedule", when) end
  if self.left then core.raise("InvalidStateError", "the block of the timeout was left") end
  if core.scope_expired(self.scope) then
    core.raise("InvalidStateError", "the timeout has expired")
  end
  self.seconds = when and when - core.time()
  self.scope.deadline = when
end

function timeout_mt:__tostring()
  local scope = self.scope
  local state = core.scope_expired(scope) and "expired" or self.left and "left"
    or scope.deadline and options.seconds(scope.deadline - core.time()) .. " left"
    or "no limit"
  return ("Timeout: (%s)"):format(state)
end

local function timeout_error(self, cause)
  local site = core.scope_site(self.scope)
  local text = "timed out after " .. options.seconds(self.seconds or 0)
  if site then text = ("%s (timeout made at %s)"):format(text, site) end
  return core.TimeoutError:new(text, { cause = cause, traceback = cause.traceback })
end

--- Leaves the block.
-- @function Timeout:__close
-- @raise TimeoutError when its time was over and the cancellation has come here
-- @see asyncio.timeout
function timeout_mt:__close(err)
  if self.left then return end
  self.left = true
  local own = core.scope_expired(self.scope) and core.scope_owns(self.scope, err)
  core.leave_scope(self.scope)
  if own then error(timeout_error(self, err), 0) end
end

-- ---- blocks that nobody has left -------------------------------------------------

core.on_unclosed(function(scope, owner)
  core.call_exception_handler(nil, {
    message = ("a %s was bound without <close>, so its block was never left"):format(owner.what),
    created_at = core.scope_site(scope), scope = owner,
  })
  if owner.abandon then owner:abandon() end
end)

return M
