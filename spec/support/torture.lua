-- SPDX-License-Identifier: MIT
-- Does random things with tasks, coroutines, futures, scopes, callbacks and the
-- collector, mixed and nested as no sane program does: nothing of it may crash.
-- Its argument is the seed. The tasks may well end up waiting for each other,
-- which is then a DeadlockError.
-- Usage: moonloop spec/support/torture.lua SEED
local m = require "moonloop"
local core = require "moonloop.core"

local R = math.random
math.randomseed(math.tointeger(tonumber((...))) or 1)

local STEPS, DEEPEST, KEPT = 4000, 8, 20
local loop = m.get_event_loop()
local coroutines, tasks, futures, scopes, generators = {}, {}, {}, {}, {}
local ops, steps = {}, 0

loop:set_exception_handler(function(_, context)
  tostring(context.error)
  if R(4) == 1 and context.task then context.task:cancel() end
end)

local function keep(list, value)
  list[#list < KEPT and #list + 1 or R(KEPT)] = value
  return value
end

-- Calls fn with one of the list's values, if there are any.
local function with(list, fn)
  if #list > 0 then fn(list[R(#list)]) end
end

local function act(depth)
  steps = steps + 1
  if depth > DEEPEST then return end
  for _ = 1, R(5) do ops[R(#ops)](depth + 1) end
end

local function body(depth)
  return function()
    keep(coroutines, (coroutine.running()))
    act(depth)
    return depth
  end
end

local function op(fn) ops[#ops + 1] = fn end

-- Waiting.
op(function() pcall(m.sleep, 0) end)
op(function() pcall(m.sleep, 0.0002 * R(0, 3)) end)
op(function() m.sleep(0) end)
op(function(d) pcall(m.await, body(d + 1)) end)
op(function(d) pcall(m.run, body(d + 1)) end)

-- Tasks.
op(function(d) keep(tasks, m.create_task(body(d))) end)
op(function(d) keep(tasks, m.create_task({ eager_start = true }, body(d))) end)
op(function() with(tasks, function(t) t:cancel() end) end)
op(function() with(tasks, function(t) t:uncancel() end) end)
op(function() with(tasks, function(t) pcall(t.await, t) end) end)
op(function() with(tasks, function(t) return t:get_stack(), t:awaiting(), tostring(t) end) end)

-- Futures and callbacks.
op(function(d)
  keep(futures, m.Future()):add_done_callback(function() pcall(act, d + 2) end)
end)
op(function() with(futures, function(f) pcall(f.set_result, f, 1, 2) end) end)
op(function() with(futures, function(f) pcall(f.cancel, f) end) end)
op(function()
  with(futures, function(f)
    loop:call_later(0.003, function() pcall(f.set_result, f) end)
    pcall(f.await, f)
  end)
end)
op(function(d) loop:call_soon(function() act(d + 2) end) end)

-- Coroutines, also those of tasks, and generators dropped half way.
op(function(d) keep(generators, coroutine.wrap(body(d))) end)
op(function() with(generators, function(g) pcall(g) end) end)
op(function(d) keep(coroutines, coroutine.create(body(d))) end)
op(function() keep(coroutines, (coroutine.running())) end)
op(function() with(coroutines, function(co) pcall(coroutine.resume, co) end) end)
op(function() with(coroutines, function(co) pcall(coroutine.close, co) end) end)
op(function()
  with(coroutines, function(co)
    return coroutine.status(co), debug.traceback(co), pcall(coroutine.isyieldable, co)
  end)
end)
op(function(d) pcall(coroutine.yield, d) end)
op(function(d) coroutine.yield(d) end)
op(function(d)
  for _ in coroutine.wrap(function() act(d + 1) end) do
    if R(2) == 1 then break end
  end
end)

-- Scopes.
op(function(d)
  local deadline = R(2) == 1 and m.time() + 0.0005 * R(0, 4) or nil
  local scope = keep(scopes, core.cancel_scope(deadline, R(3) == 1))
  pcall(scope.run, scope, body(d))
end)
op(function() with(scopes, function(s) s:cancel() end) end)
op(function() with(scopes, function(s) s.deadline = m.time() + R(0, 3) * 0.0005 end) end)

-- What is left, unwound, finalized or interrupted.
op(function(d)
  local _ <close> = m.defer(body(d + 2))
  act(d + 2)
end)
op(function(d)
  local _ <close> = setmetatable({}, { __close = function() act(d + 2) end })
  act(d + 2)
end)
op(function(d) setmetatable({}, { __gc = function() pcall(act, d + 3) end }) end)
op(function() collectgarbage(R(4) == 1 and "collect" or "step") end)
op(function() debug.sethook(function() end, "", R(20)) end)
op(function(d)
  pcall(table.sort, { 3, 1, 2 }, function(a, b)
    act(d + 2)
    return a < b
  end)
end)
op(function(d) m.pcall(act, d + 1) end)
op(function(d) error("e" .. d) end)

while steps < STEPS do
  m.run(function()
    for _ = 1, 5 do pcall(act, 0) end
  end)
  for _, future in ipairs(futures) do pcall(future.cancel, future) end
end
print "survived"
