-- SPDX-License-Identifier: MIT
-- The loop object: asyncio's low-level interface, most of it in C.

local core = require "moonloop.core"
local options = require "moonloop.options"
local run = require "moonloop.run"
local tasks = require "moonloop.tasks"

local M = {}

local Loop = {
  call_soon = core.call_soon,
  call_later = core.call_later,
  call_at = core.call_at,
  add_reader = core.add_reader,
  add_writer = core.add_writer,
  remove_reader = core.remove_reader,
  remove_writer = core.remove_writer,
  set_exception_handler = core.set_exception_handler,
  get_exception_handler = core.get_exception_handler,
  call_exception_handler = core.call_exception_handler,
  default_exception_handler = core.default_exception_handler,
  set_debug = core.set_debug,
  get_debug = core.get_debug,
  stop = core.stop,
  is_running = core.is_running,
  is_closed = core.is_closed,
}

--- Holds what of the loop is plain data and may be set.
-- @field untaken_error_delay number, seconds (5): how long a failed task may go
-- unawaited before it is reported; counts for tasks that fail from then on
local knobs = { untaken_error_delay = core.untaken_delay }

local loop_mt = { __name = "moonloop.Loop" }

-- Method -> the file that has it, loaded when it is first used.
local lazy = {
  create_connection = "protocols",
  create_server = "protocols",
  create_unix_connection = "protocols",
  create_unix_server = "protocols",
  connect_accepted_socket = "protocols",
  connect_read_pipe = "protocols",
  connect_write_pipe = "protocols",
  sendfile = "protocols",
  start_tls = "tls_streams",
  create_datagram_endpoint = "datagram_transports",
}

local function load(name)
  local method = require("moonloop." .. lazy[name])[name]
  Loop[name] = method
  core.hide_files()
  return method
end

function loop_mt.__index(_, key)
  local knob = knobs[key]
  if knob then return knob() end
  return Loop[key] or lazy[key] and load(key)
end

function loop_mt.__newindex(_, key, value)
  local knob = knobs[key]
  if not knob then error(("field '%s' of the loop cannot be set"):format(tostring(key)), 2) end
  if type(value) ~= "number" then
    error(("field '%s' of the loop must be a number"):format(key), 2)
  end
  knob(value)
end

function loop_mt.__tostring()
  local state = core.is_closed() and "closed" or core.is_running() and "running" or "idle"
  return ("Loop: (%s)"):format(state)
end

-- A method that is the module's function of the same name.
local function as_method(file, name)
  return function(_, ...)
    local fn = require("moonloop." .. file)[name]
    core.hide_files()
    return fn(...)
  end
end

--- Gives the addresses of a host; parameters, result and errors are those of
-- `moonloop.getaddrinfo`. Awaits.
-- @function Loop:getaddrinfo
-- @see asyncio.loop.getaddrinfo
Loop.getaddrinfo = as_method("addrinfo", "getaddrinfo")

--- Gives the names of an address; parameters, results and errors are those of
-- `moonloop.getnameinfo`. Awaits.
-- @function Loop:getnameinfo
-- @see asyncio.loop.getnameinfo
Loop.getnameinfo = as_method("addrinfo", "getnameinfo")

local loop = setmetatable({}, loop_mt)
core.loop(loop)

local function check_open()
  if core.is_closed() then core.raise("InvalidStateError", "the loop is closed") end
end

--- Gives the time on the loop's clock, as `moonloop.time` does.
-- @function Loop:time
-- @return number, monotonic seconds
-- @see asyncio.loop.time
function Loop.time() return core.time() end

--- Makes a Future.
-- @function Loop:create_future
-- @return Future
-- @see asyncio.loop.create_future
function Loop.create_future() return core.Future() end

--- Makes a task; parameters, result and errors are those of
-- `moonloop.create_task`.
-- @function Loop:create_task
-- @see asyncio.loop.create_task
function Loop.create_task(_, ...)
  check_open()
  return tasks.create_task(...)
end

--- Runs the loop until `loop:stop()`.
-- @function Loop:run_forever
-- @raise InvalidStateError when the loop runs already, or is closed
-- @see asyncio.loop.run_forever
function Loop.run_forever()
  check_open()
  core.run_until(nil, true)
end

--- Runs the loop until an awaitable is done.
-- @function Loop:run_until_complete
-- @param aw Future, Task or function
-- @return its values
-- @raise its error; InvalidStateError when the loop is stopped before, runs
-- already, or is closed
-- @see asyncio.loop.run_until_complete
function Loop.run_until_complete(_, aw)
  check_open()
  if not core.isfuture(aw) then options.check_callable(1, "run_until_complete", aw) end
  if core.is_running() then
    core.raise("InvalidStateError", "the loop is running already")
  end
  local task = core.task_new(nil, nil, false, tasks.await, aw)
  core.take(task)
  if core.run_until(task, true) ~= "done" then
    task:cancel()
    core.raise("InvalidStateError", "the loop was stopped before the awaitable was done")
  end
  return task:result()
end

--- Closes the loop: tasks are cancelled and awaited, callbacks and descriptors
-- let go. `moonloop.run` opens it again.
-- @function Loop:close
-- @raise InvalidStateError while it runs
-- @see asyncio.loop.close
function Loop.close()
  if core.is_running() then
    core.raise("InvalidStateError", "a running loop cannot be closed")
  end
  if core.is_closed() then return end
  core.drop_handles(math.mininteger, math.maxinteger)
  run.shut_down()
  core.drop_handles(math.mininteger, math.maxinteger)
  core.set_closed(true)
end

--- Gives the loop that runs now.
-- @return Loop
-- @raise Error when none does
-- @see asyncio.get_running_loop
function M.get_running_loop()
  if not core.is_running() then core.raise("Error", "no running loop") end
  return loop
end

--- Gives the loop of this Lua state, running or not.
-- @return Loop
-- @see asyncio.get_event_loop
function M.get_event_loop() return loop end

return M
