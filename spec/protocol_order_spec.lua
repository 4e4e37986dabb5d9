-- SPDX-License-Identifier: MIT
-- The order of a protocol's callbacks over every kind of connection: one at a time,
-- connection_made first, connection_lost last and exactly once, however the connection ends.
-- The recorders check on each call what holds always; see spec/support/protocols.lua.
local moonloop = require "moonloop"
local protocols = require "spec.support.protocols"
local socket = require "socket"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

-- Defines the same spec for each kind of connection; `fn(pair_of)` gets a function which
-- takes the options of protocols.pair.
local function each_kind(name, fn)
  for _, kind in ipairs(protocols.kinds) do
    it(("%s (%s)"):format(name, kind), function()
      fn(function(opts)
        opts = opts or {}
        opts.kind = kind
        return protocols.pair(opts)
      end)
    end)
  end
end

local function stay() return true end -- an eof_received that keeps the write side open

describe("Callbacks", function()
  each_kind("come in the order of what happens", function(pair_of)
    local pair <close> = pair_of { client = { eof_received = stay } }
    pair.peer.transport:write("first")
    assert.equal("first", pair.client:received(5))
    pair.peer.transport:write(" second")
    pair.peer.transport:write_eof()
    assert.equal("first second", pair.client:finished())
    pair.client.transport:write("answer")
    assert.equal("answer", pair.peer:received(6))
    pair.client.transport:close()
    assert.is_nil(pair.client:lost())
    assert.is_nil(pair.peer:lost())
    assert.equal("made data eof lost", pair.client:order())
    assert.equal("made data eof lost", pair.peer:order())
  end)

  each_kind("are not called by what the program calls, pause_writing excepted", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    protocols.fill(pair.client)
    assert.equal("made pause", pair.client:order())
    pair.client.transport:pause_reading()
    pair.peer.transport:write("something to read")
    wait_all_blocked()
    local before = pair.client:order()
    pair.client.transport:resume_reading()
    assert.equal(before, pair.client:order())
    pair.client.transport:abort()
    assert.equal(before, pair.client:order())
    pair.client:lost()
    assert.equal(before .. " lost", pair.client:order())
  end)

  it("begin with connection_made, though data came with the connection", function()
    local protocol = protocols.recorder()
    local server = loop:create_server(function() return protocol end, "127.0.0.1", 0)
    local client = assert(socket.connect("127.0.0.1", server:port())) -- with no turn of the loop
    assert(client:send("early"))
    client:close()
    assert.equal("early", protocol:finished())
    assert.is_nil(protocol:lost())
    assert.equal("made data eof lost", protocol:order())
    server:close()
    server:wait_closed()
    protocol:check()
  end)

  it("of two connections do not mix their protocols", function()
    local one <close> = protocols.pair()
    local other <close> = protocols.pair()
    for i = 1, 10 do
      one.client.transport:write("one " .. i % 10)
      other.client.transport:write("two " .. i % 10)
    end
    assert.equal(10, select(2, one.peer:received(50):gsub("one %d", "")))
    assert.equal(10, select(2, other.peer:received(50):gsub("two %d", "")))
  end)
end)

describe("The end of file", function()
  each_kind("leaves the write side open where eof_received gives true", function(pair_of)
    local pair <close> = pair_of { client = { eof_received = stay } }
    pair.peer.transport:write_eof()
    pair.client:finished()
    wait_all_blocked()
    assert.equal("made eof", pair.client:order())
    assert.is_false(pair.client.transport:is_closing())
    pair.client.transport:write("later")
    assert.equal("later", pair.peer:received(5))
  end)

  for _, case in ipairs {
    { name = "false", eof_received = function() return false end },
    { name = "nothing", eof_received = function() end },
  } do
    each_kind("closes the transport where eof_received gives " .. case.name, function(pair_of)
      local pair <close> = pair_of { client = { eof_received = case.eof_received } }
      pair.peer.transport:write_eof()
      assert.is_nil(pair.client:lost())
      assert.is_nil(pair.peer:lost())
      assert.equal("made eof lost", pair.client:order())
    end)
  end

  it("closes the transport of a protocol that has no eof_received", function()
    local lost, made = moonloop.Future(), nil
    local protocol = {
      connection_made = function(_, transport) made = transport end,
      connection_lost = function(_, err) lost:set_result(err) end,
    }
    local server <close> = loop:create_server(function() return protocol end, "127.0.0.1", 0)
    local stream <close> = moonloop.connect("127.0.0.1", server:port())
    stream:write_eof()
    assert.is_nil(lost:await())
    assert.is_true(made:is_closing())
    assert.equal("", stream:read())
  end)

  each_kind("closes only after what is unsent, what eof_received writes included",
    function(pair_of)
      local pair <close> = pair_of { client = {
        eof_received = function(self) self.transport:write("the end") end,
      } }
      pair.peer.transport:pause_reading()
      local count = protocols.fill(pair.client)
      pair.peer.transport:write_eof()
      pair.client:finished()
      wait_all_blocked()
      assert.is_true(pair.client.transport:is_closing())
      assert.equal("made pause eof", pair.client:order())
      pair.peer.transport:resume_reading()
      local text = pair.peer:finished()
      assert.equal("the end", text:sub(count + 1))
      assert.is_true(protocols.is_filling(text:sub(1, count)))
      assert.is_nil(pair.client:lost())
    end)

  each_kind("comes after all data, though reading was paused meanwhile", function(pair_of)
    local pair <close> = pair_of()
    pair.client.transport:pause_reading()
    pair.peer.transport:write("data")
    pair.peer.transport:close()
    pair.peer:lost()
    wait_all_blocked()
    assert.equal("made", pair.client:order())
    pair.client.transport:resume_reading()
    assert.equal("data", pair.client:finished())
    assert.is_nil(pair.client:lost())
    assert.equal("made data eof lost", pair.client:order())
  end)

  each_kind("is not told after our own close", function(pair_of)
    local pair <close> = pair_of()
    pair.client.transport:close()
    assert.is_nil(pair.client:lost())
    assert.is_nil(pair.peer:lost())
    assert.equal("made lost", pair.client:order())
    assert.equal("made eof lost", pair.peer:order())
  end)
end)

