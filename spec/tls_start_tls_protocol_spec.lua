-- SPDX-License-Identifier: MIT
-- loop:start_tls: a transport goes over from plain text to TLS in place, with its protocol or
-- another one; what it does with what has come and what is not out yet; when it fails.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local NAME = { server_hostname = "localhost" }

-- A recorder beside a Stream over plain TCP, both let go of by a to-be-closed variable. Awaits.
-- @param extra of the recorder
-- @return recorder, Stream, the to-be-closed value
local function beside_stream(extra)
  local recorder = protocols.recorder(extra)
  local stream, server = protocols.beside_stream(recorder)
  return recorder, stream, moonloop.defer(function()
    stream:abort()
    recorder.transport:abort()
    recorder:lost()
    server:close()
    server:wait_closed()
    recorder:check()
  end)
end

-- Has the recorder's transport go over as the server, the stream as the client. Awaits.
local function upgrade(recorder, stream, protocol, opts)
  local client, server = link.contexts()
  local there = moonloop.create_task(stream.start_tls, stream, client, NAME)
  local transport = loop:start_tls(recorder.transport, protocol or recorder, server, opts)
  there:await()
  return transport
end

local function count(list, word)
  local found = 0
  for _, one in ipairs(list) do found = found + (one == word and 1 or 0) end
  return found
end

