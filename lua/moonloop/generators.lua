-- SPDX-License-Identifier: MIT
-- What a generator holds and its consumer drops. A coroutine that is collected
-- never leaves its blocks, so what must not outlive it has a sentinel, which the
-- coroutine alone holds: the thing itself may be known to tasks that go on.

local core = require "moonloop.core"

local M = {}

local sentinels = setmetatable({}, { __mode = "k" }) -- coroutine -> innermost sentinel

local function unwatch(held)
  if held.opener then core.unwatch(held.opener, held.on_opener_end) end
  held.opener, held.on_opener_end = nil, nil
end

local function abandon(held)
  unwatch(held)
  held:abandon()
end

local sentinel_mt = {
  __gc = function(self)
    if self.held then pcall(core.call_soon, nil, abandon, self.held) end
  end,
}

--- Has `held:abandon()` called when the running coroutine, where that is a
-- generator, is collected, or its task ends, before `release`. `held` must not
-- refer to the coroutine.
function M.guard(held)
  if not core.in_generator() then return end
  local co = coroutine.running()
  sentinels[co] = setmetatable({ held = held, outer = sentinels[co] }, sentinel_mt)
  held.opener = core.current_task()
  held.on_opener_end = function() held:abandon() end
  core.watch(held.opener, held.on_opener_end)
end

--- Ends that. In another coroutine than its own the sentinel stays, and calls an
-- `abandon` that has nothing left to do.
function M.release(held)
  if not held.opener then return end
  unwatch(held)
  local co = coroutine.running()
  local sentinel = sentinels[co]
  if sentinel and sentinel.held == held then
    sentinel.held = nil
    sentinels[co] = sentinel.outer
  end
end

return M