describe("Closing", function()
  each_kind("sends what is unsent first", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    local count = protocols.fill(pair.client)
    pair.client.transport:close()
    wait_all_blocked()
    assert.equal("made pause", pair.client:order())
    pair.peer.transport:resume_reading()
    local text = pair.peer:finished()
    assert.equal(count, #text)
    assert.is_true(protocols.is_filling(text))
    assert.is_nil(pair.client:lost())
    assert.equal("lost", pair.client.log[#pair.client.log])
  end)

  each_kind("delivers nothing more, though data comes", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    protocols.fill(pair.client)
    pair.client.transport:close()
    pair.peer.transport:write("too late")
    wait_all_blocked()
    assert.equal("made pause", pair.client:order())
    pair.peer.transport:resume_reading()
    pair.client:lost()
    assert.equal("", pair.client:text())
  end)

  each_kind("twice is closing once", function(pair_of)
    local pair <close> = pair_of()
    pair.client.transport:close()
    pair.client.transport:close()
    pair.client:lost()
    wait_all_blocked()
    assert.equal("made lost", pair.client:order())
  end)

  each_kind("before what is unsent goes out can still be made an abort", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    local count = protocols.fill(pair.client)
    pair.client.transport:close()
    pair.client.transport:abort()
    assert.is_nil(pair.client:lost())
    assert.equal("made pause lost", pair.client:order())
    pair.peer.transport:resume_reading()
    pair.peer:lost()
    assert.is_true(pair.peer.size < count)
    assert.is_true(protocols.is_filling(pair.peer:text()))
  end)
end)

describe("Aborting", function()
  each_kind("drops what is unsent", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    local count = protocols.fill(pair.client)
    pair.client.transport:abort()
    assert.is_nil(pair.client:lost())
    assert.equal(0, pair.client.transport:get_write_buffer_size())
    pair.peer.transport:resume_reading()
    pair.peer:lost()
    assert.is_true(pair.peer.size < count)
    assert.is_true(protocols.is_filling(pair.peer:text()))
  end)

  each_kind("is over when the peer still has reading paused", function(pair_of)
    local pair <close> = pair_of()
    pair.peer.transport:pause_reading()
    pair.client.transport:abort()
    pair.client.transport:abort()
    assert.is_nil(pair.client:lost())
    assert.equal("made lost", pair.client:order())
    assert.equal("made", pair.peer:order())
  end)

  each_kind("by both at once ends both without an error", function(pair_of)
    local pair <close> = pair_of()
    pair.client.transport:abort()
    pair.peer.transport:abort()
    assert.is_nil(pair.client:lost())
    assert.is_nil(pair.peer:lost())
  end)
end)

describe("A reset by the peer", function()
  it("is what connection_lost gets", function()
    local pair <close> = protocols.pair()
    protocols.reset(pair.peer.transport)
    local err = pair.client:lost()
    assert.equal("ConnectionResetError", err.kind)
    assert.equal("ECONNRESET", err.code)
    assert.equal("made lost", pair.client:order())
    assert.is_nil(pair.peer:lost())
    assert.is_true(pair.client.transport:is_closing())
  end)

  it("is told once, though it comes while the write buffer is full", function()
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    protocols.fill(pair.client)
    protocols.reset(pair.peer.transport)
    local err = pair.client:lost()
    assert.is_true(moonloop.is_error(err, "ConnectionError"))
    assert.equal(1, select(2, pair.client:order():gsub("lost", "")))
    assert.equal(0, pair.client.transport:get_write_buffer_size())
  end)

  it("is told also when it comes while close sends what is left", function()
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    protocols.fill(pair.client)
    pair.client.transport:close()
    protocols.reset(pair.peer.transport)
    assert.is_true(moonloop.is_error(pair.client:lost(), "ConnectionError"))
    assert.equal("lost", pair.client.log[#pair.client.log])
  end)

  it("is no end of file", function()
    local pair <close> = protocols.pair()
    pair.peer.transport:write("before")
    pair.client:received(6)
    protocols.reset(pair.peer.transport)
    pair.client:lost()
    assert.equal("made data lost", pair.client:order())
  end)

  it("is told to one who writes on after the end of file", function()
    local pair <close> = protocols.pair { client = { eof_received = stay } }
    pair.peer.transport:write_eof()
    pair.client:finished()
    protocols.reset(pair.peer.transport)
    pair.peer:lost()
    for _ = 1, 100 do
      if pair.client.is_lost then break end
      pair.client.transport:write("on and on")
      wait_all_blocked()
    end
    assert.is_true(moonloop.is_error(pair.client:lost(), "ConnectionError"))
    assert.equal("made eof lost", pair.client:order())
  end)
end)
