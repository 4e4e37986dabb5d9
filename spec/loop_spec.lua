-- SPDX-License-Identifier: MIT
-- The loop inside a task: handles, timers, exception handler, descriptors.
local descriptors = require "spec.support.descriptors"
local moonloop = require "moonloop"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local loop = moonloop.get_running_loop()

-- Lets everything that is ready, and what follows from it, run.
local function settle()
  testing.wait_all_blocked()
end

describe("The loop", function()
  it("is one to a Lua state", function()
    assert.equal(loop, moonloop.get_event_loop())
    assert.equal(loop, moonloop.get_running_loop())
    assert.is_true(loop:is_running())
    assert.is_false(loop:is_closed())
  end)

  it("has a clock that moonloop.time reads, and that never goes back", function()
    local before = moonloop.time()
    assert.is_number(before)
    assert.is_true(loop:time() >= before)
    assert.is_true(moonloop.time() >= loop:time() - 1)
  end)

  it("makes futures and tasks", function()
    assert.is_true(moonloop.isfuture(loop:create_future()))
    local task = loop:create_task(function(...) return ... end, 1, nil, 3)
    assert.same({ 1, nil, 3, n = 3 }, table.pack(moonloop.await(task)))
  end)

  it("cannot be run or closed by what it runs", function()
    assert.has_error(function() loop:run_forever() end)
    assert.has_error(function() loop:run_until_complete(loop:create_future()) end)
    assert.has_error(function() loop:close() end)
    assert.is_true(loop:is_running())
  end)

  it("keeps the debug flag it is given", function()
    local before = loop:get_debug()
    loop:set_debug(true)
    assert.is_true(loop:get_debug())
    loop:set_debug(false)
    assert.is_false(loop:get_debug())
    loop:set_debug(before)
  end)
end)

