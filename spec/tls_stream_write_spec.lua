-- SPDX-License-Identifier: MIT
-- Writing to a Stream over TLS, by both versions, and ending it: every call that writes, files,
-- relays, half-closes both ways, close, abort and to-be-closed variables, as far as no connection
-- fails. A peer that does not read is in tls_backpressure_spec.
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local SIZE = 100000 -- several records of the largest size

-- Has a task read all that comes to a stream. Awaits.
-- @return function that waits for it
local function collecting(stream)
  local task = tasks.start(stream.read, stream)
  return function() return task:await() end
end

local function writing_specs(version)
  describe("Writing over " .. version, function()
    local opts = { version = version }

    it("takes strings, one after the other", function()
      local pair <close> = link.socketpair(opts)
      pair.client:write("one ", "two ", 3, "")
      pair.client:writelines { " four", " five" }
      assert.is_true(pair.client:try_write(" six"))
      pair.client:drain()
      pair.client:close()
      assert.equal("one two 3 four five six", pair.peer:read())
    end)

    it("sends much, both ways at once", function()
      local pair <close> = link.socketpair(opts)
      local text = net.text(10 * SIZE)
      local here, there = collecting(pair.client), collecting(pair.peer)
      local writer = moonloop.create_task(function()
        pair.peer:write(text)
        pair.peer:write_eof()
      end)
      pair.client:write(text)
      pair.client:write_eof()
      assert.is_true(there() == text)
      assert.is_true(here() == text)
      writer:await()
    end)

    it("sends bytes of any value, and nothing where there is nothing", function()
      local pair <close> = link.socketpair(opts)
      pair.client:write("")
      pair.client:writelines {}
      assert.is_true(pair.client:try_write(""))
      pair.client:write("a\0b\255\r\n")
      assert.equal("a\0b\255\r\n", pair.peer:readexactly(6))
    end)

    it("keeps the order of tasks that write at the same time", function()
      local pair <close> = link.socketpair(opts)
      local writers = {}
      for i = 1, 20 do
        writers[i] = moonloop.create_task(pair.client.write, pair.client, ("%02d\n"):format(i))
      end
      for i = 1, 20 do assert.equal(i, tonumber(pair.peer:readline())) end
      for i = 1, 20 do writers[i]:await() end
    end)

    it("refuses other values before anything is sent", function()
      local pair <close> = link.socketpair(opts)
      net.refuses("bad argument #2 to 'write'", function()
        local _ = pair.client:write("good", {})
      end)
      pair.client:close()
      assert.equal("", pair.peer:read())
    end)

    it("is over after write_eof, close and abort", function()
      for _, ending in ipairs { "write_eof", "close", "abort" } do
        local pair <close> = link.socketpair(opts)
        pair.client[ending](pair.client)
        for _, method in ipairs { "write", "try_write" } do
          net.raises("InvalidStateError", pair.client[method], pair.client, "x")
        end
      end
    end)

    it("fails after the peer has closed", function()
      local pair <close> = link.pair(version)
      pair.peer:close()
      pair.peer:wait_closed()
      assert.is_nil(pair.client:read(1))
      local failed
      for _ = 1, 10 do
        failed = tasks.kind(pair.client.write, pair.client, "too late")
        if failed then break end
        wait_all_blocked()
      end
      assert.is_true(failed == "BrokenPipeError" or failed == "ConnectionResetError")
    end)
  end)
end

