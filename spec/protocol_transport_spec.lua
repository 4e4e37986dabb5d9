-- SPDX-License-Identifier: MIT
-- What can be done with a transport: writing, half-closing, closing and aborting it, asking
-- it, giving it another protocol, and using it from tasks.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

local WRITES = {
  write = function(transport) transport:write("x") end,
  writelines = function(transport) transport:writelines { "x" } end,
}

describe("Transport:write", function()
  it("sends strings and numbers in order, whatever bytes they hold", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    transport:write("a\0\255")
    transport:write("")
    transport:write(12)
    transport:write("b\n")
    assert.equal("a\0\25512b\n", pair.peer:received(7))
  end)

  it("never waits, however much is unsent", function()
    local pair <close> = protocols.pair()
    pair.peer.transport:pause_reading()
    local text = net.text(20 * 1024 * 1024)
    local done = false
    loop:call_soon(function() -- where nothing can wait
      pair.client.transport:write(text)
      done = true
    end)
    wait_all_blocked()
    assert.is_true(done)
    pair.peer.transport:resume_reading()
    assert.is_true(pair.peer:received(#text) == text)
  end)

  it("gives nothing back", function()
    local pair <close> = protocols.pair()
    assert.equal(0, select("#", pair.client.transport:write("x")))
  end)

  it("refuses what is no string", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    for _, value in ipairs { true, {}, print } do
      net.refuses("bad argument", transport.write, transport, value)
    end
    net.refuses("bad argument", transport.write, transport)
    net.refuses("bad argument", transport.writelines, transport, "not a list")
    net.refuses("bad argument", transport.writelines, transport, { "a", {}, "b" })
    transport:close()
    assert.equal("", pair.peer:finished())
  end)

  it("raises InvalidStateError after our own close, abort and write_eof", function()
    for _, ending in ipairs { "close", "abort", "write_eof" } do
      local pair <close> = protocols.pair()
      local transport = pair.client.transport
      transport[ending](transport)
      for _, write in pairs(WRITES) do net.raises("InvalidStateError", write, transport) end
      pair.peer.transport:abort()
      pair.client:lost()
      for _, write in pairs(WRITES) do net.raises("InvalidStateError", write, transport) end
    end
  end)

  it("is dropped silently when the connection is lost already", function()
    local pair <close> = protocols.pair()
    protocols.reset(pair.peer.transport)
    pair.client:lost()
    for _, write in pairs(WRITES) do write(pair.client.transport) end
    assert.equal(0, pair.client.transport:get_write_buffer_size())
  end)
end)

describe("Transport:writelines", function()
  it("sends the strings of a list in order", function()
    local pair <close> = protocols.pair()
    pair.client.transport:writelines { "one ", 2, " three" }
    pair.client.transport:writelines {}
    pair.client.transport:write("!")
    assert.equal("one 2 three!", pair.peer:received(12))
  end)
end)

describe("Transport:write_eof", function()
  it("ends what the peer reads, once everything is out, and leaves reading alone", function()
    local peer_extra = { eof_received = function() return true end }
    local pair <close> = protocols.pair { peer = peer_extra }
    local text = net.text(3 * 1024 * 1024)
    pair.peer.transport:pause_reading()
    pair.client.transport:write(text)
    pair.client.transport:write_eof()
    assert.is_false(pair.client.transport:is_closing())
    pair.peer.transport:resume_reading()
    assert.is_true(pair.peer:finished() == text)
    pair.peer.transport:write("an answer")
    assert.equal("an answer", pair.client:received(9))
  end)

  it("may be called twice, and is possible on sockets", function()
    local pair <close> = protocols.pair { peer = { eof_received = function() return true end } }
    assert.is_true(pair.client.transport:can_write_eof())
    pair.client.transport:write_eof()
    pair.client.transport:write_eof()
    pair.peer:finished()
    assert.equal("made eof", pair.peer:order())
  end)
end)

describe("Transport:close and abort", function()
  it("are told by is_closing at once, and may be called again", function()
    for _, ending in ipairs { "close", "abort" } do
      local pair <close> = protocols.pair()
      local transport = pair.client.transport
      assert.is_false(transport:is_closing())
      transport[ending](transport)
      assert.is_true(transport:is_closing())
      assert.is_false(transport:is_reading())
      transport:close()
      transport:abort()
      assert.is_nil(pair.client:lost())
      transport:close()
      transport:abort()
      assert.is_true(transport:is_closing())
    end
  end)

  it("take no arguments and give nothing back", function()
    local pair <close> = protocols.pair()
    assert.equal(0, select("#", pair.client.transport:close()))
    assert.equal(0, select("#", pair.peer.transport:abort()))
  end)
end)

describe("Transport:get_extra_info", function()
  it("knows both addresses, which mirror each other's", function()
    for _, host in ipairs { "127.0.0.1", "::1" } do
      local pair <close> = protocols.pair { host = host }
      local client, peer = pair.client.transport, pair.peer.transport
      local address = client:get_extra_info("peername")
      assert.equal(host, address.host)
      assert.equal(pair.server:port(), address.port)
      assert.same(address, peer:get_extra_info("sockname"))
      assert.same(client:get_extra_info("sockname"), peer:get_extra_info("peername"))
    end
  end)

  it("gives a socket that has options and nothing that moves data", function()
    local pair <close> = protocols.pair()
    local socket = pair.client.transport:get_extra_info("socket")
    assert.same(pair.client.transport:get_extra_info("sockname"), socket:getsockname())
    assert.same(pair.client.transport:get_extra_info("peername"), socket:getpeername())
    assert.is_true(socket:fileno() >= 0)
    socket:setsockopt("SO_KEEPALIVE", true)
    assert.is_true(socket:getsockopt("SO_KEEPALIVE"))
    for _, name in ipairs { "recv", "send", "sendall", "close", "shutdown", "detach", "accept" } do
      assert.is_nil(socket[name])
    end
    pair.client.transport:abort()
    pair.client:lost()
    net.raises("InvalidStateError", socket.getsockopt, socket, "SO_KEEPALIVE")
  end)

  it("gives the default, or nil, for what there is not", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    assert.is_nil(transport:get_extra_info("no such thing"))
    assert.equal(7, transport:get_extra_info("no such thing", 7))
    assert.equal("none", transport:get_extra_info("peercred", "none"))
    net.refuses("bad argument", transport.get_extra_info, transport)
  end)

  it("still knows the addresses in connection_lost", function()
    local seen
    local pair <close> = protocols.pair { client = {
      connection_lost = function(self) seen = self.transport:get_extra_info("peername") end,
    } }
    local before = pair.client.transport:get_extra_info("peername")
    protocols.reset(pair.peer.transport)
    pair.client:lost()
    assert.same(before, seen)
  end)
end)

describe("Transport:set_protocol", function()
  it("has another protocol called from then on, without connection_made", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    pair.peer.transport:write("for the first")
    pair.client:received(13)
    local log, lost = {}, moonloop.Future()
    local second = {
      connection_made = function() log[#log + 1] = "made" end,
      data_received = function(_, data) log[#log + 1] = data end,
      eof_received = function() log[#log + 1] = "eof" end,
      connection_lost = function(_, err) lost:set_result(err) end,
    }
    transport:set_protocol(second)
    assert.equal(second, transport:get_protocol())
    pair.peer.transport:write("for the second")
    pair.peer.transport:write_eof()
    assert.is_nil(lost:await())
    assert.same({ "for the second", "eof" }, log)
    assert.equal("made data", pair.client:order())
    pair.client.is_lost = true -- it never hears of that
  end)

  it("may be called by the protocol that is left", function()
    local rest = {}
    local pair <close> = protocols.pair { client = {
      data_received = function(self)
        self.transport:set_protocol {
          data_received = function(_, data) rest[#rest + 1] = data end,
          connection_lost = function() self.is_lost = true end,
        }
      end,
    } }
    pair.peer.transport:write("a")
    assert.equal("a", pair.client:received(1))
    pair.peer.transport:write("b")
    wait_all_blocked()
    assert.same({ "b" }, rest)
    assert.equal("a", pair.client:text())
    pair.client.transport:abort()
    wait_all_blocked()
    assert.is_true(pair.client.is_lost)
  end)

  it("refuses what is no table", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    for _, value in ipairs { "text", 1, true } do
      net.refuses("bad argument", transport.set_protocol, transport, value)
    end
    net.refuses("bad argument", transport.set_protocol, transport)
    assert.equal(pair.client, transport:get_protocol())
  end)

  it("takes a protocol whose methods are looked up when they are called", function()
    local pair <close> = protocols.pair()
    local late, lost, seen = {}, moonloop.Future(), {}
    pair.client.transport:set_protocol(late)
    function late.data_received(_, data) seen[#seen + 1] = data end
    function late.connection_lost() lost:set_result() end
    pair.peer.transport:write("late")
    wait_all_blocked()
    assert.same({ "late" }, seen)
    pair.client.transport:abort()
    lost:await()
    pair.client.is_lost = true
  end)
end)

describe("A transport", function()
  it("says in words what it is", function()
    local pair <close> = protocols.pair()
    local transport = pair.client.transport
    local where = "tcp 127.0.0.1:" .. pair.server:port()
    assert.equal("Transport: " .. where .. " (open)", tostring(transport))
    transport:close()
    assert.matches("^Transport: " .. where:gsub("%.", "%%.") .. " %(clos", tostring(transport))
    pair.client:lost()
    assert.equal("Transport: " .. where .. " (closed)", tostring(transport))
  end)

  it("is written to by tasks in the order in which they run", function()
    local pair <close> = protocols.pair()
    for i = 1, 20 do
      moonloop.create_task(function()
        pair.client.transport:write(("task %02d "):format(i))
        moonloop.sleep(0)
        pair.client.transport:write(("again %02d "):format(i))
      end)
    end
    local text = pair.peer:received(20 * (8 + 9))
    local expected = {}
    for i = 1, 20 do
      expected[i] = ("task %02d "):format(i)
      expected[20 + i] = ("again %02d "):format(i)
    end
    assert.equal(table.concat(expected), text)
  end)

  it("serves a task that a callback makes", function()
    local pair <close> = protocols.pair { peer = {
      data_received = function(self, data)
        moonloop.create_task(function()
          moonloop.sleep(0)
          self.transport:write("answer to " .. data)
          self.transport:close()
        end)
      end,
    } }
    pair.client.transport:write("a question")
    assert.equal("answer to a question", pair.client:finished())
    assert.is_nil(pair.client:lost())
  end)

  it("has its callbacks in no task, where an await raises", function()
    local reports <close> = tasks.reports()
    local answers
    local pair <close> = protocols.pair { peer = {
      data_received = function()
        answers = table.pack(moonloop.current_task())
        moonloop.sleep(0)
      end,
    } }
    pair.client.transport:write("x")
    local err = pair.peer:lost()
    assert.is_nil(answers[1])
    assert.matches("no running task", tostring(err), 1, true)
    assert.equal(1, #reports)
    assert.equal(err, reports[1].error)
  end)

  it("lives as long as its connection, with nobody holding it", function()
    local protocol = protocols.recorder()
    local stream, server = protocols.beside_stream(protocol)
    protocol.transport = nil
    collectgarbage()
    collectgarbage()
    protocol.transport = { is_closing = function() end, is_reading = function() return true end }
    stream:write("still there")
    assert.equal("still there", protocol:received(11))
    stream:close()
    assert.is_nil(protocol:lost())
    server:close()
    server:wait_closed()
    protocol:check()
  end)
end)
