-- SPDX-License-Identifier: MIT
-- What a protocol may do inside its callbacks: raise, close, abort, write, pause, make tasks;
-- and what becomes of a transport that is open when its run ends.
local moonloop = require "moonloop"
local protocols = require "spec.support.protocols"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local wait_all_blocked = moonloop.testing.wait_all_blocked

-- How each callback is brought about on a pair's client: by name, in the order of a life.
local CAUSES = {
  { "connection_made", function() end },
  { "data_received", function(pair) pair.peer.transport:write("data") end },
  { "eof_received", function(pair) pair.peer.transport:write_eof() end },
  { "pause_writing", function(pair)
    pair.peer.transport:pause_reading()
    local transport = pair.client.transport
    for _ = 1, 4096 do
      if pair.client.paused or transport:is_closing() then break end
      transport:write(("x"):rep(65536))
    end
  end },
  { "resume_writing", function(pair)
    pair.peer.transport:pause_reading()
    protocols.fill(pair.client)
    pair.peer.transport:resume_reading()
  end },
}

-- Defines a spec for each callback but connection_lost: `fn(name, cause)`.
local function each_callback(text, fn)
  for _, case in ipairs(CAUSES) do
    it(text:format(case[1]), function() fn(case[1], case[2]) end)
  end
end

