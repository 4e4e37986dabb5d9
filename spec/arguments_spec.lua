-- SPDX-License-Identifier: MIT
-- What the names of sections 2 to 6 answer to arguments of a wrong type:
-- always at once, always a plain string in Lua's own words.
local moonloop = require "moonloop"

local loop = moonloop.get_running_loop()

local function message(fn)
  local ok, err = pcall(fn)
  assert.is_false(ok)
  assert.is_string(err)
  return err
end

local function refuses(what, ...)
  local name, calls = what:match("([%w_]+)$"), { ... }
  it("are refused by " .. what, function()
    for _, call in ipairs(calls) do
      assert.matches("bad argument #%d+ to '" .. name .. "' %(.+%)", message(call))
    end
  end)
end

describe("A bad argument", function()
  it("is named as Lua names it", function()
    local got_nil = message(function() moonloop.sleep(nil) end)
    local got_none = message(function() moonloop.sleep() end)
    local got_table = message(function() moonloop.sleep({}) end)
    assert.matches("bad argument #1 to 'sleep' (number expected, got nil)", got_nil, 1, true)
    assert.matches("bad argument #1 to 'sleep' (number expected, got no value)", got_none, 1, true)
    assert.matches("bad argument #1 to 'sleep' (number expected, got table)", got_table, 1, true)
  end)

  it("carries the position of the call", function()
    local err = message(function() moonloop.sleep("soon") end)
    assert.matches("^.*arguments_spec%.lua:%d+: bad argument", err)
  end)

  it("is counted without the object for a method", function()
    local err = message(function() loop:call_later("soon", print) end)
    assert.matches("bad argument #1 to 'call_later' (number expected, got string)", err, 1, true)
  end)

  it("is refused before anything happens", function()
    local before = #moonloop.all_tasks()
    message(function() moonloop.create_task({ name = 5 }, print) end)
    message(function() moonloop.create_task({ name = "x" }, 5) end)
    assert.equal(before, #moonloop.all_tasks())
  end)

  it("is NaN where a time is asked for", function()
    assert.matches("bad argument #1 to 'sleep'", message(function()
      moonloop.sleep(0 / 0)
    end))
  end)
end)

describe("A bad argument's position", function()
  -- Each call stands in one line and awaits no more than its arguments need.
  local CALLS = {
    ["connect"] = function() moonloop.connect("127.0.0.1", 70000) print() end,
    ["open_connection"] = function() moonloop.open_connection("127.0.0.1", 70000) print() end,
    ["start_server"] = function() moonloop.start_server(print, nil, 0, { bcklog = 1 }) print() end,
    ["create_task"] = function() moonloop.create_task(5) print() end,
    ["loop.create_task"] = function() loop:create_task(5) print() end,
    ["create_task's options"] = function() moonloop.create_task({ nme = 1 }, print) print() end,
    ["Runner"] = function() moonloop.Runner({ dbug = true }) print() end,
    ["run"] = function() moonloop.run(5) print() end,
    ["await"] = function() moonloop.await(5) print() end,
    ["defer"] = function() moonloop.defer(5) print() end,
  }

  for what, call in pairs(CALLS) do
    it("is the caller's line for " .. what, function()
      local line = debug.getinfo(call, "S").linedefined
      assert.matches("^[^\n]*arguments_spec%.lua:" .. line .. ": bad argument", message(call))
    end)
  end
end)

describe("Wrong types", function()
  local function future() return moonloop.Future() end
  local function var() return moonloop.ContextVar("v") end

  refuses("sleep_until", function() moonloop.sleep_until({}) end)
  refuses("await", function() moonloop.await(5) end)
  refuses("ensure_future", function() moonloop.ensure_future("x") end)
  refuses("create_task",
    function() moonloop.create_task(5) end,
    function() moonloop.create_task() end,
    function() moonloop.create_task({}) end,
    function() moonloop.create_task({}, "x") end)
  refuses("defer", function() moonloop.defer(5) end)
  refuses("run", function() moonloop.run(5) end)
  refuses("pcall", function() moonloop.pcall() end)
  refuses("ContextVar", function() moonloop.ContextVar({}) end)
  refuses("Error.new", function() moonloop.Error.new(5) end)
  refuses("Error:extend", function() moonloop.Error:extend({}) end)
  refuses("loop:call_soon",
    function() loop:call_soon(5) end,
    function() loop:call_soon() end)
  refuses("loop:call_at", function() loop:call_at({}, print) end)
  refuses("loop:call_later", function() loop:call_later(1, "x") end)
  refuses("loop:create_task", function() loop:create_task(5) end)
  refuses("loop:add_reader",
    function() loop:add_reader("x", print) end,
    function() loop:add_reader(0, 5) end)
  refuses("loop:add_writer", function() loop:add_writer({}, print) end)
  refuses("loop:remove_reader", function() loop:remove_reader("x") end)
  refuses("loop:set_exception_handler", function() loop:set_exception_handler(5) end)
  refuses("future:add_done_callback", function() future():add_done_callback(5) end)
  refuses("context:run", function() moonloop.copy_context():run(5) end)
  refuses("context:get", function() moonloop.copy_context():get("x") end)
  refuses("var:reset", function() var():reset(5) end)
  refuses("task:set_name", function() moonloop.current_task():set_name({}) end)
  refuses("testing.async", function() moonloop.testing.async(5) end)
  refuses("future.done", function() moonloop.Future().done({}) end)
  refuses("future.set_result", function() moonloop.Future().set_result(5) end)
  refuses("task.cancel", function() moonloop.current_task().cancel("x") end)
  refuses("loop.call_soon", function() loop.call_soon(print) end)
end)

describe("An option that does not exist", function()
  local function names(given, nearest, fn)
    local ok, err = pcall(fn)
    assert.is_false(ok)
    assert.matches(given, tostring(err), 1, true)
    assert.matches(nearest, tostring(err), 1, true)
  end

  it("is named with the nearest one by create_task", function()
    names("eager_strat", "eager_start", function()
      moonloop.create_task({ eager_strat = true }, print)
    end)
  end)

  it("that raises when it is read makes no task", function()
    local before = #moonloop.all_tasks()
    for _, name in ipairs({ "name", "context", "eager_start" }) do
      local opts = setmetatable({}, { __index = function(_, key)
        if key == name then error("no " .. key, 0) end
      end })
      local ok, err = pcall(moonloop.create_task, opts, print)
      assert.is_true(ok or err == "no " .. name)
      if ok then err:cancel() end
    end
    moonloop.testing.wait_all_blocked()
    assert.equal(before, #moonloop.all_tasks())
  end)

  it("is named with the nearest one by Runner", function()
    names("shutdown_timout", "shutdown_timeout", function()
      moonloop.Runner { shutdown_timout = 1 }
    end)
  end)

  it("is named with the nearest one by testing.async", function()
    names("timeuot", "timeout", function()
      moonloop.testing.async(print, { timeuot = 1 })
    end)
  end)

  it("is named with the nearest one by virtual_clock", function()
    names("treshold", "threshold", function()
      moonloop.testing.virtual_clock { treshold = 1 }
    end)
  end)
end)

describe("A number that is no descriptor", function()
  it("is refused by add_reader, however large", function()
    for _, fd in ipairs { -1, 1 << 32 } do
      local ok, err = pcall(loop.add_reader, loop, fd, print)
      assert.is_false(ok)
      assert.matches("not a descriptor", err, 1, true)
    end
  end)
end)
