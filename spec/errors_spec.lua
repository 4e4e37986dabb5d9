-- SPDX-License-Identifier: MIT
-- Error objects: the tree of kinds, their classes, is_error, extend, pcall.
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"

local PARENT = {
  CancelledError = "Error", TimeoutError = "Error", InvalidStateError = "Error",
  OSError = "Error", ConnectionError = "OSError", ConnectionRefusedError = "ConnectionError",
  ConnectionResetError = "ConnectionError", ConnectionAbortedError = "ConnectionError",
  BrokenPipeError = "ConnectionError", FileNotFoundError = "OSError",
  PermissionError = "OSError", FileExistsError = "OSError", AddressInUseError = "OSError",
  DNSError = "Error", TLSError = "Error", CertificateError = "TLSError",
  IncompleteReadError = "Error", LimitOverrunError = "Error", QueueEmpty = "Error",
  QueueFull = "Error", QueueShutDown = "Error", BrokenBarrierError = "Error",
  ProcessError = "Error", ExecutorError = "Error", BrokenExecutor = "ExecutorError",
  RemoteError = "Error", DeadlockError = "Error", ErrorGroup = "Error",
}

describe("The tree of kinds", function()
  it("has a class for every kind", function()
    for kind in pairs(PARENT) do
      local err = moonloop[kind]:new("why")
      assert.equal(kind, err.kind)
      assert.equal("why", err.message)
    end
  end)

  it("puts every kind below its parent", function()
    for kind, parent in pairs(PARENT) do
      local err = moonloop[kind]:new("why")
      while parent do
        assert.is_true(moonloop.is_error(err, parent), kind .. " below " .. parent)
        assert.is_true(moonloop.is_error(err, moonloop[parent]))
        parent = PARENT[parent]
      end
    end
  end)

  it("keeps siblings and children apart", function()
    assert.is_false(moonloop.is_error(moonloop.TimeoutError:new("x"), "CancelledError"))
    assert.is_false(moonloop.is_error(moonloop.OSError:new("x"), "ConnectionError"))
    assert.is_false(moonloop.is_error(moonloop.BrokenPipeError:new("x"), "FileNotFoundError"))
    assert.is_false(moonloop.is_error(moonloop.Error.new { kind = "Error" }, "OSError"))
  end)
end)

describe("is_error", function()
  it("answers for any Lua value", function()
    local values = { 1, "text", true, {}, print, coroutine.create(print), io.stdout }
    for _, value in ipairs(values) do
      assert.is_false(moonloop.is_error(value))
      assert.is_false(moonloop.is_error(value, "TimeoutError"))
      assert.is_false(moonloop.is_error(value, moonloop.TimeoutError))
    end
    assert.is_false(moonloop.is_error(nil))
    assert.is_false(moonloop.is_error(nil, "Error"))
  end)

  it("takes a kind, a class, or neither", function()
    local err = moonloop.TimeoutError:new("late")
    assert.is_true(moonloop.is_error(err))
    assert.is_true(moonloop.is_error(err, "TimeoutError"))
    assert.is_true(moonloop.is_error(err, moonloop.TimeoutError))
    assert.is_true(moonloop.is_error(err, "Error"))
    assert.is_true(moonloop.is_error(err, moonloop.Error))
  end)

  it("does not take a class for one of its errors", function()
    assert.is_false(moonloop.is_error(moonloop.TimeoutError))
  end)
end)

describe("An Error object", function()
  it("is made by Error.new from a table of fields", function()
    local cause = moonloop.Error.new { kind = "Error", message = "first" }
    local err = moonloop.Error.new {
      kind = "ConnectionResetError", message = "gone", code = "ECONNRESET", errno = 104,
      cause = cause, extra = "kept",
    }
    assert.equal("ConnectionResetError", err.kind)
    assert.equal("gone", err.message)
    assert.equal("ECONNRESET", err.code)
    assert.equal(104, err.errno)
    assert.equal(cause, err.cause)
    assert.equal("kept", err.extra)
    assert.is_true(moonloop.is_error(err, "OSError"))
  end)

  it("is made by a class from a message and fields", function()
    local err = moonloop.IncompleteReadError:new("short", { partial = "ab", expected = 4 })
    assert.equal("short", err.message)
    assert.equal("ab", err.partial)
    assert.equal(4, err.expected)
  end)

  it("is a table that tostring puts on one line", function()
    local err = moonloop.TimeoutError:new("read: too late")
    assert.is_table(err)
    assert.equal("TimeoutError: read: too late", tostring(err))
  end)

  it("has the traceback of where it came from", function()
    local function culprit()
      error(moonloop.TimeoutError:new("x"))
    end
    local err = tasks.failure(function()
      culprit()
    end)
    assert.is_string(err.traceback)
    assert.truthy(err.traceback:find("errors_spec.lua", 1, true))
    assert.truthy(err.traceback:find("culprit", 1, true))
  end)

  it("has a traceback also when the library raises it", function()
    local err = tasks.failure(function()
      moonloop.Future():result()
    end)
    assert.equal("InvalidStateError", err.kind)
    assert.truthy(err.traceback:find("errors_spec.lua", 1, true))
  end)

  it("stays the same object through tasks", function()
    local err = moonloop.TimeoutError:new("x")
    local inner = moonloop.create_task(function() error(err) end)
    assert.equal(err, tasks.failure(moonloop.await, inner))
  end)

  it("says what was done to what when the system refuses", function()
    local ok, err = pcall(moonloop.open_connection, "127.0.0.1", 1)
    assert.is_false(ok)
    assert.equal("ConnectionRefusedError", err.kind)
    assert.equal("ECONNREFUSED", err.code)
    assert.equal(111, err.errno)
    assert.is_true(moonloop.is_error(err, moonloop.ConnectionError))
    assert.equal("ConnectionRefusedError: connect 127.0.0.1:1: Connection refused", tostring(err))
  end)
end)

