-- SPDX-License-Identifier: MIT
-- A peer over TLS that does not read: writes wait and are served in order, a cancelled one has
-- sent nothing, close still brings out everything and close_notify, for which there is a time
-- limit once the data are out.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

-- A link whose client has written as much as is taken, `count` bytes. Awaits.
local function clogged(version)
  local pair = link.socketpair { version = version }
  pair.peer:write("x") -- by which the client gets also what TLS 1.3 sends behind the handshake
  pair.client:readexactly(1)
  pair.count = net.fill(pair.client)
  return pair
end

local function waiting_specs(version)
  describe("A peer that does not read, over " .. version, function()
    it("lets write, writelines and drain wait, and try_write say no", function()
      local pair <close> = clogged(version)
      local waiting = {
        tasks.start(pair.client.write, pair.client, "a"),
        tasks.start(pair.client.writelines, pair.client, { "b", "c" }),
        tasks.start(pair.client.drain, pair.client),
      }
      for _, task in ipairs(waiting) do assert.is_false(task:done()) end
      assert.is_false(pair.client:try_write("no"))
      net.drain_filled(pair.peer, pair.count)
      assert.equal("abc", pair.peer:readexactly(3))
      for _, task in ipairs(waiting) do task:await() end
      assert.is_true(pair.client:try_write("yes"))
      assert.equal("yes", pair.peer:readexactly(3))
    end)

    it("has nothing of a write that was cancelled", function()
      local pair <close> = clogged(version)
      local first = tasks.start(pair.client.write, pair.client, "first")
      local lost = tasks.start(pair.client.write, pair.client, "lost")
      local last = tasks.start(pair.client.write, pair.client, "last")
      assert.is_true(tasks.cancel(lost))
      net.drain_filled(pair.peer, pair.count)
      assert.equal("firstlast", pair.peer:readexactly(9))
      first:await()
      last:await()
    end)

    it("lets sendfile wait, and have its turn", function()
      local file <close> = pipes.file(net.text(100000))
      local pair <close> = clogged(version)
      local sending = tasks.start(pair.client.sendfile, pair.client, file.path)
      local writer = tasks.start(pair.client.write, pair.client, "after")
      assert.is_false(sending:done())
      net.drain_filled(pair.peer, pair.count)
      assert.is_true(pair.peer:readexactly(100000) == net.text(100000))
      assert.equal("after", pair.peer:readexactly(5))
      assert.equal(100000, sending:await())
      writer:await()
    end)

    it("may write itself meanwhile", function()
      local pair <close> = clogged(version)
      pair.peer:write("the other way is free")
      assert.equal("the other way is free", pair.client:readexactly(21))
      net.drain_filled(pair.peer, pair.count)
    end)

    it("does not keep both ends waiting when both write first", function()
      local pair <close> = link.socketpair { version = version }
      local here, there = net.fill(pair.client), net.fill(pair.peer)
      local reader = moonloop.create_task(net.drain_filled, pair.client, there)
      net.drain_filled(pair.peer, here)
      reader:await()
    end)
  end)
end

local function closing_specs(version)
  describe("Closing before a peer that does not read, over " .. version, function()
    it("brings out everything and the end once it reads", function()
      for _, ending in ipairs { "close", "write_eof" } do
        local pair <close> = clogged(version)
        pair.client[ending](pair.client)
        wait_all_blocked()
        net.drain_filled(pair.peer, pair.count)
        assert.equal("", pair.peer:read())
      end
    end)

    it("brings out everything of a client that never reads what TLS 1.3 sends it", function()
      local text = net.text(300000)
      local pair <close> = link.pair(version)
      wait_all_blocked()
      pair.client:write(text)
      pair.client:close()
      wait_all_blocked()
      assert.is_true(pair.peer:read() == text)
      pair.client:wait_closed()
    end)

    it("lets wait_closed wait; cancelled, that goes on all the same", function()
      local pair <close> = clogged(version)
      pair.client:close()
      local waiter = tasks.start(pair.client.wait_closed, pair.client)
      local other = tasks.start(pair.client.wait_closed, pair.client)
      assert.is_false(waiter:done())
      assert.is_true(tasks.cancel(other))
      net.drain_filled(pair.peer, pair.count)
      assert.equal("", pair.peer:read())
      waiter:await()
    end)

    it("at the end of a block waits, and a cancellation aborts it", function()
      local pair <close> = clogged(version)
      local task = tasks.start(function() local _ <close> = pair.client end)
      assert.is_false(task:done())
      assert.is_true(tasks.cancel(task))
      assert.equal(-1, pair.client:fileno())
      local err = net.raises("TLSError", function()
        while true do assert(pair.peer:read(65536)) end
      end)
      assert.equal("EOF", err.code)
    end)

    it("ends at once with abort, in the middle of it, too", function()
      local pair <close> = clogged(version)
      local writer = tasks.start(pair.client.write, pair.client, "more")
      pair.client:close()
      net.raises("InvalidStateError", writer.await, writer)
      pair.client:abort()
      pair.client:wait_closed()
      assert.equal(-1, pair.client:fileno())
    end)

    it("fails when the peer goes instead", function()
      local pair <close> = link.pair(version)
      net.fill(pair.client)
      pair.client:close()
      local waiter = tasks.start(pair.client.wait_closed, pair.client)
      pair.peer:abort() -- with data unread: a reset
      net.raises("ConnectionError", waiter.await, waiter)
    end)
  end)
