-- SPDX-License-Identifier: MIT
-- What a run leaves open when it ends: streams and transports that have something to send,
-- servers, datagram transports, the standard streams; and what the callbacks of a nested run
-- have made.
local moonloop = require "moonloop"
local pipes = require "spec.support.pipes"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local script = require "spec.support.script"
local stock = require "spec.support.stock"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Runs `source` under stock Lua, where `reports` prints what goes to the exception handler.
-- @return what it printed
local function apart(source)
  local status, out, err = stock.lua([[
    local moonloop = require "moonloop"
    local keep = {}
    local function reports()
      moonloop.get_running_loop():set_exception_handler(function(_, context)
        print("report", (context.message:gsub("^.*: ", "")))
      end)
    end
    local function stuck()
      local one, other = moonloop.socketpair()
      keep[#keep + 1] = other
      while one:try_write(("x"):rep(50000)) do end
      return one, other
    end
  ]] .. source)
  assert.same({ 0, "" }, { status, err })
  return out
end

describe("The end of a run", function()
  it("tells protocols of it before it returns, though a stream's data cannot go out", function()
    local out = apart [[
      local function transport(name)
        local one, other = moonloop.socket.socketpair()
        keep[#keep + 1] = other
        moonloop.get_running_loop():connect_accepted_socket(function()
          return { connection_lost = function(_, err) print("lost", name, err) end }
        end, one)
      end
      moonloop.Runner{ shutdown_timeout = 0.1 }:run(function()
        reports()
        transport("one")
        local near, far = moonloop.socket.socketpair()
        keep.far = far:detach() -- belongs to no run: nobody closes it
        local stream = moonloop.connect(nil, nil, { sock = near })
        while stream:try_write(("x"):rep(50000)) do end
        transport("two")
      end)
      print("run over")
    ]]
    local lost = { out:match("lost\t(%w+)\tnil\n.*lost\t(%w+)\tnil\n.*run over\n$") }
    table.sort(lost)
    assert.same({ "one", "two" }, lost)
    assert.equal(1, select(2, out:gsub("report", "")))
  end)

  it("does not wait for what one end cannot send to the other when both are its own", function()
    -- It would wait for ever.
    local out = apart [[
      moonloop.Runner{ shutdown_timeout = 1e6 }:run(function()
        reports()
        stuck()
        select(2, stuck()):close()
      end)
      print("over")
    ]]
    assert.equal("over\n", out)
  end)

  it("is reached also where it was a nested run that left both ends", function()
    local out = apart [[
      moonloop.run(function()
        reports()
        moonloop.run(stuck)
        moonloop.create_task(moonloop.run, stuck):await()
        print("over")
      end)
    ]]
    assert.equal("over\n", out)
  end)

  it("comes for a nested run in bounded time, though its data cannot go out", function()
    local out = apart [[
      moonloop.run(function()
        reports()
        local near, far = moonloop.socket.socketpair()
        local clock <close> = moonloop.testing.virtual_clock()
        moonloop.run(function()
          local stream = moonloop.connect(nil, nil, { sock = near })
          while stream:try_write(("x"):rep(50000)) do end
        end)
        print("over")
      end)
    ]]
    assert.matches("^report\t[^\n]*\nover\n$", out)
  end)

  it("drops what a datagram transport has queued, and tells its protocol", function()
    local out = apart [[
      local function queue(name)
        local receiver = moonloop.socket.unix("dgram")
        receiver:bind({ path = "\0moonloop-run-ends-" .. name .. tostring(keep) })
        keep[#keep + 1] = receiver
        local transport = moonloop.get_running_loop():create_datagram_endpoint(function()
          return { connection_lost = function(_, err) print("lost", name, err) end }
        end, { remote_addr = receiver:getsockname() })
        for _ = 1, 2000 do transport:sendto("x") end
        assert(transport:get_write_buffer_size() > 0)
      end
      moonloop.Runner{ shutdown_timeout = 1e6 }:run(function()
        reports()
        queue("one")
        moonloop.run(queue, "nested")
        print("nested over")
      end)
      print("over")
    ]]
    assert.equal("lost\tnested\tnil\nnested over\nlost\tone\tnil\nover\n", out)
  end)

  it("gives up a datagram transport that closes but cannot send, once and for all", function()
    local out = apart [[
      local runner = moonloop.Runner{ shutdown_timeout = 0.1 }
      runner:run(function()
        local receiver = moonloop.socket.unix("dgram")
        receiver:bind({ path = "\0moonloop-run-ends" .. tostring(keep) })
        local address = receiver:getsockname()
        keep[1] = receiver:detach() -- no run closes it
        local transport = moonloop.get_running_loop():create_datagram_endpoint(function()
          return { connection_lost = function(_, err) print("lost", err) end }
        end, { remote_addr = address })
        for _ = 1, 2000 do transport:sendto("x") end
        transport:close()
      end)
      print("over")
      runner:run(moonloop.sleep, 0)
      runner:close()
    ]]
    assert.equal("lost\tnil\nover\n", out)
  end)

  it("flushes standard output however long its reader takes", function()
    local folder <close> = script.folder()
    folder:write("script.lua", ([[
      package.cpath = %q .. package.cpath
      local moonloop = require "moonloop"
      moonloop.Runner{ shutdown_timeout = 0 }:run(function()
        assert(moonloop.stdout:try_write(("x"):rep(1000000)))
        assert(not moonloop.stdout:try_write("no room"))
        local gate <close> = io.open("gate", "w")
      end)
    ]]):format(stock.build .. "/?.so;"))
    local _, out, err = folder:shell([[
      mkfifo gate
      env $STOCK lua5.4 script.lua | { read -r go <gate; sleep 0.2; wc -c; }
    ]], { env = { STOCK = stock.env() } })
    assert.same({ "1000000\n", "" }, { out, err })
  end)
end)

describe("A Server that is left open when its run ends", function()
  local MAKERS = {
    start_server = function() return moonloop.start_server(print, "127.0.0.1", 0) end,
    start_unix_server = function()
      return moonloop.start_unix_server(print, protocols.abstract_name())
    end,
    create_server = function()
      return loop:create_server(moonloop.Protocol, "127.0.0.1", 0)
    end,
    ["start_server with start_serving=false"] = function()
      return moonloop.start_server(print, "127.0.0.1", 0, { start_serving = false })
    end,
  }

  for what, make in pairs(MAKERS) do
    it("is closed: " .. what, function()
      local server = moonloop.run(make)
      assert.is_false(server:is_serving())
      assert.equal("Server: (closed)", tostring(server))
      assert.same({}, server:sockets())
      net.raises("InvalidStateError", server.port, server)
      net.raises("InvalidStateError", server.start_serving, server)
      moonloop.wait_for(function() server:wait_closed() end, 20)
    end)
  end

  it("takes away the file of its Unix socket", function()
    local place <close> = pipes.free_path()
    moonloop.run(function() moonloop.start_unix_server(print, place.path) end)
    assert.is_nil(io.open(place.path))
    moonloop.start_unix_server(print, place.path):close()
  end)

  it("lets one of an outer run go on", function()
    local server <close> = MAKERS.start_server()
    moonloop.run(wait_all_blocked)
    assert.is_true(server:is_serving())
  end)
end)

describe("What a callback makes in a nested run", function()
  -- Makes a task, a socket and a timer.
  local function make(made)
    made.task = moonloop.create_task(moonloop.sleep_forever)
    made.socket = moonloop.socket.udp()
    made.timer = loop:call_later(0, function() made.called = true end)
  end

  local function check(made)
    assert.is_true(made.task:cancelled())
    assert.matches("closed", tostring(made.socket), 1, true)
    moonloop.sleep(0.001)
    wait_all_blocked()
    assert.is_nil(made.called)
  end

  it("ends with it: call_soon", function()
    local made = {}
    moonloop.run(function()
      loop:call_soon(make, made)
      moonloop.sleep(0)
    end)
    check(made)
  end)

  it("ends with it: a protocol's data_received", function()
    local made, one, other = {}, moonloop.socket.socketpair()
    other:send("data")
    moonloop.run(function()
      local came = moonloop.Future()
      local protocol = protocols.recorder {
        data_received = function()
          make(made)
          came:set_result()
        end,
      }
      loop:connect_accepted_socket(function() return protocol end, one)
      came:await()
    end)
    check(made)
    other:close()
  end)

  it("ends with it: add_reader", function()
    local made, one, other = {}, moonloop.socket.socketpair()
    other:send("data")
    moonloop.run(function()
      local came = moonloop.Future()
      loop:add_reader(one:fileno(), function()
        loop:remove_reader(one:fileno())
        make(made)
        came:set_result()
      end)
      came:await()
    end)
    check(made)
    one:close()
    other:close()
  end)

  it("ends with it: a datagram protocol's datagram_received", function()
    local made, sender = {}, moonloop.socket.udp()
    moonloop.run(function()
      local came = moonloop.Future()
      local transport = loop:create_datagram_endpoint(function()
        return {
          datagram_received = function()
            make(made)
            came:set_result()
          end,
        }
      end, { local_addr = { host = "127.0.0.1" } })
      sender:sendto("data", transport:get_extra_info("sockname"))
      came:await()
    end)
    check(made)
    sender:close()
  end)

  it("ends with it: a task's done callback", function()
    local made = {}
    moonloop.run(function()
      local task = moonloop.create_task(function() end)
      task:add_done_callback(function() make(made) end)
      tasks.outcome(task)
      moonloop.sleep(0)
    end)
    check(made)
  end)
end)
