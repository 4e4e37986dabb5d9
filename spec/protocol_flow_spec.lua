-- SPDX-License-Identifier: MIT
-- Flow control between a protocol and its transport: pause_writing and resume_writing at the
-- water marks, pause_reading and resume_reading, and transfers of many MiB with both.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local KIB, MIB = 1024, 1024 * 1024

local function stay() return true end -- an eof_received that keeps the write side open

-- A pair whose peer does not read, so that what the client writes stays unsent.
local function clogged_pair(opts)
  local pair = protocols.pair(opts)
  pair.peer.transport:pause_reading()
  return pair
end

-- Fills the buffers of the system until the transport has something unsent, with marks so high
-- that nothing is paused, and gives the number of bytes which that took. Awaits.
local function clog(transport)
  local low, high = transport:get_write_buffer_limits()
  transport:set_write_buffer_limits(1024 * MIB)
  local count = 0
  repeat
    transport:write(("x"):rep(64 * KIB))
    count = count + 64 * KIB
    if transport:get_write_buffer_size() > 0 then
      moonloop.sleep(0.02) -- the system goes on moving from buffer to buffer for a while
      wait_all_blocked()
    end
  until transport:get_write_buffer_size() > 0
  transport:set_write_buffer_limits(high, low)
  return count
end

