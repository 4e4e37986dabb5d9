-- SPDX-License-Identifier: MIT
-- What a TLS session holds, encrypted, because the descriptor has no room for it: it goes out
-- behind write_eof, before close and while sendfile waits for its source, counts as unsent, and is
-- forgotten when the peer goes.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local RECORD = ("x"):rep(16000)
local PATIENCE = 20 -- seconds after which what hangs fails

-- Calls `fn`, which must end. Awaits.
local function ends(fn, ...)
  local _ <close> = moonloop.timeout(PATIENCE)
  return fn(...)
end

-- The recorder of a TLS server over a Unix socket, that of its client, which does not read, and
-- what lets go of both when it is closed. Awaits.
local function transport_of(version)
  local client, server = link.contexts(version)
  local own, other = moonloop.socket.socketpair()
  local recorder, far = protocols.recorder(), protocols.recorder()
  moonloop.gather(function()
    loop:connect_accepted_socket(function() return recorder end, own, { tls = server })
  end, function()
    loop:create_connection(function() return far end, nil, nil,
      { sock = other, tls = client, server_hostname = "localhost" })
  end)
  wait_all_blocked()
  far.transport:pause_reading()
  return recorder, far, moonloop.defer(function()
    for _, one in ipairs { recorder, far } do
      one.transport:abort()
      one:lost()
      one:check()
    end
  end)
end

-- How many records a Unix socket takes before one has to be held. Awaits.
local function room(version)
  local recorder, _, closing = transport_of(version)
  local _ <close> = closing
  local count = 0
  repeat
    recorder.transport:write(RECORD)
    count = count + 1
  until recorder.transport:get_write_buffer_size() > 0
  return count - 1
end

local function gone_specs(version)
  local function over(what, make)
    it("can be closed " .. what, function()
      local pair <close> = make()
      while pair.client:try_write(RECORD) do end -- ever more than there is room for
      pair.peer:abort()
      net.raises("ConnectionError", ends, pair.client.write, pair.client, "more")
      pair.client:close()
      pcall(ends, pair.client.wait_closed, pair.client)
      assert.equal(-1, pair.client:fileno())
    end)
  end

  describe("A stream over " .. version .. " that holds something when its peer goes", function()
    over("over TCP", function() return link.pair(version) end)
    over("over a Unix socket", function() return link.socketpair { version = version } end)
  end)
end

-- Reads to the end. Awaits.
-- @return the number of bytes
local function read_to_end(stream)
  local size = 0
  for piece in stream:chunks() do size = size + #piece end
  return size
end

-- A pair whose client has written so many records, all of which were taken. Awaits.
local function filled(version, count)
  local pair = link.socketpair { version = version }
  for _ = 1, count do assert.is_true(pair.client:try_write(RECORD)) end
  return pair
end

local function end_specs(version)
  describe("A close_notify for which there is no room, over " .. version .. ",", function()
    it("goes out behind write_eof once the peer reads", function()
      local most = room(version)
      for count = most - 1, most + 1 do
        local pair <close> = filled(version, count)
        pair.client:write_eof()
        assert.equal(count * #RECORD, ends(read_to_end, pair.peer))
      end
    end)

    it("goes out before what write_eof ended is closed", function()
      local most = room(version)
      for count = most - 1, most + 1 do
        local pair <close> = filled(version, count)
        pair.client:write_eof()
        pair.client:close()
        wait_all_blocked()
        assert.equal(count * #RECORD, ends(read_to_end, pair.peer))
        ends(pair.client.wait_closed, pair.client)
        assert.equal(-1, pair.client:fileno())
      end
    end)

    it("goes out when it is close that has to say it", function()
      local most = room(version)
      for count = most - 1, most + 1 do
        local pair <close> = filled(version, count)
        pair.client:close()
        wait_all_blocked()
        assert.equal(count * #RECORD, ends(read_to_end, pair.peer))
        ends(pair.client.wait_closed, pair.client)
      end
    end)
  end)
end

local function file_specs(version)
  describe("sendfile over " .. version .. " from a FIFO", function()
    it("holds nothing back while it waits for more", function()
      local most = room(version) * #RECORD
      for size = most - 20000, most + 30000, 5000 do
        local pair <close> = link.socketpair { version = version }
        local fifo <close> = pipes.fifo()
        local source, sink = pipes.ends(fifo)
        local feeder <close> = moonloop.connect_write_pipe(sink)
        local sending = moonloop.create_task(pair.client.sendfile, pair.client, source)
        feeder:write(("y"):rep(size))
        for _ = 1, 20 do wait_all_blocked() end -- until the FIFO is empty, or the socket full
        assert.equal(size, #ends(pair.peer.readexactly, pair.peer, size))
        assert.is_false(sending:done())
        feeder:close()
        assert.equal(size, ends(sending.await, sending))
      end
    end)
  end)
end

local function size_specs(version)
  describe("A transport over " .. version .. " that holds something", function()
    it("counts it in its write buffer", function()
      local recorder, far, closing = transport_of(version)
      local _ <close> = closing
      local transport, count = recorder.transport, 0
      repeat
        assert.equal(0, transport:get_write_buffer_size())
        transport:write(RECORD)
        count = count + 1
      until transport:get_write_buffer_size() > 0
      assert.is_true(transport:get_write_buffer_size() > #RECORD)
      far.transport:resume_reading()
      far:received(count * #RECORD)
      wait_all_blocked()
      assert.equal(0, transport:get_write_buffer_size())
    end)

    it("pauses its protocol where that is more than its limit, until it is out", function()
      local count = room(version) + 1
      local recorder, far, closing = transport_of(version)
      local _ <close> = closing
      recorder.transport:set_write_buffer_limits(1000, 500)
      for _ = 1, count do
        assert.is_nil(recorder.paused)
        recorder.transport:write(RECORD)
      end
      assert.is_true(recorder.paused)
      wait_all_blocked()
      assert.is_true(recorder.paused)
      far.transport:resume_reading()
      far:received(count * #RECORD)
      recorder:wait(function() return not recorder.paused end)
      assert.equal("made pause resume", recorder:order())
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  gone_specs(version)
  end_specs(version)
  file_specs(version)
  size_specs(version)
end