describe("loop:start_tls", function()
  it("gives the same transport, whose protocol goes on", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    stream:write("plain")
    recorder:received(5)
    assert.equal(recorder.transport, upgrade(recorder, stream))
    recorder.transport:write("secret")
    assert.equal("secret", stream:readexactly(6))
    stream:write(" talk")
    assert.equal("plain talk", recorder:received(10))
    assert.equal(1, count(recorder.log, "made"))
    assert.equal("TLSv1.3", recorder.transport:get_extra_info("tls").version)
  end)

  it("sets another protocol, which hears of all that follows and of no connection_made", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local calls, lost = {}, moonloop.Future()
    local other = setmetatable({}, { __index = function(_, name)
      return function(_, data)
        calls[#calls + 1] = name
        if data then calls[#calls + 1] = data end
        if name == "connection_lost" then lost:set_result() end
      end
    end })
    upgrade(recorder, stream, other)
    recorder.is_lost = true -- from now on it is another's
    assert.equal(other, recorder.transport:get_protocol())
    stream:write("for the other")
    stream:close()
    lost:await()
    assert.same({ "data_received", "for the other", "eof_received", "connection_lost" }, calls)
    assert.equal("made", recorder:order())
  end)

  it("works between two transports", function()
    local pair <close> = protocols.pair()
    local client, server = link.contexts()
    local there = moonloop.create_task(loop.start_tls, loop, pair.peer.transport, pair.peer, server)
    loop:start_tls(pair.client.transport, pair.client, client, NAME)
    there:await()
    local text = net.text(50000)
    pair.client.transport:write(text)
    pair.peer.transport:write(text)
    assert.is_true(pair.peer:received(#text) == text)
    assert.is_true(pair.client:received(#text) == text)
    assert.equal("made data", pair.client:order())
  end)

  it("lets out the plain text first that was written before", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local client, server = link.contexts()
    local size = protocols.fill(recorder)
    local task = tasks.start(loop.start_tls, loop, recorder.transport, recorder, client, NAME)
    assert.is_false(task:done())
    assert.is_true(protocols.is_filling(stream:readexactly(size)))
    stream:start_tls(server)
    task:await()
    recorder.transport:write("secret")
    assert.equal("secret", stream:readexactly(6))
  end)

  it("takes what came while reading was paused as the first bytes of TLS, and reads on", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    recorder.transport:pause_reading()
    local client, server = link.contexts()
    local there = tasks.start(stream.start_tls, stream, client, NAME)
    loop:start_tls(recorder.transport, recorder, server)
    there:await()
    assert.is_true(recorder.transport:is_reading())
    stream:write("data")
    assert.equal("data", recorder:received(4))
  end)

  it("raises the TLSError of a handshake that fails, and tells the protocol of the end", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local _, server = link.contexts()
    local task = tasks.start(loop.start_tls, loop, recorder.transport, recorder, server)
    stream:write("this is no ClientHello")
    net.raises("TLSError", task.await, task)
    assert.is_true(recorder.transport:is_closing())
    recorder:lost()
    assert.equal("made lost", recorder:order())
  end)

  it("raises TimeoutError after its time", function()
    local recorder, _, closing = beside_stream()
    local _ <close> = closing
    net.raises("TimeoutError", loop.start_tls, loop, recorder.transport, recorder,
      (link.contexts()), { server_hostname = "localhost", tls_handshake_timeout = 0.01 })
    recorder:lost()
  end)

  it("is cancelled with the connection", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local task = tasks.start(loop.start_tls, loop, recorder.transport, recorder,
      (link.contexts()), NAME)
    assert.is_true(tasks.cancel(task))
    assert.is_true(recorder.transport:is_closing())
    recorder:lost()
    while stream:read(65536) do end -- to the end of file
    assert.equal("made lost", recorder:order())
  end)

  it("raises InvalidStateError where there is TLS already, or no connection any more", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    upgrade(recorder, stream)
    local _, server = link.contexts()
    net.raises("InvalidStateError", loop.start_tls, loop, recorder.transport, recorder, server)
    recorder.transport:abort()
    net.raises("InvalidStateError", loop.start_tls, loop, recorder.transport, recorder, server)
  end)

  it("refuses what is no transport, no protocol, no context and no option", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local client, server = link.contexts()
    local transport = recorder.transport
    for _, case in ipairs {
      { "bad argument #1", "x", recorder, server },
      { "bad argument #1", stream, recorder, server },
      { "bad argument #2", transport, "x", server },
      { "bad argument #2", transport, nil, server },
      { "bad argument #3", transport, recorder, {} },
      { "bad argument", transport, recorder, client, { server_side = true } },
      { "did you mean 'server_side'", transport, recorder, server, { serverside = true } },
    } do
      local err = net.refuses(case[1], loop.start_tls, loop, table.unpack(case, 2, 5))
      assert.matches("to 'start_tls'", err, 1, true)
    end
    upgrade(recorder, stream) -- nothing has been done
  end)
end)

-- Starts TLS on the transport of a recorder that has written `size` bytes which are not out yet,
-- and has them read. The handshake is under way then. Awaits.
local function start_behind(recorder, stream, size, context)
  local task = tasks.start(loop.start_tls, loop, recorder.transport, recorder, context, NAME)
  assert.is_true(protocols.is_filling(stream:readexactly(size)))
  wait_all_blocked()
  assert.is_false(task:done())
  return task
end

describe("A transport that has to wait before loop:start_tls can begin", function()
  it("cannot write meanwhile, nor during the handshake, and nothing of that goes out", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local client, server = link.contexts()
    local transport = recorder.transport
    local size = protocols.fill(recorder)
    local task = tasks.start(loop.start_tls, loop, transport, recorder, client, NAME)
    net.raises("InvalidStateError", transport.write, transport, "in plain text")
    assert.is_true(protocols.is_filling(stream:readexactly(size)))
    net.raises("InvalidStateError", transport.write, transport, "in plain text")
    stream:start_tls(server)
    task:await()
    transport:write("secret")
    assert.equal("secret", stream:readexactly(6))
  end)

  it("tells its protocol of room when the handshake is over", function()
    local recorder, stream, closing = beside_stream {
      resume_writing = function(self) self.transport:write("more") end,
    }
    local _ <close> = closing
    local client, server = link.contexts()
    local task = start_behind(recorder, stream, protocols.fill(recorder), client)
    assert.equal("made pause", recorder:order())
    stream:start_tls(server)
    task:await()
    recorder:wait(function() return not recorder.paused end)
    assert.equal("more", stream:readexactly(4))
    assert.equal("made pause resume", recorder:order())
  end)

  it("does so, too, where only an empty buffer is room", function()
    local recorder, stream, closing = beside_stream {
      resume_writing = function(self) self.transport:write("more") end,
    }
    local _ <close> = closing
    local client, server = link.contexts()
    recorder.transport:set_write_buffer_limits(65536, 0)
    local task = start_behind(recorder, stream, protocols.fill(recorder), client)
    stream:start_tls(server)
    task:await()
    recorder:wait(function() return not recorder.paused end)
    assert.equal("more", stream:readexactly(4))
  end)

  it("writes on in plain text where that is cancelled before it begins", function()
    local recorder, stream, closing = beside_stream()
    local _ <close> = closing
    local size = protocols.fill(recorder)
    local task = tasks.start(loop.start_tls, loop, recorder.transport, recorder,
      (link.contexts()), NAME)
    assert.is_true(tasks.cancel(task))
    recorder.transport:write("plain")
    assert.is_true(protocols.is_filling(stream:readexactly(size)))
    assert.equal("plain", stream:readexactly(5))
    assert.is_nil(recorder.transport:get_extra_info("tls"))
  end)
end)
