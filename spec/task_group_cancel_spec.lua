-- SPDX-License-Identifier: MIT
-- Task groups and cancellation: of the task that owns the group, of the group
-- itself, by timeouts around and inside it, and all that in the very turn in
-- which the last child ends.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local function nap() moonloop.sleep(0) end

local kind = tasks.kind

-- Both forms of a group around `fn(tg)`.
local FORMS = {
  ["TaskGroup"] = function(fn)
    local tg <close> = moonloop.TaskGroup()
    return fn(tg)
  end,
  ["task_group"] = function(fn) return moonloop.task_group(fn) end,
}

-- Where the owner waits when the cancellation comes.
local PLACES = {
  ["in its body"] = moonloop.sleep_forever,
  ["while it is left"] = function() end,
}

-- A child that when cancelled cleans up until `gate` is set.
local function tidy(gate)
  local _ <close> = moonloop.defer(function() gate:await() end)
  moonloop.sleep_forever()
end

for form, in_group in pairs(FORMS) do
  for place, wait in pairs(PLACES) do
    describe("A task cancelled in a group made by " .. form .. ", " .. place .. ",", function()
      it("cancels the children, waits for them, and ends cancelled", function()
        local gate, child = moonloop.Future(), nil
        local owner = tasks.start(in_group, function(tg)
          child = tg:create_task(tidy, gate)
          wait()
        end)
        owner:cancel("because")
        for _ = 1, 3 do
          testing.wait_all_blocked()
          assert.is_false(owner:done() or child:done())
          owner:cancel()
        end
        gate:set_result()
        local _, err = tasks.outcome(owner)
        assert.is_true(owner:cancelled())
        assert.equal("because", err.message)
        assert.is_true(child:cancelled())
      end)

      it("raises what their clean-up fails with, and is cancelled still", function()
        local group, after
        local owner = tasks.start(function()
          group = select(2, pcall(in_group, function(tg)
            tg:create_task(function()
              local _ <close> = moonloop.defer(function() error("clean-up", 0) end)
              moonloop.sleep_forever()
            end)
            wait()
          end))
          after = kind(nap)
        end)
        owner:cancel()
        owner:await()
        assert.equal("ErrorGroup", group.kind)
        assert.equal(1, #group.errors)
        assert.equal("clean-up", group.errors[1].value)
        assert.equal("CancelledError", after)
      end)
    end)

    describe("A timeout around a group made by " .. form .. ", " .. place .. ",", function()
      local function timed_out(fn)
        return pcall(function()
          local _ <close> = moonloop.timeout(10)
          in_group(fn)
        end)
      end

      it("cancels the children, waits for them, and raises TimeoutError", function()
        local _ <close> = testing.virtual_clock { threshold = 0 }
        local start, cleaned, child = moonloop.time(), nil, nil
        local ok, err = timed_out(function(tg)
          child = tg:create_task(function()
            local _ <close> = moonloop.defer(function()
              moonloop.sleep(5)
              cleaned = moonloop.time() - start
            end)
            moonloop.sleep_forever()
          end)
          wait()
        end)
        assert.is_false(ok)
        assert.equal("TimeoutError", err.kind)
        assert.is_true(child:cancelled())
        assert.is_true(cleaned >= 15)
      end)

      it("leaves an ErrorGroup what it is", function()
        local _ <close> = testing.virtual_clock { threshold = 0 }
        local ok, err = timed_out(function(tg)
          tg:create_task(function()
            pcall(moonloop.sleep_forever)
            error("clean-up", 0)
          end)
          wait()
        end)
        assert.is_false(ok)
        assert.equal("ErrorGroup", err.kind)
        assert.equal("clean-up", err.errors[1].value)
      end)

      it("is answered as quietly by move_on_after", function()
        local _ <close> = testing.virtual_clock { threshold = 0 }
        local child
        assert.is_false(moonloop.move_on_after(10, in_group, function(tg)
          child = tg:create_task(moonloop.sleep_forever)
          wait()
        end))
        assert.is_true(child:cancelled())
        assert.equal("free", moonloop.sleep(0, "free"))
      end)
    end)
  end

  describe("A timeout inside a group made by " .. form, function()
    it("that leaves the body is a failure among the others", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local child
      local ok, err = pcall(in_group, function(tg)
        child = tg:create_task(moonloop.sleep_forever)
        local _ <close> = moonloop.timeout(10)
        moonloop.sleep_forever()
      end)
      assert.is_false(ok)
      assert.equal("ErrorGroup", err.kind)
      assert.equal("TimeoutError", err.errors[1].kind)
      assert.is_true(child:cancelled())
    end)

    it("that the body catches leaves the children alone", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local child
      in_group(function(tg)
        child = tg:create_task(moonloop.sleep, 20, "undisturbed")
        assert.equal("TimeoutError", kind(function()
          local _ <close> = moonloop.timeout(10)
          moonloop.sleep_forever()
        end))
      end)
      assert.equal("undisturbed", child:result())
    end)
  end)

  describe("A group made by " .. form .. " in a cancelled scope", function()
    it("raises CancelledError though there is nothing to wait for", function()
      local task = tasks.start(function()
        pcall(moonloop.sleep_forever)
        return kind(in_group, function() end)
      end)
      task:cancel()
      assert.equal("CancelledError", task:await())
    end)

    it("goes on to its end when it is shielded", function()
      local task = tasks.start(function()
        pcall(moonloop.sleep_forever)
        local child
        moonloop.shield(in_group, function(tg)
          child = tg:create_task(moonloop.sleep, 0, "shielded")
          nap()
        end)
        return child:result(), kind(nap)
      end)
      task:cancel()
      assert.same({ "shielded", "CancelledError" }, { task:await() })
    end)
  end)
end

describe("tg:cancel", function()
  it("ends the children quietly, and the body of a block goes on", function()
    local children, value = {}
    do
      local tg <close> = moonloop.TaskGroup()
      for i = 1, 3 do children[i] = tg:create_task(moonloop.sleep_forever) end
      nap()
      tg:cancel()
      tg:cancel()
      value = moonloop.sleep(0, "body goes on")
    end
    assert.equal("body goes on", value)
    for i = 1, 3 do assert.is_true(children[i]:cancelled()) end
  end)

  it("refuses children from then on", function()
    local tg <close> = moonloop.TaskGroup()
    tg:cancel()
    local _, err = pcall(tg.create_task, tg, nap)
    assert.is_true(moonloop.is_error(err, "InvalidStateError"))
    assert.matches("is shutting down", err.message, 1, true)
  end)

  for form, in_group in pairs(FORMS) do
    it("by a child or another task ends the wait for the children, " .. form, function()
      for _, canceller in ipairs { "child", "other" } do
        local group, list
        local owner = tasks.start(function()
          list = table.pack(in_group(function(tg)
            group = tg
            tg:create_task(tidy, moonloop.ensure_future(nap))
            if canceller == "child" then tg:create_task(function() tg:cancel() end) end
            return "value"
          end))
        end)
        if canceller == "other" then group:cancel() end
        owner:await()
        assert.same({ "value", n = 1 }, list)
      end
    end)

    it("keeps the failures of the children's clean-up, " .. form, function()
      local ok, err = pcall(in_group, function(tg)
        tg:create_task({ eager_start = true }, function()
          pcall(moonloop.sleep_forever)
          error("clean-up", 0)
        end)
        tg:cancel()
      end)
      assert.is_false(ok)
      assert.equal("ErrorGroup", err.kind)
      assert.equal("clean-up", err.errors[1].value)
    end)
  end

  it("cancels the body of task_group too, which returns nothing", function()
    local reached = false
    local got = table.pack(moonloop.task_group(function(tg)
      tg:create_task(function() tg:cancel() end)
      moonloop.sleep_forever()
      reached = true
    end))
    assert.same({ n = 0 }, got)
    assert.is_false(reached)
    assert.equal("free", moonloop.sleep(0, "free"))
    assert.equal(0, moonloop.current_task():cancelling())
  end)

  it("leaves a body of task_group that ends all the same its values", function()
    assert.equal("value", moonloop.task_group(function(tg)
      tg:cancel()
      return kind(nap) == "CancelledError" and "value"
    end))
  end)

  it("does not hide that the task is cancelled too", function()
    local owner = tasks.start(moonloop.task_group, function(tg)
      tg:create_task(function()
        pcall(moonloop.sleep_forever)
        tg:cancel()
      end)
      moonloop.sleep_forever()
    end)
    assert.is_true(tasks.cancel(owner))
  end)
end)

for form, in_group in pairs(FORMS) do
  describe("In the turn in which the last child of a " .. form .. " ends,", function()
    -- Starts an owner whose child ends when the gate is set, between tasks that
    -- are woken by the gate before and after it.
    local function race(before, after)
      local gate, owner, child = moonloop.Future(), nil, nil
      local function at_gate(act)
        return tasks.start(function() gate:await() act(owner) end)
      end
      local first = at_gate(before)
      owner = tasks.start(function()
        local outcome = kind(in_group, function(tg) child = tg:create_task(gate.await, gate) end)
        return outcome, kind(nap)
      end)
      local last = at_gate(after)
      gate:set_result()
      local outcome, next_await = owner:await()
      first:await()
      last:await()
      assert.is_true(child:done())
      return outcome, next_await
    end

    local function cancel(task) task:cancel() end
    local function nothing() end

    it("a cancellation after it lets the group be left, and comes next", function()
      assert.same({ false, "CancelledError" }, { race(nothing, cancel) })
    end)

    it("a cancellation before it is raised by the group", function()
      assert.same({ "CancelledError", "CancelledError" }, { race(cancel, nothing) })
    end)

    it("a cancellation by that child is raised by the group", function()
      local owner
      owner = moonloop.create_task(in_group, function(tg)
        tg:create_task(function()
          nap()
          owner:cancel()
        end)
      end)
      tasks.outcome(owner)
      assert.is_true(owner:cancelled())
    end)

    it("a cancellation by its done-callback comes too late for the group", function()
      local owner
      owner = tasks.start(function()
        local value = in_group(function(tg)
          tg:create_task(testing.wait_all_blocked):add_done_callback(function() owner:cancel() end)
          return "value"
        end)
        return value, kind(nap)
      end)
      assert.same({ "value", "CancelledError" }, { owner:await() })
    end)

    it("a cancellation and its failure raise the failure first", function()
      local owner
      owner = moonloop.create_task(function()
        local outcome = kind(in_group, function(tg)
          tg:create_task(function()
            nap()
            owner:cancel()
            error("failed", 0)
          end)
        end)
        return outcome, kind(nap)
      end)
      assert.same({ "ErrorGroup", "CancelledError" }, { owner:await() })
    end)

    it("a deadline before it is raised, one after it is not", function()
      local _ <close> = testing.virtual_clock { threshold = 0 }
      local function outcome(deadline_first)
        local when = moonloop.time() + 10
        return kind(function()
          local t <close> = moonloop.timeout_at(deadline_first and when or nil)
          in_group(function(tg)
            tg:create_task({ eager_start = true }, moonloop.sleep_until, when)
            if not deadline_first then t:reschedule(when) end
          end)
        end)
      end
      assert.equal("TimeoutError", outcome(true))
      assert.is_false(outcome(false))
    end)
  end)
end

describe("In the turn in which a child fails", function()
  local function race(child, body)
    local gate = moonloop.Future()
    local ok, err = pcall(FORMS["TaskGroup"], function(tg)
      child(tg, gate)
      body(gate)
    end)
    assert.is_false(ok)
    assert.equal("failed", err.errors[1].value)
  end

  it("a result that the body waits for and that came before is delivered", function()
    local got
    race(function(tg, gate)
      tg:create_task(function()
        gate:set_result("item")
        error("failed", 0)
      end)
    end, function(gate) got = { gate:await(), kind(nap) } end)
    assert.same({ "item", "CancelledError" }, got)
  end)

  it("a result that comes after finds the body cancelled", function()
    local got
    race(function(tg, gate)
      local child = tg:create_task(error, "failed", 0)
      child:add_done_callback(function() gate:set_result("late") end)
    end, function(gate) got = kind(gate.await, gate) end)
    assert.equal("CancelledError", got)
  end)
end)