local function file_specs(version)
  describe("sendfile over " .. version, function()
    local opts = { version = version }
    local TEXT = net.text(SIZE)

    -- Sends with these arguments behind the stream, and gives what arrives. Awaits.
    local function sent(...)
      local pair <close> = link.socketpair(opts)
      local all = collecting(pair.peer)
      pair.client:write("before ")
      local count = pair.client:sendfile(...)
      pair.client:write(" after")
      pair.client:close()
      local text = all()
      assert.equal("before ", text:sub(1, 7))
      assert.equal(" after", text:sub(-6))
      assert.equal(count, #text - 13)
      return text:sub(8, -7)
    end

    it("sends a file by its path, whole or a part of it", function()
      local file <close> = pipes.file(TEXT)
      assert.is_true(sent(file.path) == TEXT)
      assert.is_true(sent(file.path, 1000) == TEXT:sub(1001))
      assert.is_true(sent(file.path, 1, 50000) == TEXT:sub(2, 50001))
      assert.equal("", sent(file.path, SIZE))
      assert.equal("", sent(file.path, 0, 0))
    end)

    it("sends an open file and leaves its position behind what was sent", function()
      local file <close> = pipes.file(TEXT)
      local open <close> = assert(io.open(file.path, "rb"))
      assert.is_true(sent(open, 10, 40000) == TEXT:sub(11, 40010))
      assert.equal(40010, open:seek())
    end)

    it("sends what comes out of a pipe", function()
      local pipe <close> = assert(io.popen("printf 'out of a pipe'"))
      assert.equal("out of a pipe", sent(pipe))
    end)

    it("raises FileNotFoundError, and the stream goes on", function()
      local pair <close> = link.socketpair(opts)
      net.raises("FileNotFoundError", pair.client.sendfile, pair.client, "/nonexistent/file")
      pair.client:write("still here")
      assert.equal("still here", pair.peer:readexactly(10))
    end)
  end)

  describe("relay over " .. version, function()
    it("copies both ways between TLS and plain, half-closes included", function()
      local inner <close> = link.socketpair { version = version }
      local outer <close> = pipes.pair()
      local relay = moonloop.create_task(moonloop.relay, outer.peer, inner.client)
      local text = net.text(SIZE)
      local there = collecting(inner.peer)
      outer.client:write(text)
      outer.client:write_eof()
      assert.is_true(there() == text)
      local back = collecting(outer.client)
      inner.peer:write(text)
      inner.peer:write_eof()
      assert.is_true(back() == text)
      assert.same({ SIZE, SIZE }, { relay:await() })
    end)
  end)
end

local function ending_specs(version)
  describe("write_eof over " .. version, function()
    it("ends one direction, from either side, and the other goes on", function()
      for _, first in ipairs { "client", "peer" } do
        local pair <close> = link.pair(version)
        local here = pair[first]
        local there = first == "client" and pair.peer or pair.client
        assert.is_true(here:can_write_eof())
        here:write("question")
        here:write_eof()
        assert.equal("question", there:read())
        assert.is_true(there:at_eof())
        local answer = tasks.start(here.read, here)
        assert.is_false(answer:done())
        net.trickle(there, net.text(200), 50)
        there:write_eof()
        assert.equal(net.text(200), answer:await())
      end
    end)

    it("may be said twice, and close after it", function()
      local pair <close> = link.pair(version)
      pair.client:write_eof()
      pair.client:write_eof()
      pair.client:close()
      pair.client:wait_closed()
      assert.equal("", pair.peer:read())
    end)

    it("of both ends at the same time is no error", function()
      local pair <close> = link.pair(version)
      pair.client:write("a")
      pair.peer:write("b")
      pair.client:write_eof()
      pair.peer:write_eof()
      assert.equal("b", pair.client:read())
      assert.equal("a", pair.peer:read())
    end)
  end)

  describe("Closing over " .. version, function()
    it("sends what was written and the end, and does not wait for the peer's", function()
      local pair <close> = link.pair(version)
      pair.client:write("bye")
      pair.client:close()
      pair.client:wait_closed()
      assert.is_true(pair.client:is_closing())
      assert.is_false(pair.peer:is_closing())
      assert.equal("bye", pair.peer:read())
    end)

    it("may be said twice, and after abort, and abort after it", function()
      local pair <close> = link.pair(version)
      pair.client:close()
      pair.client:close()
      pair.client:abort()
      pair.client:abort()
      pair.client:close()
      pair.client:wait_closed()
      pair.client:wait_closed()
      assert.is_true(pair.client:is_closing())
    end)

    it("at the end of a block sends what was written and the end", function()
      local pair <close> = link.pair(version)
      do
        local stream <close> = pair.client
        stream:write("last words")
      end
      assert.is_true(pair.client:is_closing())
      assert.equal(-1, pair.client:fileno())
      assert.equal("last words", pair.peer:read())
    end)

    it("both ends at the same time is no error", function()
      local pair <close> = link.pair(version)
      pair.client:close()
      pair.peer:close()
      pair.client:wait_closed()
      pair.peer:wait_closed()
    end)

    it("by the collector sends what was written", function()
      local ended = moonloop.Future()
      local client, server_context = link.contexts(version)
      local server <close> = moonloop.start_server(function(stream)
        ended:set_result(stream:readexactly(9))
      end, "127.0.0.1", 0, { tls = server_context })
      local function leave_one()
        local stream = moonloop.connect("127.0.0.1", server:port(),
          { tls = client, server_hostname = "localhost" })
        stream:write("left open")
      end
      leave_one()
      tasks.collect()
      assert.equal("left open", ended:await())
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  writing_specs(version)
  file_specs(version)
  ending_specs(version)
end
