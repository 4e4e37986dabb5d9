-- SPDX-License-Identifier: MIT
-- TLS that comes to nothing: the connection is closed at once and by itself, whoever has cancelled
-- it and when, also in the very turn in which it was made, and inside a coroutine that nobody
-- closes. The collector is stopped meanwhile, so that it is not what closes anything.
local core = require "moonloop.core" -- closes a task by force
local eyeballs = require "moonloop.eyeballs" -- cancels inside it
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local sockets = require "spec.support.sockets"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local NAME = { server_hostname = "localhost" }

-- Has nothing collected until it is closed.
local function without_collector()
  tasks.collect()
  collectgarbage("stop")
  return moonloop.defer(function() collectgarbage("restart") end)
end

-- Runs `fn(scope)` in a scope that `fn`, or what it calls, cancels. Awaits.
local function in_cancelled(fn)
  local scope = moonloop.CancelScope()
  local ended = scope:run(function() fn(scope) end)
  assert.is_false(ended)
end

-- A connected Socket, and a to-be-closed value that lets go of the other end.
local function half()
  local own, other = moonloop.socket.socketpair()
  return own, moonloop.defer(function() other:close() end)
end

-- A recorder whose transport has ended, or which has never had one.
local function check_ended(recorder)
  if recorder.transport then
    assert.is_true(recorder.transport:is_closing())
    recorder:lost()
    assert.equal("made lost", recorder:order())
  else
    assert.equal("", recorder:order())
  end
end

describe("A connection that is made in a scope which is cancelled by then", function()
  it("is closed by connect, of whose hosts one has just answered", function()
    local server <close> = tls.echo()
    local client = link.contexts()
    local connect = eyeballs.connect
    local _ <close> = without_collector()
    local before = sockets.count_descriptors()
    local _ <close> = moonloop.defer(function() eyeballs.connect = connect end)
    in_cancelled(function(scope)
      eyeballs.connect = function(...)
        local _ <close> = moonloop.defer(function() scope:cancel() end)
        return connect(...)
      end
      tls.connect(server, client)
    end)
    for _ = 1, 3 do wait_all_blocked() end
    assert.equal(before, sockets.count_descriptors())
  end)

  it("is closed by create_connection, whose factory cancels", function()
    local _ <close> = without_collector()
    local own, closing = half()
    local _ <close> = closing
    local before = sockets.count_descriptors()
    local client = link.contexts()
    local recorder = protocols.recorder()
    in_cancelled(function(scope)
      loop:create_connection(function()
        scope:cancel()
        return recorder
      end, nil, nil, { sock = own, tls = client, server_hostname = "localhost" })
    end)
    wait_all_blocked()
    assert.equal(before - 1, sockets.count_descriptors())
    check_ended(recorder)
  end)

  it("is closed by connect_accepted_socket, whose factory cancels", function()
    local _ <close> = without_collector()
    local own, closing = half()
    local _ <close> = closing
    local before = sockets.count_descriptors()
    local _, server = link.contexts()
    local recorder = protocols.recorder()
    in_cancelled(function(scope)
      loop:connect_accepted_socket(function()
        scope:cancel()
        return recorder
      end, own, { tls = server })
    end)
    wait_all_blocked()
    assert.equal(before - 1, sockets.count_descriptors())
    check_ended(recorder)
  end)

  it("is closed in whatever turn of the loop that is", function()
    local _ <close> = tls.reports()
    local server <close> = tls.echo()
    local client = link.contexts()
    local turns, connected = 0, false
    local _ <close> = without_collector()
    wait_all_blocked()
    local before = sockets.count_descriptors()
    while not connected do
      local task = moonloop.create_task(tls.connect, server, client)
      for _ = 1, turns do moonloop.sleep(0) end
      connected = not tasks.cancel(task)
      if connected then task:result():abort() end
      for _ = 1, 3 do wait_all_blocked() end
      assert.equal(before, sockets.count_descriptors())
      turns = turns + 1 + turns // 8
    end
    assert.is_true(turns > 3)
  end)
end)

-- How a handshake that waits for its peer is made to come to nothing. Each is given the task and
-- the peer.
local ENDS = {
  ["is cancelled"] = function(task) tasks.cancel(task) end,
  ["is closed by force"] = function(task) core.close_task(task) end,
  ["fails"] = function(task, peer)
    peer:write("this is no TLS, whatever it is")
    pcall(moonloop.await, task)
  end,
}

for what, finish in pairs(ENDS) do
  describe("A start_tls in a coroutine that nobody closes and that " .. what, function()
    it("closes its stream", function()
      local _ <close> = without_collector()
      local client = link.contexts()
      local stream, peer = moonloop.socketpair()
      local co = coroutine.create(function() stream:start_tls(client, NAME) end)
      local task = tasks.start(function() coroutine.resume(co) end)
      assert.is_false(task:done())
      finish(task, peer)
      wait_all_blocked()
      assert.equal(-1, stream:fileno())
      net.raises("InvalidStateError", stream.read, stream, 1)
      peer:abort()
      coroutine.close(co)
    end)

    it("closes its transport", function()
      local _ <close> = without_collector()
      local client = link.contexts()
      local recorder = protocols.recorder()
      local peer, server = protocols.beside_stream(recorder)
      local co = coroutine.create(function()
        loop:start_tls(recorder.transport, recorder, client, NAME)
      end)
      local task = tasks.start(function() coroutine.resume(co) end)
      assert.is_false(task:done())
      finish(task, peer)
      recorder:lost()
      assert.equal("made lost", recorder:order())
      peer:abort()
      coroutine.close(co)
      server:close()
      server:wait_closed()
    end)
  end)
end