describe("call_soon", function()
  it("runs callbacks in the order of the calls, never at once", function()
    local list = {}
    for i = 1, 3 do loop:call_soon(function() list[#list + 1] = i end) end
    assert.same({}, list)
    settle()
    assert.same({ 1, 2, 3 }, list)
  end)

  it("passes all arguments, nil too", function()
    local got
    loop:call_soon(function(...) got = table.pack(...) end, nil, 2, nil)
    settle()
    assert.same({ nil, 2, nil, n = 3 }, got)
  end)

  it("runs a callback made by a callback after those already there", function()
    local list = {}
    loop:call_soon(function()
      list[#list + 1] = "first"
      loop:call_soon(function() list[#list + 1] = "nested" end)
    end)
    loop:call_soon(function() list[#list + 1] = "second" end)
    settle()
    assert.same({ "first", "second", "nested" }, list)
  end)

  it("gives a handle that cancels it", function()
    local ran = false
    local handle = loop:call_soon(function() ran = true end)
    assert.is_false(handle:cancelled())
    handle:cancel()
    assert.is_true(handle:cancelled())
    handle:cancel()
    settle()
    assert.is_false(ran)
  end)

  it("may be cancelled by a callback of the same turn", function()
    local ran, handle = false, nil
    loop:call_soon(function() handle:cancel() end)
    handle = loop:call_soon(function() ran = true end)
    settle()
    assert.is_false(ran)
  end)

  it("keeps its order with tasks that become ready", function()
    local list = {}
    loop:call_soon(function() list[#list + 1] = "callback" end)
    loop:create_task(function() list[#list + 1] = "task" end)
    loop:call_soon(function() list[#list + 1] = "last" end)
    settle()
    assert.same({ "callback", "task", "last" }, list)
  end)
end)

describe("call_later and call_at", function()
  it("run callbacks in the order of their times", function()
    local _ <close> = testing.virtual_clock()
    local list = {}
    loop:call_later(3, function() list[#list + 1] = 3 end)
    loop:call_at(loop:time() + 2, function() list[#list + 1] = 2 end)
    loop:call_later(1, function() list[#list + 1] = 1 end)
    moonloop.sleep(4)
    assert.same({ 1, 2, 3 }, list)
  end)

  it("run callbacks at equal times in the order of the calls", function()
    local _ <close> = testing.virtual_clock()
    local list, when = {}, loop:time() + 5
    for i = 1, 20 do loop:call_at(when, function() list[#list + 1] = i end) end
    moonloop.sleep_until(when)
    moonloop.sleep(0)
    for i = 1, 20 do assert.equal(i, list[i]) end
  end)

  it("keep the order of equal times with sleepers", function()
    local _ <close> = testing.virtual_clock()
    local list, when = {}, loop:time() + 5
    loop:call_at(when, function() list[#list + 1] = "callback" end)
    tasks.start(function()
      moonloop.sleep_until(when)
      list[#list + 1] = "sleeper"
    end)
    loop:call_at(when, function() list[#list + 1] = "later" end)
    moonloop.sleep(6)
    assert.same({ "callback", "sleeper", "later" }, list)
  end)

  it("never fire early", function()
    local future = loop:create_future()
    local handle
    handle = loop:call_later(0.003, function() future:set_result(loop:time() >= handle:when()) end)
    assert.is_true(future:await())
  end)

  it("know when they are due", function()
    local when = loop:time() + 100
    local handle = loop:call_at(when, print)
    assert.equal(when, handle:when())
    handle:cancel()
    assert.is_true(handle:cancelled())
  end)

  it("run soon when their time has passed", function()
    local list = {}
    local future = loop:create_future()
    loop:call_later(-1, function() list[#list + 1] = "later" end)
    loop:call_at(0, function() future:set_result() end)
    future:await()
    moonloop.sleep(0)
    assert.same({ "later" }, list)
  end)

  it("pass their arguments", function()
    local future = loop:create_future()
    loop:call_later(0, future.set_result, future, "a", nil, "c")
    assert.same({ "a", nil, "c", n = 3 }, table.pack(future:await()))
  end)

  it("are not run after they were cancelled", function()
    local _ <close> = testing.virtual_clock()
    local ran = 0
    local handles = {}
    for i = 1, 10 do handles[i] = loop:call_later(i, function() ran = ran + 1 end) end
    for i = 1, 10, 2 do handles[i]:cancel() end
    moonloop.sleep(11)
    assert.equal(5, ran)
    assert.is_false(handles[2]:cancelled())
  end)

  it("may be cancelled by the timer that fires before them", function()
    local _ <close> = testing.virtual_clock()
    local ran, second, when = false, nil, loop:time() + 1
    loop:call_at(when, function() second:cancel() end)
    second = loop:call_at(when, function() ran = true end)
    moonloop.sleep(2)
    assert.is_false(ran)
  end)

  it("are held by the loop though nobody holds the handle", function()
    local _ <close> = testing.virtual_clock()
    local ran = false
    loop:call_later(1, function() ran = true end)
    collectgarbage()
    collectgarbage()
    moonloop.sleep(2)
    assert.is_true(ran)
  end)
end)

describe("A callback that raises", function()
  it("is reported to the exception handler, and the loop goes on", function()
    local reports <close> = tasks.reports()
    local problem, after = { "problem" }, false
    local handle = loop:call_soon(function() error(problem) end)
    loop:call_soon(function() after = true end)
    settle()
    assert.is_true(after)
    assert.equal(1, #reports)
    assert.equal(problem, reports[1].error)
    assert.equal(handle, reports[1].handle)
    assert.is_string(reports[1].message)
  end)

  it("is reported also when a timer called it", function()
    local reports <close> = tasks.reports()
    loop:call_later(0, error, "from a timer", 0)
    moonloop.sleep(0.001)
    settle()
    assert.equal("from a timer", reports[1].error)
  end)

  it("is reported also with nil", function()
    local reports <close> = tasks.reports()
    loop:call_soon(error, nil)
    settle()
    assert.equal(1, #reports)
    assert.is_nil(reports[1].error)
  end)
end)

describe("The exception handler", function()
  it("gets the loop and the context", function()
    local got
    loop:set_exception_handler(function(...) got = table.pack(...) end)
    local context = { message = "m", error = "e", extra = 1 }
    loop:call_exception_handler(context)
    loop:set_exception_handler(nil)
    assert.equal(loop, got[1])
    assert.equal("m", got[2].message)
    assert.equal(1, got[2].extra)
    assert.equal(2, got.n)
  end)

  it("is not asked again after it is taken away", function()
    local count = 0
    loop:set_exception_handler(function() count = count + 1 end)
    loop:call_exception_handler { message = "m" }
    loop:set_exception_handler(function() end)
    loop:call_exception_handler { message = "m" }
    loop:set_exception_handler(nil)
    assert.equal(1, count)
  end)
end)

describe("add_reader and add_writer", function()
  -- Two connected descriptors, forgotten and closed when the spec ends, however it ends.
  local function pair()
    local near, far = descriptors.pair()
    finally(function()
      for _, one in ipairs { near, far } do
        loop:remove_reader(one.fd)
        loop:remove_writer(one.fd)
        one:close()
      end
    end)
    return near, far
  end

  it("call back with their arguments when the descriptor is ready", function()
    local reader, writer = pair()
    local readable, writable = loop:create_future(), loop:create_future()
    loop:add_reader(reader.fd, function(...)
      loop:remove_reader(reader.fd)
      readable:set_result(reader:read(), ...)
    end, "a", nil, "c")
    loop:add_writer(writer.fd, function()
      loop:remove_writer(writer.fd)
      writer:write("hello")
      writable:set_result("wrote")
    end)
    assert.equal("wrote", writable:await())
    assert.same({ "hello", "a", nil, "c", n = 4 }, table.pack(readable:await()))
  end)

  it("call back again and again while the descriptor is ready", function()
    local reader, writer = pair()
    writer:write("x")
    local count, done = 0, loop:create_future()
    loop:add_reader(reader.fd, function()
      count = count + 1
      if count == 3 then done:set_result(reader:read()) end
    end)
    assert.equal("x", done:await())
    settle()
    assert.equal(3, count)
  end)

  it("replace the callback that was there", function()
    local reader, writer = pair()
    local old, new = 0, loop:create_future()
    loop:add_reader(reader.fd, function() old = old + 1 end)
    loop:add_reader(reader.fd, function()
      loop:remove_reader(reader.fd)
      new:set_result()
    end)
    writer:write("x")
    new:await()
    assert.equal(0, old)
  end)

  it("watch both directions of one descriptor", function()
    local near, far = pair()
    local list, done = {}, loop:create_future()
    local function note(what, remove)
      remove(loop, near.fd)
      list[#list + 1] = what
      if #list == 2 then done:set_result() end
    end
    far:write("x")
    loop:add_reader(near.fd, note, "read", loop.remove_reader)
    loop:add_writer(near.fd, note, "write", loop.remove_writer)
    done:await()
    table.sort(list)
    assert.same({ "read", "write" }, list)
  end)

  for _, name in ipairs { "fileno", "getfd" } do
    it("take an object with " .. name, function()
      local reader, writer = pair()
      local object = { [name] = function() return reader.fd end }
      local ready = loop:create_future()
      loop:add_reader(object, function()
        loop:remove_reader(object)
        ready:set_result(reader:read())
      end)
      writer:write("x")
      assert.equal("x", ready:await())
    end)
  end

  it("take the object of a library that knows nothing of us", function()
    local reader, writer = pair()
    local ready = loop:create_future()
    loop:add_reader(reader.socket, function()
      loop:remove_reader(reader.socket)
      ready:set_result(reader:read())
    end)
    writer:write("x")
    assert.equal("x", ready:await())
  end)

  it("are taken back once", function()
    local reader, writer = pair()
    loop:add_reader(reader.fd, print)
    loop:add_writer(writer.fd, print)
    assert.is_true(loop:remove_reader(reader.fd))
    assert.is_true(loop:remove_writer(writer.fd))
    assert.is_false(loop:remove_reader(reader.fd))
    assert.is_false(loop:remove_writer(writer.fd))
  end)

  it("report a callback that raises, and go on calling it", function()
    local reports <close> = tasks.reports()
    local reader, writer = pair()
    local count, done = 0, loop:create_future()
    writer:write("x")
    loop:add_reader(reader.fd, function()
      count = count + 1
      if count == 2 then done:set_result() end
      error("reader", 0)
    end)
    done:await()
    loop:remove_reader(reader.fd)
    settle()
    assert.equal("reader", reports[1].error)
  end)
end)
