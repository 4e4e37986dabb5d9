-- SPDX-License-Identifier: MIT
-- Ctrl-C under the command: what a SIGINT does to a script that waits, that
-- cleans up, that keeps the loop busy. The shell that sends it goes by what the
-- script prints, never by time.
local script = require "spec.support.script"

local HEAD = 'local moonloop = require "moonloop"\nio.stdout:setvbuf("line")\n'

-- Starts the script with SIGINT as a terminal's foreground job has it (a shell
-- without job control makes its background jobs ignore it).
local START = [[
  mkfifo fifo
  env --default-signal=INT "$MOONLOOP" script.lua >fifo 2>err & pid=$!
  exec 3<fifo
]]

local FINISH = [[
  cat <&3
  wait $pid
  status=$?
  cat err >&2
  exit $status
]]

-- Interrupts `source` once for each line it prints that is in `lines`.
local function interrupt(source, lines)
  local folder <close> = script.folder()
  folder:write("script.lua", HEAD .. source)
  local steps = { START }
  for _, line in ipairs(lines) do
    steps[#steps + 1] = ('while read -r line <&3 && [ "$line" != "%s" ]; do echo "$line"; done')
      :format(line)
    steps[#steps + 1] = "kill -INT $pid"
  end
  steps[#steps + 1] = FINISH
  return folder:shell(table.concat(steps, "\n"))
end

describe("Ctrl-C", function()
  it("cancels the main task, whose clean-up runs, and ends with 130", function()
    local status, out = interrupt([[
      local _ <close> = moonloop.defer(function() moonloop.sleep(0.001) print("cleaned") end)
      print("ready")
      moonloop.sleep(60)
      print("not reached")
    ]], { "ready" })
    assert.equal("cleaned\n", out)
    assert.equal(130, status)
  end)

  it("is a CancelledError at the main task's await", function()
    local status, out = interrupt([[
      print("ready")
      local ok, err = pcall(moonloop.sleep, 60)
      print(ok, moonloop.is_error(err, "CancelledError"))
      error(err)
    ]], { "ready" })
    assert.equal("false\ttrue\n", out)
    assert.equal(130, status)
  end)

  it("cancels the tasks left over as any end of the script does", function()
    local status, out = interrupt([[
      moonloop.create_task(function()
        local _ <close> = moonloop.defer(function() moonloop.sleep(0.001) print("child") end)
        moonloop.sleep_forever()
      end)
      moonloop.sleep(0)
      print("ready")
      moonloop.sleep(60)
    ]], { "ready" })
    assert.equal("child\n", out)
    assert.equal(130, status)
  end)

  it("reaches a script that waits for a connection", function()
    local status, out = interrupt([[
      local server <close> = moonloop.start_server(print, "127.0.0.1", 0)
      local _ <close> = setmetatable({}, {__close = function() print("cleaned") end})
      print("ready")
      server:serve_forever()
    ]], { "ready" })
    assert.equal("cleaned\n", out)
    assert.equal(130, status)
  end)

  it("reaches an await in an inner coroutine", function()
    local status, out = interrupt([[
      local _ <close> = setmetatable({}, {__close = function() print("cleaned") end})
      coroutine.wrap(function()
        print("ready")
        moonloop.sleep(60)
      end)()
    ]], { "ready" })
    assert.equal("cleaned\n", out)
    assert.equal(130, status)
  end)

  it("leaves the main task's own status when that takes the cancellation", function()
    local status, out = interrupt([[
      print("ready")
      pcall(moonloop.sleep, 60)
      moonloop.current_task():uncancel()
      moonloop.sleep(0)
      print("went on")
    ]], { "ready" })
    assert.equal("went on\n", out)
    assert.equal(0, status)
  end)

  it("a second time ends the process at once", function()
    local status, out = interrupt([[
      local _ <close> = setmetatable({}, {__close = function()
        moonloop.current_task():uncancel()
        print("cleaning")
        moonloop.sleep(60)
        print("not reached")
      end})
      print("ready")
      moonloop.sleep(60)
    ]], { "ready", "cleaning" })
    assert.equal("", out)
    assert.equal(130, status)
  end)

  it("a second time ends a process that Lua code keeps busy", function()
    local status, out = interrupt([[
      print("ready")
      pcall(moonloop.sleep, 60)
      print("busy")
      while true do end
    ]], { "ready", "busy" })
    assert.equal("", out)
    assert.equal(130, status)
  end)

  it("raises CancelledError in the task that keeps the loop busy", function()
    local status, out = interrupt([[
      print("ready")
      local ok, err = pcall(function() while true do end end)
      print(ok, moonloop.is_error(err, "CancelledError"))
      error(err)
    ]], { "ready" })
    assert.equal("false\ttrue\n", out)
    assert.equal(130, status)
  end)

  it("raises it in a child that keeps the loop busy, too", function()
    local status, out = interrupt([[
      local _ <close> = setmetatable({}, {__close = function() print("main cleaned") end})
      moonloop.create_task(function()
        local _ <close> = setmetatable({}, {__close = function() print("child cleaned") end})
        print("ready")
        while true do end
      end)
      moonloop.sleep(60)
    ]], { "ready" })
    assert.equal("child cleaned\nmain cleaned\n", out)
    assert.equal(130, status)
  end)

  it("raises it in a busy inner coroutine", function()
    local status, out = interrupt([[
      local _ <close> = setmetatable({}, {__close = function() print("cleaned") end})
      for _ in coroutine.wrap(function()
        print("ready")
        while true do end
      end) do end
    ]], { "ready" })
    assert.equal("cleaned\n", out)
    assert.equal(130, status)
  end)
end)
