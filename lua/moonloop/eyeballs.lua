-- SPDX-License-Identifier: MIT
-- Connecting to whichever of several addresses answers first (RFC 8305, "happy
-- eyeballs"): families take turns, a next attempt begins when the one before has
-- failed or been silent for a while, the first to succeed wins.

local core = require "moonloop.core"
local blocks = require "moonloop.blocks"
local crowds = require "moonloop.crowds"
local socket = require "moonloop.socket"

local M = {}

local DEFAULT_DELAY = 0.25

-- In the given order, but the families take turns.
local function interleaved(addresses)
  local families, lists = {}, {}
  for _, address in ipairs(addresses) do
    local list = lists[address.family]
    if not list then
      list = {}
      lists[address.family] = list
      families[#families + 1] = list
    end
    list[#list + 1] = address
  end
  local result, i = {}, 0
  while #result < #addresses do
    i = i + 1
    for _, list in ipairs(families) do result[#result + 1] = list[i] end
  end
  return result
end

local function connect_one(address)
  return socket.connected({ host = address.host, port = address.port }, address.from)
end

-- One error that tells them all, of the last one's kind.
local function combined(errors)
  local last, messages = errors[#errors], {}
  if not core.is_error(last) then return last end
  if #errors == 1 then
    last.errors = errors
    return last
  end
  for i, err in ipairs(errors) do
    messages[i] = core.is_error(err) and err.message or tostring(err)
  end
  return core[last.kind]:new(table.concat(messages, "; "),
    { code = last.code, errno = last.errno, cause = last, errors = errors })
end

local Race = {}
Race.__index = Race

function Race:start()
  self.started = self.started + 1
  self.running = self.running + 1
  local i = self.started
  local task = core.task_new("connect", nil, false, connect_one, self.addresses[i])
  self.attempts[i] = task
  core.watch(task, function()
    self.running = self.running - 1
    if not core.has_failed(task) then
      self.winner = self.winner or task
    elseif not task:cancelled() then
      self.failed = true
    end
    self.changed:wake_all()
  end)
end

-- Waits for the next attempt's time to come, or for one that ends.
function Race:pause()
  local delay = self.opts.happy_eyeballs_delay or DEFAULT_DELAY
  if self.started == #self.addresses or delay == math.huge then
    self.changed:wait()
    return
  end
  local scope = core.cancel_scope(core.time() + delay)
  self.failed = false
  local in_time = scope:run(function() self.changed:wait() end)
  if not in_time then self.failed = true end
end

-- Ends the attempts that go on, and closes what the others have brought.
function Race:finish()
  local winner = self.taken and self.winner
  crowds.finish(self.attempts)
  for _, task in ipairs(self.attempts) do
    core.take(task)
    if task ~= winner and task:done() and not core.has_failed(task) then
      task:result():close()
    end
  end
end

function Race:run()
  while not self.winner do
    if self.started < #self.addresses and (self.failed or self.running == 0) then
      self.failed = false
      self:start()
    elseif self.running == 0 then
      return nil
    else
      self:pause()
    end
  end
  self.taken = true
  return self.winner:result()
end

local function errors_of(attempts)
  local errors = {}
  for i, task in ipairs(attempts) do errors[i] = select(2, pcall(task.result, task)) end
  return errors
end

local function race(addresses, opts)
  local self = setmetatable({
    addresses = interleaved(addresses), opts = opts, attempts = {}, started = 0, running = 0,
    changed = core.waiters("connect to one of several addresses"), failed = true,
  }, Race)
  local _ <close> = blocks.on_leaving(function() self:finish() end)
  local winner = self:run()
  if winner then return winner end
  error(combined(errors_of(self.attempts)), 0)
end

--- Connects to the first of some addresses that answers. Awaits.
-- @param addresses list of {family=, host=, port=, from=}, hosts numeric; `from` is
-- the local address {host=, port=}, or nil
-- @param opts table: `happy_eyeballs_delay` (seconds)
-- @return Socket
-- @raise the error of the one that failed last, with all in `errors`
function M.connect(addresses, opts)
  if #addresses > 1 then return race(addresses, opts) end
  local ok, result = core.pcall(connect_one, addresses[1])
  if ok then return result end
  error(combined({ result }), 0)
end

return M
