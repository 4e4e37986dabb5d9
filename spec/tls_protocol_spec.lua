-- SPDX-License-Identifier: MIT
-- Protocols and transports over TLS, by both versions: the callbacks in their order, ends of every
-- kind and what connection_lost is given, flow control both ways, files, handshakes that fail,
-- accepted sockets. Going over to TLS later is in tls_start_tls_protocol_spec.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"
local tls = require "spec.support.tls"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local SIZE = 300000 -- many records, more than is queued at once

local function stay() return true end -- an eof_received that keeps the write side open

-- Reads to the end of whatever kind. Awaits.
local function read_to_end(stream)
  while pcall(stream.peek, stream, 1) and stream:read(65536) do end
end

-- Two recorders connected over TLS (see protocols.pair). Awaits.
local function tls_pair(version, opts)
  local client, server = link.contexts(version)
  local all = {
    client_options = { tls = client, server_hostname = "localhost" },
    server_options = { tls = server },
  }
  for key, value in pairs(opts or {}) do all[key] = value end
  return protocols.pair(all)
end

local function data_specs(version)
  describe("Protocols over " .. version, function()
    it("hear of the connection once, after the handshake", function()
      local infos = {}
      local function made(_, transport) infos[#infos + 1] = transport:get_extra_info("tls") end
      local extra = { connection_made = made }
      local pair <close> = tls_pair(version, { client = extra, peer = extra })
      assert.same({ version, version }, { infos[1].version, infos[2].version })
      assert.equal("made", pair.client:order())
      assert.equal("made", pair.peer:order())
    end)

    it("get all data, both ways at once", function()
      local pair <close> = tls_pair(version)
      local text = net.text(SIZE)
      pair.client.transport:write(text)
      pair.peer.transport:writelines { text:sub(1, 5), "", text:sub(6) }
      assert.is_true(pair.peer:received(SIZE) == text)
      assert.is_true(pair.client:received(SIZE) == text)
    end)

    it("get what is written from within connection_made", function()
      local extra = { connection_made = function(_, transport) transport:write("first words") end }
      local pair <close> = tls_pair(version, { client = extra, peer = extra })
      assert.equal("first words", pair.client:received(11))
      assert.equal("first words", pair.peer:received(11))
    end)

    it("get bytes as they come, a record at a time", function()
      local pair <close> = tls_pair(version)
      for i, word in ipairs { "one", "two", "three" } do
        pair.client.transport:write(word)
        pair.peer:wait(function(peer) return #peer.chunks == i end)
      end
      assert.same({ "one", "two", "three" }, pair.peer.chunks)
    end)

    it("may keep the write side open after the end of file", function()
      local pair <close> = tls_pair(version, { peer = { eof_received = stay } })
      assert.is_true(pair.client.transport:can_write_eof())
      pair.client.transport:write("question")
      pair.client.transport:write_eof()
      assert.equal("question", pair.peer:finished())
      wait_all_blocked()
      assert.is_false(pair.peer.transport:is_closing())
      pair.peer.transport:write("answer")
      pair.peer.transport:close()
      assert.equal("answer", pair.client:finished())
      assert.is_nil(pair.client:lost())
      assert.is_nil(pair.peer:lost())
      assert.equal("made data eof lost", pair.client:order())
      assert.equal("made data eof lost", pair.peer:order())
    end)

    it("close after the end of file unless they say otherwise", function()
      local pair <close> = tls_pair(version)
      pair.client.transport:write("all")
      pair.client.transport:close()
      assert.is_nil(pair.client:lost())
      assert.is_nil(pair.peer:lost())
      assert.equal("all", pair.peer:text())
      assert.equal("made data eof lost", pair.peer:order())
      assert.equal("made lost", pair.client:order())
    end)

    it("hear of what fails in connection_made, and the connection is aborted", function()
      local reports <close> = tls.reports()
      local pair <close> = tls_pair(version, {
        peer = { connection_made = function() error("not today", 0) end },
      })
      pair.peer:lost()
      pair.client:lost()
      assert.equal("not today", reports:wait().error)
    end)
  end)
end

local function loss_specs(version)
  describe("connection_lost over " .. version, function()
    it("is given the TLSError of a truncation, and eof_received is not called", function()
      local pair <close> = tls_pair(version)
      pair.peer.transport:write("data")
      pair.client:received(4)
      pair.peer.transport:abort()
      local err = pair.client:lost()
      assert.is_true(moonloop.is_error(err, "TLSError"))
      assert.equal("EOF", err.code)
      assert.equal("made data lost", pair.client:order())
      assert.is_nil(pair.peer:lost())
    end)

    it("is given nothing for a truncation that the context allows", function()
      local allowing = tls.client {
        min_version = version, max_version = version, allow_truncation = true,
      }
      local pair <close> = tls_pair(version, {
        client_options = { tls = allowing, server_hostname = "localhost" },
      })
      pair.peer.transport:write("data")
      pair.client:received(4)
      pair.peer.transport:abort()
      assert.is_nil(pair.client:lost())
      assert.equal("made data eof lost", pair.client:order())
    end)

    it("is given a ConnectionResetError", function()
      local pair <close> = tls_pair(version)
      pair.peer.transport:write("data")
      pair.client:received(4)
      protocols.reset(pair.peer.transport)
      assert.is_true(moonloop.is_error(pair.client:lost(), "ConnectionResetError"))
    end)
  end)
end

local function flow_specs(version)
  describe("Flow control over " .. version, function()
    it("holds back what comes while reading is paused", function()
      local pair <close> = tls_pair(version)
      pair.peer.transport:pause_reading()
      assert.is_false(pair.peer.transport:is_reading())
      pair.client.transport:write("later")
      pair.client.transport:close()
      wait_all_blocked()
      assert.equal("made", pair.peer:order())
      pair.peer.transport:resume_reading()
      assert.equal("later", pair.peer:finished())
      assert.is_nil(pair.peer:lost())
    end)

    it("holds back the rest when reading is paused from within data_received", function()
      local text = net.text(SIZE)
      local pair <close> = tls_pair(version, {
        peer = { data_received = function(self) self.transport:pause_reading() end },
      })
      pair.client.transport:write(text)
      pair.client.transport:write_eof()
      local steps = 0
      while not pair.peer.ended do
        wait_all_blocked()
        steps = steps + 1
        assert(steps <= #text, "the data do not come")
        pair.peer.transport:resume_reading()
      end
      assert.is_true(pair.peer:text() == text)
      assert.is_true(#pair.peer.chunks > 1)
    end)

    it("pauses a writer whose peer does not read, and lets it go on", function()
      local pair <close> = tls_pair(version)
      pair.peer.transport:pause_reading()
      local count = protocols.fill(pair.client)
      assert.is_true(pair.client.transport:get_write_buffer_size() > 0)
      pair.peer.transport:resume_reading()
      pair.client:wait(function(client) return not client.paused end)
      assert.is_true(protocols.is_filling(pair.peer:received(count)))
      assert.equal("made pause resume", pair.client:order())
      assert.equal(0, pair.client.transport:get_write_buffer_size())
    end)

    it("obeys the marks", function()
      local pair <close> = tls_pair(version)
      local transport = pair.client.transport
      pair.peer.transport:pause_reading()
      transport:set_write_buffer_limits(1000, 10)
      assert.same({ 10, 1000 }, { transport:get_write_buffer_limits() })
      protocols.fill(pair.client)
      assert.is_true(pair.client.paused)
      pair.peer.discards = true
      pair.peer.transport:resume_reading()
      pair.client:wait(function(client) return not client.paused end)
      assert.is_true(transport:get_write_buffer_size() <= 10)
    end)

    it("does not keep close from sending all of it, and the end", function()
      local pair <close> = tls_pair(version)
      pair.peer.transport:pause_reading()
      local count = protocols.fill(pair.client)
      pair.client.transport:close()
      wait_all_blocked()
      assert.is_nil(pair.client.is_lost)
      pair.peer.transport:resume_reading()
      assert.is_true(protocols.is_filling(pair.peer:finished()))
      assert.equal(count, pair.peer.size)
      assert.is_nil(pair.client:lost())
    end)
  end)

  describe("loop:sendfile over " .. version, function()
    it("sends a file, or a part of it", function()
      local text = net.text(100000)
      local file <close> = pipes.file(text)
      local open <close> = assert(io.open(file.path, "rb"))
      local pair <close> = tls_pair(version)
      assert.equal(100000, loop:sendfile(pair.client.transport, open))
      assert.equal(500, loop:sendfile(pair.client.transport, open, 1000, 500))
      assert.is_true(pair.peer:received(100500) == text .. text:sub(1001, 1500))
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  data_specs(version)
  loss_specs(version)
  flow_specs(version)
end

describe("create_connection with tls", function()
  it("raises what the handshake raises, and the protocol never hears of it", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo()
    local recorder = protocols.recorder()
    net.raises("CertificateError", loop.create_connection, loop, function() return recorder end,
      tls.HOST, server:port(), { tls = tls.client(), server_hostname = "other.example" })
    reports:wait()
    assert.equal("", recorder:order())
  end)

  it("leaves the protocol alone when it is cancelled in the handshake", function()
    local server <close> = moonloop.start_server(moonloop.sleep_forever, tls.HOST, 0)
    local recorder = protocols.recorder()
    local task = tasks.start(loop.create_connection, loop, function() return recorder end,
      tls.HOST, server:port(), { tls = true })
    assert.is_true(tasks.cancel(task))
    wait_all_blocked()
    assert.equal("", recorder:order())
  end)

  it("raises what the factory raises, and closes the connection", function()
    local ended = moonloop.Future()
    local server <close> = moonloop.start_server(function(stream)
      read_to_end(stream)
      ended:set_result("ended")
    end, tls.HOST, 0)
    assert.equal("no protocol", tasks.failure(function()
      loop:create_connection(function() error("no protocol", 0) end, tls.HOST, server:port(),
        { tls = tls.client(), server_hostname = "localhost" })
    end))
    assert.equal("ended", ended:await())
  end)

  it("takes a socket that is connected already", function()
    local server <close> = tls.echo()
    local socket = moonloop.socket.tcp()
    socket:connect { host = tls.HOST, port = server:port() }
    local transport, recorder = loop:create_connection(protocols.recorder, nil, nil,
      { sock = socket, tls = tls.client(), server_hostname = "localhost" })
    transport:write("through a socket")
    assert.equal("through a socket", recorder:received(16))
    transport:close()
    assert.is_nil(recorder:lost())
  end)
end)

describe("create_server with tls", function()
  it("makes no protocol of a handshake that fails, reports it and goes on", function()
    local reports <close> = tls.reports()
    local made = 0
    local server <close> = loop:create_server(function()
      return { connection_made = function() made = made + 1 end }
    end, tls.HOST, 0, { tls = tls.server() })
    local bad <close> = moonloop.connect(tls.HOST, server:port())
    bad:write("no handshake at all")
    assert.equal("TLS handshake with a client failed", reports:wait().message)
    assert.equal(0, made)
    local good <close> = tls.connect(server)
    moonloop.move_on_after(0, good.read, good, 1)
    wait_all_blocked()
    assert.equal(1, made)
  end)

  it("reports a factory that raises, closes the connection and goes on", function()
    local reports <close> = tls.reports()
    local calls = 0
    local server <close> = loop:create_server(function()
      calls = calls + 1
      if calls == 1 then error("no protocol", 0) end
      return { connection_made = function(_, transport) transport:write("hello") end }
    end, tls.HOST, 0, { tls = tls.server() })
    assert.is_false((pcall(function()
      local first <close> = tls.connect(server)
      assert(first:read(1), "closed")
    end)))
    assert.equal("no protocol", reports:wait().error)
    local second <close> = tls.connect(server)
    assert.equal("hello", second:readexactly(5))
  end)

  it("ends connections with close_clients, abort_clients and shutdown", function()
    for _, ending in ipairs { "close_clients", "abort_clients", "shutdown" } do
      local recorder = protocols.recorder()
      local server <close> = loop:create_server(function() return recorder end, tls.HOST, 0,
        { tls = tls.server() })
      local stream <close> = tls.connect(server)
      stream:write("x")
      recorder:received(1)
      server[ending](server, ending == "shutdown" and { grace = 0 } or nil)
      recorder:lost()
      local ok, err = pcall(stream.read, stream)
      assert.equal(ending ~= "abort_clients", ok)
      assert.equal(ok and "" or "EOF", ok and err or err.code)
    end
  end)
end)

describe("connect_accepted_socket with tls", function()
  it("is the server of whatever connection it is given", function()
    local near, far = moonloop.socket.socketpair()
    local recorder = protocols.recorder()
    local there = moonloop.create_task(loop.connect_accepted_socket, loop,
      function() return recorder end, far, { tls = tls.server() })
    local stream <close> = moonloop.connect(nil, nil, {
      sock = near, tls = tls.client(), server_hostname = "localhost",
    })
    local transport, protocol = there:await()
    assert.same({ recorder.transport, recorder }, { transport, protocol })
    stream:write("hello")
    assert.equal("hello", recorder:received(5))
    transport:close()
    assert.equal("", stream:read())
    assert.is_nil(recorder:lost())
  end)

  it("raises the TLSError of a handshake that fails, and closes the socket", function()
    local near, far = moonloop.socket.socketpair()
    local stream <close> = moonloop.connect(nil, nil, { sock = near })
    local recorder = protocols.recorder()
    local task = tasks.start(loop.connect_accepted_socket, loop, function() return recorder end,
      far, { tls = tls.server() })
    stream:write("not TLS")
    net.raises("TLSError", task.await, task)
    assert.equal("", recorder:order())
    read_to_end(stream)
  end)
end)