describe("Error:extend", function()
  it("adds a kind below Error", function()
    local MyError = moonloop.Error:extend "MyError"
    local err = MyError:new("boom", { n = 3 })
    assert.equal("MyError", err.kind)
    assert.equal(3, err.n)
    assert.equal("MyError: boom", tostring(err))
    assert.is_true(moonloop.is_error(err, MyError))
    assert.is_true(moonloop.is_error(err, "MyError"))
    assert.is_true(moonloop.is_error(err, "Error"))
    assert.is_false(moonloop.is_error(err, "OSError"))
  end)

  it("extends any class, and what it made", function()
    local DiskError = moonloop.OSError:extend "DiskError"
    local DiskFullError = DiskError:extend "DiskFullError"
    local err = DiskFullError:new("no room")
    assert.is_true(moonloop.is_error(err, DiskError))
    assert.is_true(moonloop.is_error(err, moonloop.OSError))
    assert.is_false(moonloop.is_error(DiskError:new("x"), DiskFullError))
  end)

  it("makes a kind that Error.new knows by name", function()
    local Named = moonloop.TimeoutError:extend "NamedTimeoutError"
    local err = moonloop.Error.new { kind = "NamedTimeoutError", message = "m" }
    assert.is_true(moonloop.is_error(err, Named))
    assert.is_true(moonloop.is_error(err, "TimeoutError"))
  end)
end)

describe("ErrorGroup", function()
  local function group()
    return moonloop.ErrorGroup:new("several", { errors = {
      moonloop.TimeoutError:new("a"), moonloop.BrokenPipeError:new("b"),
      moonloop.TimeoutError:new("c"),
    } })
  end

  it("has its errors in a list", function()
    assert.equal(3, #group().errors)
    assert.equal("b", group().errors[2].message)
  end)

  it("is split by kind into those that match and the rest", function()
    local match, rest = group():split("TimeoutError")
    assert.equal(2, #match.errors)
    assert.equal("c", match.errors[2].message)
    assert.equal(1, #rest.errors)
    assert.is_true(moonloop.is_error(rest, "ErrorGroup"))
    local all, none = group():split("Error")
    assert.equal(3, #all.errors)
    assert.is_nil(none)
  end)

  it("gives the subgroup of a kind, or nil", function()
    assert.equal(1, #group():subgroup("OSError").errors)
    assert.is_nil(group():subgroup("DNSError"))
  end)
end)

describe("A plain error", function()
  local function raised(value)
    return tasks.failure(function() error(value, 0) end)
  end

  it("stays the string it is", function()
    assert.equal("text", raised("text"))
  end)

  it("stays the table it is", function()
    local value = { answer = 42 }
    assert.equal(value, raised(value))
  end)

  it("keeps the position that error gives it", function()
    local err = tasks.failure(function() error("here") end)
    assert.matches("^.*errors_spec%.lua:%d+: here$", err)
  end)

  it("fails a task also when it is nil", function()
    local task = moonloop.create_task(function() error(nil) end)
    local ok, err = tasks.outcome(task)
    assert.is_false(ok)
    assert.is_nil(err)
    assert.is_true(task:done())
  end)

  it("keeps false and numbers", function()
    assert.is_false(raised(false))
    assert.equal(7, raised(7))
  end)
end)

describe("moonloop.pcall", function()
  it("gives true and every value", function()
    local got = table.pack(moonloop.pcall(function(...) return ... end, 1, nil, 3, nil))
    assert.same({ true, 1, nil, 3, nil, n = 5 }, got)
  end)

  it("gives false and the error", function()
    local err = moonloop.TimeoutError:new("x")
    assert.same({ false, "text" }, { moonloop.pcall(error, "text", 0) })
    local ok, caught = moonloop.pcall(error, err)
    assert.is_false(ok)
    assert.equal(err, caught)
  end)

  it("lets its function await", function()
    assert.same({ true, "v" }, { moonloop.pcall(moonloop.sleep, 0, "v") })
  end)

  it("passes a CancelledError through", function()
    local reached = false
    local task = tasks.start(function()
      moonloop.pcall(moonloop.sleep_forever)
      reached = true
    end)
    assert.is_true(tasks.cancel(task))
    assert.is_false(reached)
  end)

  it("passes also a CancelledError that somebody made", function()
    local err = moonloop.CancelledError:new("made")
    local ok, caught = pcall(moonloop.pcall, error, err)
    assert.is_false(ok)
    assert.equal(err, caught)
  end)

  it("passes kinds made from CancelledError", function()
    local Mine = moonloop.CancelledError:extend "MyCancelledError"
    assert.is_false((pcall(moonloop.pcall, error, Mine:new("x"))))
  end)
end)
