-- SPDX-License-Identifier: MIT
-- moonloop.testing inside a task: wait_all_blocked, virtual_clock, leaks. What
-- it does for busted: testing_busted_spec.lua.
local descriptors = require "spec.support.descriptors"
local moonloop = require "moonloop"
local script = require "spec.support.script"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"
local testing = moonloop.testing

local create_task, await = moonloop.create_task, moonloop.await
local loop = moonloop.get_running_loop()

-- Two connected descriptors, closed when the spec ends.
local function pair()
  local near, far = descriptors.pair()
  finally(function()
    near:close()
    far:close()
  end)
  return near, far
end

describe("wait_all_blocked", function()
  it("returns when nobody else is there", function()
    testing.wait_all_blocked()
    assert.is_true(loop:is_running())
  end)

  it("waits until the others have ended or wait", function()
    local list = {}
    local sleeper = create_task(function()
      for i = 1, 5 do
        moonloop.sleep(0)
        list[#list + 1] = i
      end
      moonloop.sleep_forever()
    end)
    create_task(function()
      moonloop.sleep(0)
      create_task(function() list[#list + 1] = "child" end)
    end)
    testing.wait_all_blocked()
    assert.equal(6, #list)
    tasks.cancel(sleeper)
  end)

  it("counts callbacks that are ready as something that runs", function()
    local count = 0
    local function again()
      count = count + 1
      if count < 10 then loop:call_soon(again) end
    end
    loop:call_soon(again)
    testing.wait_all_blocked()
    assert.equal(10, count)
  end)

  it("does not wait for tasks that sleep, nor for timers", function()
    local sleeper = create_task(moonloop.sleep, 3600)
    local handle = loop:call_later(3600, print)
    testing.wait_all_blocked()
    assert.is_false(sleeper:done())
    handle:cancel()
    tasks.cancel(sleeper)
  end)

  it("comes before the virtual clock jumps", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local sleeper = create_task(function()
      while true do moonloop.sleep(10) end
    end)
    local before = moonloop.time()
    testing.wait_all_blocked()
    assert.equal(before, moonloop.time())
    tasks.cancel(sleeper)
  end)

  it("is cancelled while it waits", function()
    local stop = false
    local busy = create_task(function()
      while not stop do moonloop.sleep(0) end
    end)
    local waiter = create_task(testing.wait_all_blocked)
    moonloop.sleep(0)
    moonloop.sleep(0)
    assert.is_true(tasks.cancel(waiter))
    stop = true
    await(busy)
  end)

  it("is closed while it waits", function()
    local status, out = stock.closed([[
      moonloop.create_task(function()
        while true do
          moonloop.current_task():uncancel()
          pcall(moonloop.sleep, 0)
        end
      end)
      testing.wait_all_blocked()
    ]])
    assert.equal(0, status)
    assert.equal(stock.closed_output, out)
  end)

  it("may be used by two tasks at once", function()
    local a, b = create_task(testing.wait_all_blocked), create_task(testing.wait_all_blocked)
    await(a)
    await(b)
    assert.is_true(a:done() and b:done())
  end)
end)

describe("virtual_clock", function()
  it("makes a day pass at once", function()
    local _ <close> = testing.virtual_clock()
    local before = moonloop.time()
    moonloop.sleep(86400)
    local passed = moonloop.time() - before
    -- Specs before this one may have made the clock so late that seconds have no
    -- exact fractions any more.
    assert.is_true(passed > 86399.9 and passed < 86460)
    assert.is_true(loop:time() >= moonloop.time() - 60)
  end)

  it("jumps to the next timer, never past one", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list, start = {}, moonloop.time()
    local function note(what) list[#list + 1] = { what, (moonloop.time() - start) // 1 } end
    for _, seconds in ipairs { 300, 100, 200 } do
      create_task(function()
        moonloop.sleep(seconds)
        note("sleep")
      end)
      loop:call_later(seconds + 50, note, "timer")
    end
    moonloop.sleep(400)
    assert.same({
      { "sleep", 100 }, { "timer", 150 }, { "sleep", 200 }, { "timer", 250 },
      { "sleep", 300 }, { "timer", 350 },
    }, list)
  end)

  it("lets tasks that are ready go first", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local count = 0
    local busy = create_task(function()
      local start = moonloop.time()
      for _ = 1, 100 do
        moonloop.sleep(0)
        count = count + 1
      end
      return moonloop.time() - start < 3600
    end)
    moonloop.sleep(3600)
    assert.equal(100, count)
    assert.is_true(await(busy))
  end)

  it("lets a descriptor that is ready go first", function()
    local _ <close> = testing.virtual_clock()
    local reader, writer = pair()
    local list = {}
    loop:add_reader(reader.fd, function()
      list[#list + 1] = "ready"
      if #list == 3 then loop:remove_reader(reader.fd) end
    end)
    writer:write("x")
    moonloop.sleep(3600)
    list[#list + 1] = "slept"
    assert.same({ "ready", "ready", "ready", "slept" }, list)
  end)

  it("does not jump to a time that never comes", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      local loop, before, ended = moonloop.get_running_loop(), moonloop.time(), moonloop.Future()
      do
        local _ <close> = moonloop.testing.virtual_clock { threshold = 0 }
        local sleeper = moonloop.create_task(moonloop.sleep, math.huge)
        loop:add_reader(0, function()
          loop:remove_reader(0)
          ended:set_result()
        end)
        ended:await()
        print(sleeper:done(), sleeper:cancel())
      end
      print(moonloop.time() < before + 1000, moonloop.sleep(0.001, "slept"))
    ]])
    -- The end of its input is all that can come.
    local status, out = folder:shell('sleep 0.1 | "$MOONLOOP" script.lua')
    assert.equal("false\ttrue\ntrue\tslept\n", out)
    assert.equal(0, status)
  end)

  it("ends when its <close> value is closed", function()
    local clock = testing.virtual_clock { threshold = 0 }
    moonloop.sleep(1000)
    do local _ <close> = clock end
    local sleeper = tasks.start(moonloop.sleep, 3600)
    moonloop.sleep(0.005)
    assert.is_false(sleeper:done())
    tasks.cancel(sleeper)
  end)

  it("ends with its run", function()
    local _, out = stock.lua([[
      local moonloop = require "moonloop"
      moonloop.run(function()
        moonloop.testing.virtual_clock { threshold = 0 }
        moonloop.sleep(3600)
      end)
      moonloop.run(function()
        local task = moonloop.create_task(moonloop.sleep, 3600)
        moonloop.sleep(0.005)
        print(task:done())
      end)
    ]])
    assert.equal("false\n", out)
  end)

  it("keeps the clock from going back when it ends", function()
    local before, after
    do
      local _ <close> = testing.virtual_clock { threshold = 0 }
      moonloop.sleep(1000)
      before = moonloop.time()
    end
    moonloop.sleep(0)
    after = moonloop.time()
    assert.is_true(after >= before)
  end)

  it("wakes sleepers of equal times in order", function()
    local _ <close> = testing.virtual_clock { threshold = 0 }
    local list, when = {}, moonloop.time() + 3600
    for i = 1, 10 do
      create_task(function()
        moonloop.sleep_until(when)
        list[#list + 1] = i
      end)
    end
    moonloop.sleep(3601)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, list)
  end)

  it("cannot be called outside a task", function()
    local _, out = stock.lua([[
      print((pcall(require "moonloop".testing.virtual_clock)))
    ]])
    assert.equal("false\n", out)
  end)
end)

describe("leaks", function()
  -- One text for each thing that is open now and was not in `before`.
  local function texts()
    local list = {}
    for i, leak in ipairs(testing.leaks()) do
      local words = { tostring(leak) }
      if type(leak) == "table" then
        for _, value in pairs(leak) do words[#words + 1] = tostring(value) end
      end
      list[i] = table.concat(words, " ")
    end
    return list
  end

  local function opened_by(fn, close)
    local before = #texts()
    local thing = fn()
    testing.wait_all_blocked()
    local during = texts()
    close(thing)
    testing.wait_all_blocked()
    assert.equal(before, #texts())
    assert.equal(before + 1, #during)
    return table.concat(during, "\n")
  end

  it("lists a task with its name until it ends", function()
    local text = opened_by(function()
      return create_task({ name = "leaking-task" }, moonloop.sleep_forever)
    end, tasks.cancel)
    assert.matches("leaking-task", text, 1, true)
  end)

  it("lists a timer, and where it was made, until it is cancelled", function()
    local text = opened_by(function()
      return loop:call_later(3600, print)
    end, function(handle) handle:cancel() end)
    assert.matches("testing_spec.lua", text, 1, true)
  end)

  it("lists a descriptor that is watched until it no longer is", function()
    local reader = pair()
    opened_by(function()
      loop:add_reader(reader.fd, print)
    end, function()
      loop:remove_reader(reader.fd)
    end)
  end)

  it("lists a server until it is closed", function()
    opened_by(function()
      return moonloop.start_server(function() end, "127.0.0.1", 0)
    end, function(server)
      server:close()
      server:wait_closed()
    end)
  end)

  it("lists neither futures nor what has ended", function()
    local before = #texts()
    local future = moonloop.Future()
    await(create_task(function() end))
    moonloop.sleep(0.001)
    assert.equal(before, #texts())
    future:cancel()
  end)
end)