end

local Way = {}
Way.__index = Way
Way.__close = function(self)
  self.recorder.transport:abort()
  self.recorder:lost()
  self.near:close()
  self.far:abort()
  self.peer:abort()
end

-- Passes on what comes, either way, until the Socket has ended. Awaits.
local function carry(near, far)
  local back = moonloop.create_task(function()
    for piece in far:chunks() do near:sendall(piece) end
  end)
  local _ <close> = moonloop.defer(function() back:cancel() end)
  for piece in function() return near:recv() end do far:write(piece) end
  far:write_eof()
end

-- A transport as a TLS server, whose system buffer is small and from which nothing is taken any
-- more: `near`, a Socket, is its other end. Awaits.
local function narrow(version, seconds)
  local client, server = link.contexts(version)
  local own, near = moonloop.socket.socketpair()
  own:setsockopt("SO_SNDBUF", 1)
  local far, peer = moonloop.socketpair()
  local carrier = moonloop.create_task(carry, near, far)
  local there = moonloop.create_task(peer.start_tls, peer, client,
    { server_hostname = "localhost" })
  local recorder = protocols.recorder()
  loop:connect_accepted_socket(function() return recorder end, own,
    { tls = server, tls_shutdown_timeout = seconds })
  there:await()
  wait_all_blocked()
  tasks.cancel(carrier)
  return setmetatable({ recorder = recorder, near = near, far = far, peer = peer }, Way)
end

-- One whose data are out, but which has found no room for close_notify, and waits. Awaits.
local function stuck(version, seconds)
  for size = 500, 9000, 500 do
    local way = narrow(version, seconds)
    local transport = way.recorder.transport
    transport:write(("x"):rep(size))
    if transport:get_write_buffer_size() == 0 then
      transport:close()
      for _ = 1, 3 do wait_all_blocked() end
      if not way.recorder.is_lost then return way end
    end
    Way.__close(way)
  end
  error("close_notify always finds room, or the data never do")
end

local function limit_specs(version)
  describe("tls_shutdown_timeout over " .. version, function()
    it("bounds how long close_notify may take", function()
      local way <close> = stuck(version, 30)
      local _ <close> = moonloop.testing.virtual_clock { threshold = 0.005 }
      local before = moonloop.time()
      local err = way.recorder:lost()
      assert.is_true(moonloop.time() - before > 29)
      assert.is_true(moonloop.is_error(err, "TimeoutError"))
    end)

    it("is not reached where the peer reads in time", function()
      local way <close> = stuck(version, 30)
      local carrier = moonloop.create_task(carry, way.near, way.far)
      assert.matches("^x+$", way.peer:read())
      assert.is_nil(way.recorder:lost())
      carrier:await()
    end)

    it("does not bound the data, which may take as long as they do", function()
      local pair <close> = link.pair(version)
      local count = net.fill(pair.client)
      pair.client:close()
      do
        local _ <close> = moonloop.testing.virtual_clock { threshold = 0.005 }
        moonloop.sleep(100) -- more than the 30 s there are unless said otherwise
      end
      net.drain_filled(pair.peer, count)
      assert.equal("", pair.peer:read())
      pair.client:wait_closed()
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  waiting_specs(version)
  closing_specs(version)
  limit_specs(version)
end
