-- SPDX-License-Identifier: MIT
-- How children of a task group begin: tg:start, which waits until the child says
-- that it has started, and children with eager_start that fail at once.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

local kind = tasks.kind

-- Runs `fn(tg)` in the block of a group.
local function in_group(fn)
  local tg <close> = moonloop.TaskGroup()
  return fn(tg)
end

describe("tg:start", function()
  it("returns what the child passes to started, and the child goes on", function()
    local list = {}
    in_group(function(tg)
      local got = table.pack(tg:start(function(started, ...)
        started(select("#", ...), ...)
        nap()
        list[#list + 1] = "child ended"
      end, 1, nil))
      assert.same({ 2, 1, nil, n = 3 }, got)
      list[#list + 1] = "body ended"
    end)
    assert.same({ "body ended", "child ended" }, list)
  end)

  it("waits until the child has started, and lets others run", function()
    local gate, child = moonloop.Future(), nil
    local owner = tasks.start(in_group, function(tg)
      return tg:start(function(started)
        child = moonloop.current_task()
        started(gate:await())
      end)
    end)
    assert.is_false(owner:done() or child:done())
    gate:set_result("port", 80)
    assert.same({ "port", 80 }, { owner:await() })
    assert.is_true(child:done())
  end)

  it("takes options, and anything that can be called", function()
    local callable = setmetatable({}, { __call = function(_, started, value)
      started(moonloop.current_task():get_name(), value)
    end })
    in_group(function(tg)
      assert.same({ "server", 1 }, { tg:start({ name = "server" }, callable, 1) })
      assert.same({ "eager", 2 }, { tg:start({ name = "eager", eager_start = true }, callable, 2) })
      assert.equal(3, select(2, tg:start(callable, 3)))
    end)
  end)

  it("lets its child inherit the context of the task that calls it", function()
    local var = moonloop.ContextVar("var")
    in_group(function(tg)
      moonloop.await(function()
        var:set("caller's")
        assert.equal("caller's", tg:start(function(started) started(var:get()) end))
      end)
      assert.is_nil(var:get())
    end)
  end)

  it("may be called by a child", function()
    local list = {}
    in_group(function(tg)
      tg:create_task(function()
        list[1] = tg:start(function(started)
          started(tg:start(function(inner_started) inner_started("innermost") end))
        end)
      end)
    end)
    assert.same({ "innermost" }, list)
  end)
end)

describe("A child that fails before it has started", function()
  local function error_text() error("text", 0) end

  it("fails its start alone: the group goes on", function()
    local problem = moonloop.AddressInUseError:new("taken")
    local sibling
    in_group(function(tg)
      sibling = tg:create_task(function() nap() nap() return "undisturbed" end)
      local ok, err = pcall(tg.start, tg, function()
        nap()
        error(problem)
      end)
      assert.is_false(ok)
      assert.is_true(rawequal(problem, err))
      for _, opts in ipairs { {}, { eager_start = true } } do
        assert.same({ false, "text" }, { pcall(tg.start, tg, opts, error_text) })
      end
      assert.equal("body goes on", moonloop.sleep(0, "body goes on"))
    end)
    assert.equal("undisturbed", sibling:result())
  end)

  it("is a failure of the body that does not catch it", function()
    local _, err = pcall(in_group, function(tg)
      tg:start(function() error("not started", 0) end)
    end)
    assert.equal(1, #err.errors)
    assert.equal("not started", err.errors[1].value)
  end)

  it("is not reported", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local reports <close> = tasks.reports()
    in_group(function(tg) pcall(tg.start, tg, function() error("taken", 0) end) end)
    moonloop.sleep(10)
    collectgarbage()
    collectgarbage()
    moonloop.sleep(10)
    -- Reports of what other specs have left may come in that time too.
    assert.is_nil(tasks.find(reports, function(report) return report.error == "taken" end))
  end)

  it("or ends, raises InvalidStateError", function()
    in_group(function(tg)
      assert.equal("InvalidStateError", kind(tg.start, tg, function() end))
      assert.equal("InvalidStateError", kind(tg.start, tg, nap))
      assert.equal("body goes on", moonloop.sleep(0, "body goes on"))
    end)
  end)

  it("or ends by a CancelledError of its own, ends the start with an error", function()
    in_group(function(tg)
      local ok, err = pcall(tg.start, tg, function()
        nap()
        error(moonloop.CancelledError:new("mine"))
      end)
      assert.same({ false, true }, { ok, moonloop.is_error(err) })
      assert.equal("body goes on", moonloop.sleep(0, "body goes on"))
    end)
  end)
end)

describe("A child that has started", function()
  it("is a child like any other: its failure is the group's", function()
    local got, reason
    local _, err = pcall(in_group, function(tg)
      got = tg:start(function(started)
        started("up")
        nap()
        error("down", 0)
      end)
      reason = kind(moonloop.sleep_forever)
    end)
    assert.same({ "up", "CancelledError" }, { got, reason })
    assert.equal(1, #err.errors)
    assert.equal("down", err.errors[1].value)
  end)

  it("and fails in the same turn leaves the start its values", function()
    local got
    local _, err = pcall(in_group, function(tg)
      got = { tg:start(function(started)
        started("up")
        error("down", 0)
      end), kind(nap) }
    end)
    assert.same({ "up", "CancelledError" }, got)
    assert.equal("down", err.errors[1].value)
  end)

  it("cannot start twice", function()
    local got, again
    in_group(function(tg)
      got = tg:start(function(started)
        started("once")
        again = kind(started, "twice")
      end)
    end)
    assert.same({ "once", "InvalidStateError" }, { got, again })
  end)

  it("is cancelled by tg:cancel", function()
    local child
    in_group(function(tg)
      child = tg:start(function(started)
        started(moonloop.current_task())
        moonloop.sleep_forever()
      end)
      tg:cancel()
    end)
    assert.is_true(child:cancelled())
  end)
end)

describe("A start that is cancelled", function()
  -- A child that never starts and cleans up until `gate` is set.
  local function never_starts(tg, gate)
    return tg:start(function()
      local _ <close> = moonloop.defer(function() gate:await() end)
      moonloop.sleep_forever()
    end)
  end

  it("cancels the child and waits for it", function()
    local gate = moonloop.Future()
    local owner = tasks.start(in_group, function(tg) never_starts(tg, gate) end)
    owner:cancel()
    testing.wait_all_blocked()
    assert.is_false(owner:done())
    gate:set_result()
    assert.is_true(tasks.cancel(owner))
  end)

  it("by another task leaves the group alone", function()
    local gate, sibling = moonloop.Future(), nil
    in_group(function(tg)
      sibling = tg:create_task(function() return gate:await() end)
      local starter = tasks.start(never_starts, tg, gate)
      starter:cancel()
      testing.wait_all_blocked()
      assert.is_false(starter:done())
      gate:set_result("undisturbed")
      assert.is_true(tasks.cancel(starter))
    end)
    assert.equal("undisturbed", sibling:result())
  end)

  it("by a timeout raises TimeoutError, and the group goes on", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local start, sibling = moonloop.time(), nil
    in_group(function(tg)
      sibling = tg:create_task(moonloop.sleep, 30, "undisturbed")
      assert.equal("TimeoutError", kind(function()
        local _ <close> = moonloop.timeout(10)
        never_starts(tg, moonloop.ensure_future(function() moonloop.sleep(15) end))
      end))
      assert.is_true(moonloop.time() - start >= 15)
    end)
    assert.equal("undisturbed", sibling:result())
  end)

  it("before it begins does not run its function", function()
    local ran, reason = false, nil
    in_group(function(tg)
      local scope = moonloop.CancelScope {}
      scope:run(function()
        scope:cancel()
        reason = kind(tg.start, tg, function() ran = true end)
      end)
    end)
    assert.same({ "CancelledError", false }, { reason, ran })
  end)

  it("in the turn after its child started returns the values", function()
    local scope, got, ended = moonloop.CancelScope {}, nil, false
    in_group(function(tg)
      scope:run(function()
        got = { tg:start(function(started)
          started("item")
          scope:cancel()
          nap()
          ended = true
        end), kind(nap) }
      end)
    end)
    assert.same({ "item", "CancelledError" }, got)
    assert.is_true(ended)
  end)

  it("in the turn before its child starts raises, and the child is cancelled", function()
    local scope, child, reason = moonloop.CancelScope {}, nil, nil
    in_group(function(tg)
      scope:run(function()
        reason = kind(tg.start, tg, function(started)
          child = moonloop.current_task()
          nap()
          scope:cancel()
          pcall(started, "late")
          moonloop.Future():await()
        end)
      end)
    end)
    assert.equal("CancelledError", reason)
    assert.is_true(child:cancelled())
  end)
end)

describe("A start while its group ends", function()
  local function pending(started, gate)
    started(gate:await())
  end

  it("is cancelled with its child when a sibling fails", function()
    local reason
    local _, err = pcall(in_group, function(tg)
      tg:create_task(error, "sibling", 0)
      reason = kind(tg.start, tg, pending, moonloop.Future())
    end)
    assert.equal("CancelledError", reason)
    assert.equal(1, #err.errors)
    assert.equal("sibling", err.errors[1].value)
  end)

  it("fails in another task when the group fails or is cancelled", function()
    for _, finish in ipairs { function() error("body", 0) end, function(tg) tg:cancel() end } do
      local starter
      pcall(in_group, function(tg)
        starter = tasks.start(tg.start, tg, pending, moonloop.Future())
        finish(tg)
      end)
      local ok, err = tasks.outcome(starter)
      assert.is_false(ok)
      assert.is_true(moonloop.is_error(err))
    end
  end)

  it("is waited for when another task began it", function()
    local gate, starter = moonloop.Future(), nil
    local owner = tasks.start(in_group, function(tg)
      starter = moonloop.create_task(tg.start, tg, pending, gate)
      nap()
    end)
    assert.is_false(owner:done() or starter:done())
    gate:set_result("up")
    owner:await()
    assert.equal("up", starter:await())
  end)

  it("is refused once the group is shutting down or closed", function()
    local group
    in_group(function(tg)
      group = tg
      tg:cancel()
      assert.equal("InvalidStateError", kind(tg.start, tg, pending, moonloop.Future()))
    end)
    local _, err = pcall(group.start, group, pending, moonloop.Future())
    assert.is_true(moonloop.is_error(err, "InvalidStateError"))
    assert.matches("the TaskGroup is closed", err.message, 1, true)
  end)
end)

describe("Arguments of tg:start", function()
  it("are checked before anything happens", function()
    local tg <close> = moonloop.TaskGroup()
    local before = #moonloop.all_tasks()
    local function refused(number, ...)
      local ok, err = pcall(tg.start, tg, ...)
      assert.is_false(ok)
      assert.matches(("bad argument #%d to 'start' ("):format(number), err, 1, true)
    end
    refused(1)
    refused(1, 5)
    refused(2, {})
    refused(2, {}, "text")
    refused(1, { nme = "x" }, nap)
    assert.equal(before, #moonloop.all_tasks())
  end)
end)

describe("A child with eager_start that fails at once", function()
  local EAGER = { eager_start = true }

  it("is a failed task for its creator, whose next await is cancelled", function()
    local _, err = pcall(in_group, function(tg)
      local child = tg:create_task(EAGER, error, "at once", 0)
      assert.is_true(child:done())
      assert.equal("at once", child:error())
      assert.equal("InvalidStateError", kind(tg.create_task, tg, nap))
      assert.equal("CancelledError", kind(nap))
    end)
    assert.equal(1, #err.errors)
    assert.equal("at once", err.errors[1].value)
  end)

  it("in a child cancels that child at its next await", function()
    local reason
    local _, err = pcall(in_group, function(tg)
      tg:create_task(function()
        tg:create_task(EAGER, error, "grandchild", 0)
        reason = kind(nap)
      end)
    end)
    assert.equal(1, #err.errors)
    assert.equal("grandchild", err.errors[1].value)
    assert.equal("CancelledError", reason)
  end)

  it("keeps siblings that have not begun from ever running", function()
    local ran = false
    pcall(in_group, function(tg)
      tg:create_task(function() ran = true end)
      tg:create_task(EAGER, error, "at once", 0)
    end)
    assert.is_false(ran)
  end)
end)