describe("A callback that raises", function()
  each_callback("is reported and ends the connection: %s", function(name, cause)
    local reports <close> = tasks.reports()
    local pair <close> = protocols.pair {
      client = { [name] = function() error({ name = name }) end },
    }
    cause(pair)
    local err = pair.client:lost()
    assert.same({ name = name }, err)
    assert.is_true(pair.client.transport:is_closing())
    pair.peer.transport:resume_reading()
    pair.peer:lost()
    wait_all_blocked()
    assert.equal(1, #reports)
    assert.equal(err, reports[1].error)
    assert.equal(pair.client.transport, reports[1].transport)
    assert.equal(pair.client, reports[1].protocol)
    assert.matches(name, reports[1].message, 1, true)
  end)

  it("is reported and that is all: connection_lost", function()
    local reports <close> = tasks.reports()
    do
      local pair <close> = protocols.pair {
        client = { connection_lost = function() error("lost twice?") end },
      }
      pair.client.transport:close()
      pair.client:lost()
      pair.peer:lost()
      wait_all_blocked()
      assert.equal("made lost", pair.client:order())
    end
    assert.equal(1, #reports)
    assert.matches("lost twice?", tostring(reports[1].error), 1, true)
    assert.matches("connection_lost", reports[1].message, 1, true)
  end)

  it("has its traceback in the report", function()
    local reports <close> = tasks.reports()
    local function fail() error("a fault with a place") end
    local line = debug.getinfo(fail, "S").linedefined
    local pair <close> = protocols.pair { client = { data_received = fail } }
    pair.peer.transport:write("data")
    pair.client:lost()
    local report = reports[1]
    local traceback = report.traceback or report.error.traceback
    assert.matches("protocol_callbacks_spec.lua:" .. line .. ": in", traceback, 1, true)
  end)

  it("does not raise in the write that has called pause_writing", function()
    local reports <close> = tasks.reports()
    local pair <close> = protocols.pair {
      client = { pause_writing = function() error("no pause for me") end },
    }
    pair.client.transport:set_write_buffer_limits(0)
    pair.peer.transport:pause_reading()
    local ok = true
    for _ = 1, 4096 do
      if pair.client.paused then break end
      ok = ok and pcall(pair.client.transport.write, pair.client.transport, ("x"):rep(65536))
    end
    assert.is_true(pair.client.paused)
    assert.is_true(ok)
    pair.client:lost()
    assert.equal(1, #reports)
  end)

  it("leaves other connections alone", function()
    local reports <close> = tasks.reports()
    local sound <close> = protocols.pair()
    local broken <close> = protocols.pair { client = { data_received = function() error("x") end } }
    broken.peer.transport:write("a")
    sound.peer.transport:write("b")
    broken.client:lost()
    assert.equal("b", sound.client:received(1))
    sound.client.transport:write("c")
    assert.equal("c", sound.peer:received(1))
    assert.equal(1, #reports)
  end)

  it("may have closed the transport itself before", function()
    local reports <close> = tasks.reports()
    for _, ending in ipairs { "close", "abort" } do
      local pair <close> = protocols.pair { client = {
        data_received = function(self)
          self.transport[ending](self.transport)
          error("after " .. ending)
        end,
      } }
      pair.peer.transport:write("data")
      pair.client:lost()
      pair.peer:lost()
      assert.equal("made data lost", pair.client:order())
    end
    assert.equal(2, #reports)
  end)
end)

-- Without the resume_writing that may come while close sends what is left.
local function but_resume(order)
  return (order:gsub(" resume", ""))
end

describe("A transport that is closed inside a callback", function()
  for _, ending in ipairs { "close", "abort" } do
    each_callback("calls connection_lost once, later, with no error: " .. ending .. " in %s",
      function(name, cause)
        local inside
        local pair <close> = protocols.pair { client = {
          [name] = function(self)
            self.transport[ending](self.transport)
            inside = self:order()
            assert(self.transport:is_closing())
            return true
          end,
        } }
        cause(pair)
        pair.peer.transport:resume_reading()
        assert.is_nil(pair.client:lost())
        assert.is_nil(inside:find("lost"))
        wait_all_blocked()
        assert.equal(but_resume(inside) .. " lost", but_resume(pair.client:order()))
        pair.peer:lost()
      end)
  end

  it("may be closed and aborted in connection_lost, which changes nothing", function()
    local pair <close> = protocols.pair { client = {
      connection_lost = function(self)
        self.transport:close()
        self.transport:abort()
        self.transport:pause_reading()
        self.transport:resume_reading()
      end,
    } }
    pair.peer.transport:close()
    assert.is_nil(pair.client:lost())
    assert.equal("made eof lost", pair.client:order())
  end)

  it("is closing already when create_connection gives it", function()
    local peer = protocols.recorder()
    local server <close> = loop:create_server(function() return peer end, "127.0.0.1", 0)
    for _, ending in ipairs { "close", "abort" } do
      local protocol = protocols.recorder {
        connection_made = function(_, transport) transport[ending](transport) end,
      }
      local transport, same = loop:create_connection(function() return protocol end,
        "127.0.0.1", server:port())
      assert.equal(protocol, same)
      assert.is_true(transport:is_closing())
      assert.is_nil(protocol:lost())
      protocol:check()
      peer:lost()
      peer:check()
      peer = protocols.recorder()
    end
  end)
end)

describe("Writing inside callbacks", function()
  it("reaches the peer from each of them, in order", function()
    local function writing(word)
      return function(self)
        self.transport:write(word)
        return true
      end
    end
    local pair <close> = protocols.pair { client = {
      connection_made = writing("made "), data_received = writing("data "),
      eof_received = function(self)
        self.transport:write("eof ")
        return true
      end,
    } }
    assert.equal("made ", pair.peer:received(5))
    pair.peer.transport:write("x")
    assert.equal("made data ", pair.peer:received(10))
    pair.peer.transport:write_eof()
    assert.equal("made data eof ", pair.peer:received(14))
  end)

  it("is dropped in connection_lost when it was the peer who ended it", function()
    local written
    local pair <close> = protocols.pair { client = {
      connection_lost = function(self)
        written = pcall(self.transport.write, self.transport, "x")
      end,
    } }
    protocols.reset(pair.peer.transport)
    pair.client:lost()
    assert.is_true(written)
  end)

  it("and closing in one sends what was written", function()
    local pair <close> = protocols.pair { client = {
      connection_made = function(_, transport)
        transport:write("hello and ")
        transport:write("goodbye")
        transport:close()
      end,
    } }
    assert.equal("hello and goodbye", pair.peer:finished())
    assert.is_nil(pair.client:lost())
    assert.equal("made lost", pair.client:order())
  end)
end)

describe("Pausing inside callbacks", function()
  it("keeps back all data from connection_made on", function()
    local pair <close> = protocols.pair { client = {
      connection_made = function(_, transport) transport:pause_reading() end,
    } }
    pair.peer.transport:write("waits")
    wait_all_blocked()
    assert.equal("made", pair.client:order())
    pair.client.transport:resume_reading()
    assert.equal("waits", pair.client:received(5))
  end)

  it("keeps back what comes after the data at hand", function()
    local pair <close> = protocols.pair { client = {
      data_received = function(self) self.transport:pause_reading() end,
    } }
    pair.peer.transport:write("one")
    assert.equal("one", pair.client:received(3))
    pair.peer.transport:write("two")
    pair.peer.transport:close()
    pair.peer:lost()
    wait_all_blocked()
    assert.equal("one", pair.client:text())
    pair.client.transport:resume_reading()
    assert.equal("onetwo", pair.client:received(6))
    wait_all_blocked()
    assert.equal("made data", pair.client:order())
    pair.client.transport:resume_reading()
    assert.is_nil(pair.client:lost())
    assert.equal("made data eof lost", pair.client:order())
  end)

  it("and resuming at once changes nothing", function()
    local pair <close> = protocols.pair { client = {
      data_received = function(self)
        self.transport:pause_reading()
        self.transport:resume_reading()
      end,
    } }
    for i = 1, 5 do
      pair.peer.transport:write("piece " .. i)
      pair.client:received(7 * i)
    end
    assert.equal("piece 1piece 2piece 3piece 4piece 5", pair.client:text())
  end)
end)

describe("The end of a run", function()
  it("aborts the transports that are open, and calls connection_lost", function()
    local server = moonloop.start_server(function(stream) stream:read() end, "127.0.0.1", 0)
    local protocol = protocols.recorder()
    moonloop.run(function()
      loop:create_connection(function() return protocol end, "127.0.0.1", server:port())
    end)
    assert.equal("made lost", protocol:order())
    assert.is_nil(protocol.err)
    assert.is_true(protocol.transport:is_closing())
    server:close()
    server:wait_closed()
  end)

  it("does so for a server's transports, too", function()
    local protocol, stream = protocols.recorder(), nil
    moonloop.run(function()
      local server = loop:create_server(function() return protocol end, "127.0.0.1", 0)
      stream = moonloop.connect("127.0.0.1", server:port())
      protocol:wait(function() return protocol.transport end)
    end)
    assert.equal("made lost", protocol:order())
    assert.is_true(stream:is_closing())
  end)

  it("comes after connection_lost, whatever that does", function()
    local status, out, err = script.run [[
      local moonloop = require "moonloop"
      local loop = moonloop.get_running_loop()
      local Talker = moonloop.Protocol:extend {
        connection_made = function(self, transport) self.transport = transport end,
        connection_lost = function(self, err)
          print("lost", err)
          pcall(self.transport.write, self.transport, "too late")
          self.transport:close()
          self.transport:abort()
        end,
      }
      local server = loop:create_server(Talker, "127.0.0.1", 0)
      loop:create_connection(Talker, "127.0.0.1", server:port())
      moonloop.testing.wait_all_blocked()
      print "end of the script"
    ]]
    assert.equal("", err)
    assert.equal("end of the script\nlost\tnil\nlost\tnil\n", out)
    assert.equal(0, status)
  end)

  it("does not wait for what a peer does not read", function()
    local status, out, err = script.one_line [[
      local loop = moonloop.get_running_loop()
      local Peer = moonloop.Protocol:extend {
        connection_made = function(_, transport) transport:pause_reading() end,
      }
      local Filler = moonloop.Protocol:extend {
        connection_made = function(_, transport)
          transport:write(("x"):rep(32 * 1024 * 1024))
        end,
        connection_lost = function(_, err) print("lost", err) end,
      }
      local server = loop:create_server(Peer, "127.0.0.1", 0)
      loop:create_connection(Filler, "127.0.0.1", server:port())
    ]]
    assert.equal("", err)
    assert.equal("lost\tnil\n", out)
    assert.equal(0, status)
  end)
end)
