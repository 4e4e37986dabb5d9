-- SPDX-License-Identifier: MIT
-- The module table. What nearly every program uses is there from the start; the
-- rest is loaded when its name is first used, which keeps starting cheap.

--- Awaiting functions.
-- A function whose comment says "Awaits." may suspend the task that calls it,
-- and other tasks run meanwhile. Each of them raises, and comments only refer to
-- this place:
--
-- - CancelledError when the task, or a scope it is in, is cancelled while it
--   waits or was cancelled before, also where nothing had to be waited for;
-- - Error "no running task" outside a task (in the main chunk of stock Lua, in a
--   callback of the loop, in an exception handler);
-- - Error "cannot await across a C function" below one that cannot be suspended
--   (a comparison of `table.sort`, a callback of `string.gsub`), naming it;
-- - Error "cannot await in this coroutine" in one that the host does not drive:
--   see `patch_coroutines`;
-- - DeadlockError in the main task of a run, when every task waits for something
--   that nothing can wake.
-- @section awaiting

local core = require "moonloop.core"
require "moonloop.errors"
local context = require "moonloop.context"
local tasks = require "moonloop.tasks"
local run = require "moonloop.run"
local loop = require "moonloop.loop"

local M = {
  _VERSION = "Moonloop 0.1.0",

  run = run.run,
  Runner = run.Runner,
  exit = run.exit,

  get_running_loop = loop.get_running_loop,
  get_event_loop = loop.get_event_loop,
  time = core.time,
  sleep = core.sleep,
  sleep_until = core.sleep_until,
  sleep_forever = core.sleep_forever,

  Future = core.Future,
  isfuture = core.isfuture,
  await = tasks.await,
  ensure_future = core.ensure_future,

  create_task = tasks.create_task,
  current_task = core.current_task,
  all_tasks = core.all_tasks,
  defer = tasks.defer,
  ContextVar = context.ContextVar,
  copy_context = context.copy_context,

  FIRST_COMPLETED = "FIRST_COMPLETED",
  FIRST_EXCEPTION = "FIRST_EXCEPTION",
  ALL_COMPLETED = "ALL_COMPLETED",

  pcall = core.pcall,
  is_error = core.is_error,
  patch_coroutines = core.patch_coroutines,
}

core.task_methods.get_context = context.context_of

for name, value in pairs(core) do
  if type(value) == "table" and core.is_error_class(value) then M[name] = value end
end

-- Name -> the file that has it.
local lazy = {
  connect = "streams",
  connect_unix = "streams",
  open_connection = "streams",
  open_unix_connection = "streams",
  socketpair = "streams",
  connect_read_pipe = "streams",
  connect_write_pipe = "streams",
  open_pty = "streams",
  relay = "transfer",
  start_server = "servers",
  start_unix_server = "servers",
  stdin = "standard",
  stdout = "standard",
  stderr = "standard",
  socket = "socket",
  tls = "tls",
  open_datagram = "datagrams",
  getaddrinfo = "addrinfo",
  getnameinfo = "addrinfo",
  dns = "dns",
  Protocol = "protocol_classes",
  DatagramProtocol = "protocol_classes",
  gather = "control",
  wait = "control",
  as_completed = "control",
  race = "control",
  wait_for = "control",
  wrap = "control",
  TaskGroup = "groups",
  task_group = "groups",
  CancelScope = "scopes",
  timeout = "scopes",
  timeout_at = "scopes",
  move_on_after = "scopes",
  shield = "scopes",
  checkpoint = "scopes",
  Lock = "lock",
  Event = "event",
  Condition = "condition",
  Semaphore = "semaphore",
  BoundedSemaphore = "semaphore",
  Barrier = "barrier",
  Queue = "queue",
  PriorityQueue = "priority_queue",
  LifoQueue = "lifo_queue",
  testing = "testing",
}

return setmetatable(M, {
  __index = function(self, name)
    local file = lazy[name]
    if not file then return nil end
    local module = require("moonloop." .. file)
    local value = name == file and module or module[name]
    if file ~= "standard" then rawset(self, name, value) end -- it knows what has to be made anew
    core.hide_files()
    return value
  end,
})