describe("pause_writing", function()
  it("is called once, within the write that goes over the high-water mark", function()
    local pair <close> = clogged_pair()
    local transport = pair.client.transport
    local calls = 0
    while not pair.client.paused and calls < 10000 do
      transport:write(("x"):rep(32 * KIB))
      calls = calls + 1
      assert.equal(pair.client.paused or false, transport:get_write_buffer_size() > 64 * KIB)
    end
    assert.is_true(pair.client.paused)
    transport:write("and")
    transport:writelines { "some", "more" }
    assert.equal("made pause", pair.client:order())
  end)

  it("ends a loop that writes until it is paused", function()
    local pair <close> = clogged_pair()
    local count = 0
    while not pair.client.paused do
      pair.client.transport:write(("x"):rep(8 * KIB))
      count = count + 1
      assert(count < 100000, "pause_writing is never called")
    end
    assert.equal("made pause", pair.client:order())
  end)

  it("is called by writelines, too", function()
    local pair <close> = clogged_pair()
    clog(pair.client.transport)
    local list = {}
    for i = 1, 100 do list[i] = ("line"):rep(1000) end
    pair.client.transport:writelines(list)
    assert.is_true(pair.client.paused)
  end)

  it("is not called while the system takes all", function()
    local pair <close> = protocols.pair()
    local text = net.text(16 * KIB)
    for i = 1, 50 do
      pair.client.transport:write(text)
      pair.peer:received(i * #text)
    end
    assert.equal("made", pair.client:order())
  end)

  it("is called without a write where the mark is lowered below what is unsent", function()
    local pair <close> = clogged_pair()
    local transport = pair.client.transport
    transport:set_write_buffer_limits(64 * MIB)
    clog(transport)
    transport:write(("x"):rep(128 * KIB))
    assert.equal("made", pair.client:order())
    transport:set_write_buffer_limits(64 * KIB)
    wait_all_blocked()
    assert.equal("made pause", pair.client:order())
  end)
end)

describe("resume_writing", function()
  it("is called once the buffer has fallen to the low-water mark", function()
    local size
    local pair <close> = clogged_pair { kind = "socketpair", client = {
      resume_writing = function(self) size = self.transport:get_write_buffer_size() end,
    } }
    pair.client.transport:set_write_buffer_limits(4 * MIB, 2 * MIB) -- more than is sent at once
    pair.client.transport:write(("x"):rep(8 * MIB))
    pair.peer.transport:resume_reading()
    pair.client:wait(function(self) return self.paused == false end)
    assert.is_true(size <= 2 * MIB and size > 0)
    pair.peer:received(8 * MIB)
    assert.equal("made pause resume", pair.client:order())
  end)

  it("is not called while the peer does not read", function()
    local pair <close> = clogged_pair()
    protocols.fill(pair.client)
    for _ = 1, 5 do wait_all_blocked() end
    assert.is_true(pair.client.paused)
  end)

  it("alternates with pause_writing, as often as it takes", function()
    local rounds = 0
    local pair <close> = clogged_pair { peer = { eof_received = stay }, client = {
      resume_writing = function(self)
        rounds = rounds + 1
        if rounds == 3 then return self.transport:write_eof() end
        repeat self.transport:write(("y"):rep(64 * KIB)) until self.paused
      end,
    } }
    protocols.fill(pair.client)
    pair.peer.transport:resume_reading()
    pair.peer:finished()
    assert.equal(3, rounds)
    assert.equal("made pause resume pause resume pause resume", pair.client:order())
  end)

  it("comes after the mark was raised while it was paused, once there is room", function()
    local pair <close> = clogged_pair()
    protocols.fill(pair.client)
    pair.client.transport:set_write_buffer_limits(512 * MIB)
    wait_all_blocked()
    pair.peer.transport:resume_reading()
    pair.client:wait(function(self) return self.paused == false end)
    assert.equal("made pause resume", pair.client:order())
  end)

  it("is not called when nothing was paused", function()
    local pair <close> = clogged_pair()
    pair.client.transport:set_write_buffer_limits(64 * MIB)
    local count = clog(pair.client.transport)
    pair.peer.transport:resume_reading()
    pair.peer:received(count)
    wait_all_blocked()
    assert.equal("made", pair.client:order())
  end)
end)

describe("The water marks", function()
  local function limits(transport)
    return { transport:get_write_buffer_limits() } -- low, high
  end

  it("are 16 and 64 KiB unless said otherwise", function()
    local pair <close> = protocols.pair()
    assert.same({ 16 * KIB, 64 * KIB }, limits(pair.client.transport))
    assert.same({ 16 * KIB, 64 * KIB }, limits(pair.peer.transport))
  end)

  it("follow from one another where one alone is given", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    transport:set_write_buffer_limits(1000)
    assert.same({ 250, 1000 }, limits(transport))
    transport:set_write_buffer_limits(nil, 100)
    assert.same({ 100, 400 }, limits(transport))
    transport:set_write_buffer_limits(10, 10)
    assert.same({ 10, 10 }, limits(transport))
    transport:set_write_buffer_limits(0)
    assert.same({ 0, 0 }, limits(transport))
    transport:set_write_buffer_limits()
    assert.same({ 16 * KIB, 64 * KIB }, limits(transport))
  end)

  it("of 0 pause as soon as anything is unsent, until nothing is", function()
    local size
    local pair <close> = clogged_pair { client = {
      resume_writing = function(self) size = self.transport:get_write_buffer_size() end,
    } }
    local transport = pair.client.transport
    transport:set_write_buffer_limits(0)
    local count = 0
    while not pair.client.paused do
      assert.equal(0, transport:get_write_buffer_size())
      transport:write(("x"):rep(16 * KIB))
      count = count + 1
      assert(count < 100000, "pause_writing is never called")
    end
    assert.is_true(transport:get_write_buffer_size() > 0)
    pair.peer.transport:resume_reading()
    pair.client:wait(function(self) return self.paused == false end)
    assert.equal(0, size)
  end)

  it("are refused where they make no sense, and stay as they were", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    local set = transport.set_write_buffer_limits
    net.refuses("bad argument", set, transport, 10, 11)
    net.refuses("bad argument", set, transport, -1)
    net.refuses("bad argument", set, transport, 10, -1)
    net.refuses("bad argument", set, transport, nil, -1)
    net.refuses("bad argument", set, transport, "much")
    net.refuses("bad argument", set, transport, 10, {})
    net.refuses("bad argument", set, transport, 1.5)
    assert.same({ 16 * KIB, 64 * KIB }, limits(transport))
  end)
end)

describe("get_write_buffer_size", function()
  it("is 0 when all is sent", function()
    local pair <close> = protocols.pair()
    assert.equal(0, pair.client.transport:get_write_buffer_size())
    pair.client.transport:write("some bytes")
    pair.peer:received(10)
    assert.equal(0, pair.client.transport:get_write_buffer_size())
  end)

  it("grows by all that is written while the system takes nothing", function()
    local pair <close> = clogged_pair()
    local transport = pair.client.transport
    clog(transport)
    local before = transport:get_write_buffer_size()
    transport:write("1234567")
    transport:writelines { "89", "0" }
    assert.equal(before + 10, transport:get_write_buffer_size())
    pair.peer.transport:resume_reading()
    pair.client:wait(function(self) return self.paused ~= true end)
    transport:close()
    assert.equal("1234567890", pair.peer:finished():sub(-10))
    pair.client:lost()
    assert.equal(0, transport:get_write_buffer_size())
  end)
end)

describe("pause_reading", function()
  it("keeps data back until resume_reading", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    assert.is_true(transport:is_reading())
    transport:pause_reading()
    assert.is_false(transport:is_reading())
    pair.peer.transport:write("patience")
    wait_all_blocked()
    assert.equal("", pair.client:text())
    transport:resume_reading()
    assert.is_true(transport:is_reading())
    assert.equal("patience", pair.client:received(8))
  end)

  it("may be called twice, and so may resume_reading", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    transport:resume_reading()
    transport:pause_reading()
    transport:pause_reading()
    transport:resume_reading()
    transport:resume_reading()
    pair.peer.transport:write("once is enough")
    assert.equal("once is enough", pair.client:received(14))
    transport:close()
    transport:pause_reading()
    transport:resume_reading()
    assert.is_false(transport:is_reading())
  end)

  it("and resume_reading many times lose and double nothing", function()
    local pair <close> = protocols.pair()
    local text = net.text(256 * KIB)
    pair.peer.transport:write(text)
    for _ = 1, 200 do
      pair.client.transport:pause_reading()
      moonloop.sleep(0)
      pair.client.transport:resume_reading()
      moonloop.sleep(0)
    end
    assert.is_true(pair.client:received(#text) == text)
  end)

  it("makes the peer pause in the end", function()
    local pair <close> = protocols.pair()
    pair.client.transport:pause_reading()
    local count = protocols.fill(pair.peer)
    pair.client.transport:resume_reading()
    assert.is_true(protocols.is_filling(pair.client:received(count)))
    pair.peer:wait(function(self) return self.paused == false end)
  end)
end)

-- A source of `size` bytes, all of them pieces of `text` in turn, which stops while it is paused
-- and half-closes in the end; it notes the most that was unsent.
local function source(text, size)
  local sent, most = 0, 0
  local function go_on(self)
    while not self.paused and sent < size do
      local from = sent % #text + 1
      local piece = text:sub(from, math.min(from + 48 * KIB, #text, from + size - sent - 1))
      self.transport:write(piece)
      sent = sent + #piece
      most = math.max(most, self.transport:get_write_buffer_size())
    end
    if sent == size and not self.said_eof then
      self.said_eof = true
      self.transport:write_eof()
    end
  end
  return go_on, function() return most end
end

-- Sends `size` bytes both ways at the same time, and checks every one. Awaits.
local function transfer(size)
  local text = net.text(MIB + 7)
  local twice = text .. text
  local wrong, open = 0, 2
  local done = moonloop.Future()
  local function extra()
    local go_on, most = source(text, size)
    return {
      connection_made = go_on,
      resume_writing = go_on,
      data_received = function(self, data)
        local from = (self.size - #data) % #text + 1
        local expected = twice:sub(from, from + #data - 1)
        if expected ~= data then wrong = wrong + 1 end
      end,
      eof_received = function()
        open = open - 1
        if open == 0 then done:set_result() end
        return true
      end,
    }, most
  end
  local client, client_most = extra()
  local peer, peer_most = extra()
  local pair <close> = protocols.pair { client = client, peer = peer }
  pair.client.discards, pair.peer.discards = true, true
  done:await()
  assert.equal(0, wrong)
  assert.equal(size, pair.client.size)
  assert.equal(size, pair.peer.size)
  assert.is_true(math.max(client_most(), peer_most()) <= 64 * KIB + 48 * KIB + 1)
end

describe("A protocol that pauses as it is told", function()
  it("sends 4 MiB both ways at once", function() transfer(4 * MIB) end)

  it("sends 100 MiB both ways at once #load", function() transfer(100 * MIB) end)

  it("echoes with a bounded buffer to one who reads late", function()
    local most = 0
    local server = loop:create_server(moonloop.Protocol:extend {
      connection_made = function(self, transport) self.transport = transport end,
      data_received = function(self, data)
        self.transport:write(data)
        most = math.max(most, self.transport:get_write_buffer_size())
      end,
      pause_writing = function(self) self.transport:pause_reading() end,
      resume_writing = function(self) self.transport:resume_reading() end,
    }, "127.0.0.1", 0)
    local stream = moonloop.connect("127.0.0.1", server:port())
    local text = net.text(8 * MIB)
    local writer = moonloop.create_task(function()
      stream:write(text)
      stream:write_eof()
    end)
    wait_all_blocked()
    assert.is_true(stream:read() == text)
    assert.is_true(most < MIB)
    writer:await()
    stream:close()
    server:close()
    server:wait_closed()
  end)
end)
