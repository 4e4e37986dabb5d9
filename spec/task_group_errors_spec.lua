-- SPDX-License-Identifier: MIT
-- Task groups in which something fails: siblings and body are cancelled, and
-- all failures leave the group together, each as it was, with its traceback.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    return fn(tg)
  end,
  ["task_group"] = function(fn) return moonloop.task_group(fn) end,
}

-- The ErrorGroup that a group around `fn(tg)` raises.
local function failure(fn, in_group)
  local ok, err = pcall(in_group or FORMS["TaskGroup"], fn)
  assert.is_false(ok)
  assert.is_true(moonloop.is_error(err, moonloop.ErrorGroup), tostring(err))
  return err
end

-- What stands in an ErrorGroup: values of wrapped errors, messages of others.
local function contents(group)
  local list = {}
  for i, err in ipairs(group.errors) do
    if err.value ~= nil then list[i] = err.value else list[i] = err.message end
  end
  return list
end

for form, in_group in pairs(FORMS) do
  describe("A child that fails in a group made by " .. form, function()
    it("makes it raise an ErrorGroup, though it is the only one", function()
      local problem = moonloop.BrokenPipeError:new("gone")
      local err = failure(function(tg) tg:create_task(error, problem) end, in_group)
      assert.equal(1, #err.errors)
      assert.is_true(rawequal(problem, err.errors[1]))
      assert.same({ "string", "string" }, { type(err.message), type(err.traceback) })
    end)

    it("cancels its siblings and the body, and waits for them", function()
      local list, sibling = {}, nil
      local err = failure(function(tg)
        sibling = tg:create_task(function()
          local _ <close> = moonloop.defer(function()
            for _ = 1, 5 do nap() end
            list[#list + 1] = "sibling cleaned up"
          end)
          moonloop.sleep_forever()
        end)
        tg:create_task(error, "failed", 0)
        local _, reason = pcall(moonloop.sleep_forever)
        list[#list + 1] = reason.kind
        error(reason)
      end, in_group)
      assert.same({ "CancelledError", "sibling cleaned up" }, list)
      assert.same({ "failed" }, contents(err))
      assert.is_true(sibling:cancelled())
    end)

    it("cancels its siblings while the group is left", function()
      local siblings, gate = {}, moonloop.Future()
      local owner = tasks.start(in_group, function(tg)
        for i = 1, 3 do siblings[i] = tg:create_task(moonloop.sleep_forever) end
        tg:create_task(function() error(gate:await(), 0) end)
      end)
      assert.is_false(owner:done())
      gate:set_result("late failure")
      local ok, err = tasks.outcome(owner)
      assert.is_false(ok)
      assert.same({ "late failure" }, contents(err))
      for i = 1, 3 do assert.is_true(siblings[i]:cancelled()) end
    end)

    it("raises though the body swallows the cancellation and returns", function()
      local err = failure(function(tg)
        tg:create_task(error, "failed", 0)
        pcall(moonloop.sleep_forever)
        return "value"
      end, in_group)
      assert.same({ "failed" }, contents(err))
    end)

    it("leaves its task free to wait again, and stops at moonloop.pcall", function()
      local ok, err = moonloop.pcall(in_group, function(tg)
        tg:create_task(error, "failed", 0)
        moonloop.sleep_forever()
      end)
      assert.same({ false, { "failed" } }, { ok, contents(err) })
      assert.equal(0, moonloop.current_task():cancelling())
      assert.equal("slept", moonloop.sleep(0, "slept"))
    end)
  end)

  describe("The body of a group made by " .. form .. " that fails", function()
    it("cancels the children, waits for them, and is in the ErrorGroup", function()
      local problem, child, cleaned = moonloop.QueueFull:new("full"), nil, false
      local err = failure(function(tg)
        child = tg:create_task(function()
          local _ <close> = moonloop.defer(function() nap() cleaned = true end)
          moonloop.sleep_forever()
        end)
        nap()
        error(problem)
      end, in_group)
      assert.equal(1, #err.errors)
      assert.is_true(rawequal(problem, err.errors[1]))
      assert.is_true(child:cancelled())
      assert.is_true(cleaned)
    end)

    it("stands in the ErrorGroup in the order of time", function()
      local err = failure(function(tg)
        tg:create_task(function()
          local _ <close> = moonloop.defer(function() error("clean-up", 0) end)
          moonloop.sleep_forever()
        end)
        nap()
        error("body", 0)
      end, in_group)
      assert.same({ "body", "clean-up" }, contents(err))
      err = failure(function(tg)
        tg:create_task(error, "child", 0)
        pcall(moonloop.sleep_forever)
        error("body", 0)
      end, in_group)
      assert.same({ "child", "body" }, contents(err))
    end)

    it("with the error of a child it awaited has it once in the ErrorGroup", function()
      for _, problem in ipairs { moonloop.TimeoutError:new("late"), { "table" }, "text" } do
        local err = failure(function(tg)
          tg:create_task(moonloop.sleep_forever)
          tg:create_task(error, problem, 0):await()
        end, in_group)
        assert.equal(1, #err.errors)
        local only = err.errors[1]
        assert.is_true(rawequal(problem, only) or rawequal(problem, only.value))
      end
    end)

    it("or catches the error of a child it awaited has it in the ErrorGroup too", function()
      local err = failure(function(tg)
        assert.same({ false, "child" }, { tasks.outcome(tg:create_task(error, "child", 0)) })
      end, in_group)
      assert.same({ "child" }, contents(err))
    end)
  end)
end

describe("A failing group", function()
  it("made by task_group cancels the children also when its function raises nil", function()
    local child
    local err = failure(function(tg)
      child = tg:create_task(function() moonloop.Future():await() end)
      error(nil)
    end, moonloop.task_group)
    assert.equal(1, #err.errors)
    assert.is_nil(err.errors[1].value)
    assert.is_true(child:cancelled())
  end)

  it("takes no more children", function()
    local refused
    local err = failure(function(tg)
      tg:create_task(function()
        local _ <close> = moonloop.defer(function()
          refused = tasks.failure(tg.create_task, tg, nap)
        end)
        moonloop.sleep_forever()
      end)
      nap()
      error("body", 0)
    end)
    assert.same({ "body" }, contents(err))
    assert.is_true(moonloop.is_error(refused, "InvalidStateError"))
    assert.matches("is shutting down", refused.message, 1, true)
  end)
end)

describe("In an ErrorGroup made by a group", function()
  local function only(value)
    local err = failure(function(tg)
      local function culprit() error(value, 0) end
      tg:create_task(function() culprit() end)
    end)
    assert.equal(1, #err.errors)
    return err.errors[1]
  end

  it("a plain string is wrapped: message, value, traceback", function()
    local err = only("broken")
    assert.equal("Error", err.kind)
    assert.equal("broken", err.message)
    assert.equal("broken", err.value)
    assert.matches("culprit", err.traceback, 1, true)
    assert.matches("task_group_errors_spec.lua", err.traceback, 1, true)
  end)

  it("any other value is wrapped, and kept", function()
    for _, value in ipairs { { code = 42 }, 7, false, print } do
      local err = only(value)
      assert.same({ "Error", "string" }, { err.kind, type(err.message) })
      assert.is_true(rawequal(value, err.value))
      assert.matches("culprit", err.traceback, 1, true)
    end
  end)

  it("error(nil) is wrapped", function()
    local err = only(nil)
    assert.same({ "Error", "string" }, { err.kind, type(err.message) })
    assert.is_nil(err.value)
  end)

  it("an Error object stands as it is, with its own traceback", function()
    local problem
    local function culprit()
      problem = moonloop.TimeoutError:new("late")
      error(problem)
    end
    local err = failure(function(tg) tg:create_task(culprit) end).errors[1]
    assert.is_true(rawequal(problem, err))
    assert.matches("task_group_errors_spec.lua", err.traceback, 1, true)
  end)

  it("an error of the interpreter has its message and its place", function()
    local err = failure(function(tg)
      tg:create_task(function() return tg.nothing.field end)
    end)
    assert.matches("task_group_errors_spec.lua:%d+: attempt to index", err.errors[1].message)
  end)

  it("a plain error of the body is wrapped too", function()
    local err = failure(function() error("body", 0) end).errors[1]
    assert.equal("Error", err.kind)
    assert.equal("body", err.message)
    assert.equal("body", err.value)
    assert.matches("task_group_errors_spec.lua", err.traceback, 1, true)
  end)

  it("children stand in the order in which they failed", function()
    local gates = {}
    local owner = tasks.start(FORMS["TaskGroup"], function(tg)
      for i = 1, 4 do
        gates[i] = moonloop.Future()
        tg:create_task(function() error(gates[i]:await(), 0) end)
      end
    end)
    for _, i in ipairs { 3, 1, 4, 2 } do gates[i]:set_result(i) end
    local _, err = tasks.outcome(owner)
    assert.same({ 3, 1, 4, 2 }, contents(err))
  end)

  it("failing clean-ups follow the failure that made them run", function()
    local err = failure(function(tg)
      for i = 1, 3 do
        tg:create_task(function()
          local _ <close> = moonloop.defer(function()
            for _ = 1, 4 - i do nap() end
            error("clean-up " .. i, 0)
          end)
          moonloop.sleep_forever()
        end)
      end
      nap()
      tg:create_task(error, "first", 0)
    end)
    assert.same({ "first", "clean-up 3", "clean-up 2", "clean-up 1" }, contents(err))
  end)
end)

describe("A tree of groups that fail", function()
  local function tree()
    return failure(function(outer)
      outer:create_task(function()
        local inner <close> = moonloop.TaskGroup()
        inner:create_task(error, moonloop.TimeoutError:new("inner leaf"))
        inner:create_task({ eager_start = true }, function()
          pcall(moonloop.sleep_forever)
          error("inner clean-up", 0)
        end)
      end)
      outer:create_task({ eager_start = true }, function()
        pcall(moonloop.sleep_forever)
        error(moonloop.BrokenPipeError:new("outer leaf"))
      end)
    end)
  end

  it("is an ErrorGroup in an ErrorGroup", function()
    local err = tree()
    assert.equal(2, #err.errors)
    assert.is_true(moonloop.is_error(err.errors[1], "ErrorGroup"))
    assert.same({ "inner leaf", "inner clean-up" }, contents(err.errors[1]))
    assert.equal("outer leaf", err.errors[2].message)
  end)

  it("is shown by tostring, deeper errors further to the right", function()
    local text, column = tostring(tree()), {}
    for line in text:gmatch("[^\n]+") do
      for _, leaf in ipairs { "TimeoutError: inner leaf", "inner clean-up",
        "BrokenPipeError: outer leaf" } do
        column[#column + 1] = line:find(leaf, 1, true)
      end
    end
    assert.matches("^ErrorGroup: ", text)
    assert.equal(3, #column) -- in this order, each once, each on a line of its own
    assert.is_true(column[1] > column[3] and column[2] > column[3])
  end)

  it("is split by kind, keeping its shape", function()
    local late, rest = tree():split("TimeoutError")
    assert.equal(1, #late.errors)
    assert.same({ "inner leaf" }, contents(late.errors[1]))
    assert.same({ "inner clean-up" }, contents(rest.errors[1]))
    assert.equal("outer leaf", rest.errors[2].message)
    assert.is_nil(tree():subgroup("DNSError"))
  end)
end)

describe("A child's error", function()
  it("is never reported, for the group takes it", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    failure(function(tg) tg:create_task(error, "taken", 0) end)
    collectgarbage()
    collectgarbage()
    moonloop.sleep(60)
    assert.equal(0, #reports)
  end)

  it("that is a CancelledError of its own is no failure", function()
    local child
    do
      local tg <close> = moonloop.TaskGroup()
      child = tg:create_task(function() error(moonloop.CancelledError:new("mine")) end)
      assert.equal("body goes on", moonloop.sleep(0, "body goes on"))
    end
    assert.is_true(child:cancelled())
  end)
end)

describe("A DeadlockError of the body", function()
  it("is raised bare, for the children are part of the deadlock", function()
    for _, group in ipairs { "local tg <close> = moonloop.TaskGroup() body(tg)",
      "moonloop.task_group(body)" } do
      local status, out, err = script.one_line(([[
        local child
        local function body(tg)
          child = tg:create_task(function() moonloop.Future():await() end)
        end
        local ok, err = pcall(function() %s end)
        print(ok, err.kind, child:cancelled())
      ]]):format(group))
      assert.equal("", err)
      assert.equal("false\tDeadlockError\ttrue\n", out)
      assert.equal(0, status)
    end
  end)
end)

describe("Many children that fail #load", function()
  it("at once give one ErrorGroup with 10,000 errors", function()
    local gate = moonloop.Future()
    local owner = tasks.start(FORMS["TaskGroup"], function(tg)
      for i = 1, 10000 do
        tg:create_task(function()
          gate:await()
          error(i)
        end)
      end
    end)
    gate:set_result()
    local _, err = tasks.outcome(owner)
    assert.equal(10000, #err.errors)
    for i = 1, 10000 do assert.equal(i, err.errors[i].value) end
  end)

  it("in their clean-up give one ErrorGroup with 10,000 errors", function()
    local err = failure(function(tg)
      for i = 1, 10000 do
        tg:create_task(function()
          pcall(moonloop.sleep_forever)
          error(i)
        end)
      end
      nap()
      error(0)
    end)
    assert.equal(10001, #err.errors)
    for i = 0, 10000 do assert.equal(i, err.errors[i + 1].value) end
  end)
end)
