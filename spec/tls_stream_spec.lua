-- SPDX-License-Identifier: MIT
-- Reading from a Stream over TLS, by both versions: each call with its data there, coming later,
-- cancelled while it waits and closed while it waits; records and what is read of them; what the
-- stream says of itself. Writing and closing are in tls_stream_write_spec.
local delivery = require "spec.support.delivery"
local link = require "spec.support.tls_link"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

-- The calls that share how they wait: each waits with `first`, and gives `result` after `rest`.
local CALLS = {
  ["read()"] = {
    call = function(s) return s:read() end,
    first = "half ", rest = "done", result = "half done", eof = true,
  },
  ["read(n)"] = {
    call = function(s) return s:read(100) end,
    first = "", rest = "some", result = "some",
  },
  ["readexactly"] = {
    call = function(s) return s:readexactly(8) end,
    first = "four", rest = "more", result = "fourmore",
  },
  ["readline"] = {
    call = function(s) return s:readline() end,
    first = "a li", rest = "ne\n", result = "a line\n",
  },
  ["readuntil"] = {
    call = function(s) return s:readuntil({ "--", ";" }) end,
    first = "part-", rest = "-", result = "part--",
  },
  ["lines"] = {
    call = function(s) return (s:lines()()) end,
    first = "a li", rest = "ne\n", result = "a line",
  },
  ["chunks"] = {
    call = function(s) return (s:chunks(100)()) end,
    first = "", rest = "some", result = "some",
  },
  ["peek"] = {
    call = function(s)
      local seen = s:peek(100)
      assert.equal(seen, s:readexactly(#seen))
      return seen
    end,
    first = "", rest = "some", result = "some",
  },
}

-- The rest of what a call waits for.
local function finish(case, stream)
  stream:write(case.rest)
  if case.eof then stream:write_eof() end
end

local function reading_specs(version, name, case)
  describe(("%s over %s"):format(name, version), function()
    local opts = { version = version }

    it("returns at once what has come already", function()
      local pair <close> = link.socketpair(opts)
      pair.peer:write(case.first)
      finish(case, pair.peer)
      wait_all_blocked()
      assert.equal(case.result, case.call(pair.client))
    end)

    it("waits for what comes later, a record for each byte", function()
      local pair <close> = link.socketpair(opts)
      local text = case.first .. case.rest
      local task = tasks.start(case.call, pair.client)
      net.trickle(pair.peer, text, 1)
      if case.eof then pair.peer:write_eof() end
      local got = task:await()
      if #got < #case.result then got = got .. pair.client:readexactly(#text - #got) end
      assert.equal(case.result, got)
    end)

    it("consumes nothing when it is cancelled while it waits", function()
      local pair <close> = link.socketpair(opts)
      pair.peer:write(case.first)
      local task = tasks.start(case.call, pair.client)
      assert.is_false(task:done())
      assert.is_true(tasks.cancel(task))
      finish(case, pair.peer)
      assert.equal(case.result, case.call(pair.client))
    end)

    it("raises InvalidStateError when the stream is closed or aborted while it waits", function()
      for _, ending in ipairs { "close", "abort" } do
        local pair <close> = link.socketpair(opts)
        pair.peer:write(case.first)
        local task = tasks.start(case.call, pair.client)
        pair.client[ending](pair.client)
        net.raises("InvalidStateError", task.await, task)
        net.raises("InvalidStateError", case.call, pair.client)
      end
    end)

    it("raises InvalidStateError while another task reads, naming that task", function()
      local pair <close> = link.socketpair(opts)
      local task = tasks.start({ name = "the first reader" }, case.call, pair.client)
      local err = net.raises("InvalidStateError", case.call, pair.client)
      assert.matches("the first reader", err.message, 1, true)
      pair.peer:write(case.first)
      finish(case, pair.peer)
      assert.equal(case.result, task:await())
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  for name, case in pairs(CALLS) do reading_specs(version, name, case) end
end

local function record_specs(version)
  describe("What comes in records over " .. version, function()
    local SIZE = 100000 -- several records of the largest size
    local TEXT = net.text(SIZE)

    -- A link whose peer writes TEXT and ends. Awaits.
    local function sending()
      local pair = link.socketpair { version = version }
      moonloop.create_task(function()
        pair.peer:write(TEXT)
        pair.peer:write_eof()
      end)
      return pair
    end

    it("is the same whole, however it is read", function()
      local readers = {
        function(s) return s:read() end,
        function(s) return s:readexactly(SIZE) end,
        function(s)
          local pieces = {}
          for piece in s:chunks(777) do pieces[#pieces + 1] = piece end
          return table.concat(pieces)
        end,
        function(s)
          local random, pieces, size = delivery.random(delivery.seed), {}, 0
          while size < SIZE do
            local count = math.min(random(1, 40000), SIZE - size)
            assert.equal(TEXT:sub(size + 1, size + 1), s:peek(1))
            pieces[#pieces + 1] = s:readexactly(count)
            size = size + count
          end
          return table.concat(pieces)
        end,
      }
      for i, read in ipairs(readers) do
        local pair <close> = sending()
        assert(read(pair.client) == TEXT, ("reader %d (SPEC_SEED=%d)"):format(i, delivery.seed))
        assert.is_nil(pair.client:read(1))
        assert.is_true(pair.client:at_eof())
      end
    end)

    it("is left to the next call as far as one call does not want it", function()
      local pair <close> = link.socketpair { version = version }
      pair.peer:write("one\ntwo;three")
      assert.equal("one\n", pair.client:readline())
      assert.equal("two;", pair.client:readuntil(";"))
      assert.equal("th", pair.client:read(2))
      assert.equal("ree", pair.client:peek(100))
      assert.equal("", pair.client:read(0))
      assert.equal("ree", pair.client:readexactly(3))
    end)

    it("is bound by the limit", function()
      local pair <close> = link.socketpair { version = version, limit = 16 }
      pair.peer:write("a line that is too long\n")
      local err = net.raises("LimitOverrunError", pair.client.readline, pair.client)
      assert.matches("limit", err.message, 1, true)
      assert.equal("a line that is too long\n", pair.client:readexactly(24))
    end)

    it("loses no byte when data and cancellation come together", function()
      local pair <close> = link.socketpair { version = version }
      for i = 1, 50 do
        local task = tasks.start(pair.client.readexactly, pair.client, 4)
        pair.peer:write(("%04d"):format(i))
        task:cancel()
        local ok, data = tasks.outcome(task)
        if not ok then
          assert.is_true(moonloop.is_error(data, "CancelledError"))
          data = pair.client:readexactly(4)
        end
        assert.equal(i, tonumber(data))
      end
    end)
  end)
end

local function end_specs(version)
  describe("The end over " .. version, function()
    it("is nil, \"\" and at_eof, as often as it is asked", function()
      local pair <close> = link.socketpair { version = version }
      assert.is_false(pair.client:at_eof())
      pair.peer:write("last")
      pair.peer:close()
      assert.equal("last", pair.client:readline())
      for _ = 1, 2 do
        assert.equal("", pair.client:read())
        assert.is_nil(pair.client:read(1))
        assert.is_nil(pair.client:readline())
        assert.is_nil(pair.client:readexactly(1))
        assert.is_nil(pair.client:peek(1))
        assert.is_true(pair.client:at_eof())
      end
    end)

    it("in the middle of what is wanted is an IncompleteReadError", function()
      local pair <close> = link.socketpair { version = version }
      local task = tasks.start(pair.client.readexactly, pair.client, 10)
      pair.peer:write("part")
      pair.peer:write_eof()
      local err = net.raises("IncompleteReadError", task.await, task)
      assert.same({ "part", 10 }, { err.partial, err.expected })
    end)
  end)
end

local function stream_specs(version)
  describe("A Stream over " .. version, function()
    it("says what it waits for, and that it is a Stream", function()
      local pair <close> = link.pair(version)
      local task = tasks.start(pair.client.read, pair.client, 1)
      assert.matches("^read .*127%.0%.0%.1:" .. pair.server:port(), task:awaiting())
      tasks.cancel(task)
      assert.matches("^Stream: ", tostring(pair.client))
      assert.is_nil(tostring(pair.client):find("closed", 1, true))
      assert.is_true(pair.client:fileno() >= 0)
      pair.client:abort()
      assert.matches("closed", tostring(pair.client), 1, true)
      assert.equal(-1, pair.client:fileno())
    end)

    it("knows its TLS and its addresses until it is closed", function()
      local pair <close> = link.pair(version)
      for _, stream in ipairs { pair.client, pair.peer } do
        local info = stream:get_extra_info("tls")
        assert.equal(version, info.version)
        assert.equal(info.cipher, stream:get_extra_info("cipher"))
        assert.equal("127.0.0.1", stream:get_extra_info("peername").host)
      end
      assert.is_true(pair.client:get_extra_info("tls").verified)
      assert.matches("localhost", pair.client:get_extra_info("peercert").subject, 1, true)
      assert.is_nil(pair.peer:get_extra_info("peercert"))
      pair.client:close()
      pair.client:wait_closed()
      for _, name in ipairs { "tls", "cipher", "peercert" } do
        assert.is_nil(pair.client:get_extra_info(name))
        assert.equal("nothing", pair.client:get_extra_info(name, "nothing"))
      end
    end)

    it("is read in an inner coroutine", function()
      local pair <close> = link.socketpair { version = version }
      local sum = tasks.start(function()
        local total = 0
        local numbers = coroutine.wrap(function()
          for line in pair.client:lines() do coroutine.yield(tonumber(line)) end
        end)
        for number in numbers do total = total + number end
        return total
      end)
      net.trickle(pair.peer, "1\n20\n300\n4000", 2)
      pair.peer:write_eof()
      assert.equal(4321, sum:await())
    end)

    it("does not starve other tasks when data are always there", function()
      local pair <close> = link.socketpair { version = version }
      pair.peer:write(("x"):rep(16000))
      wait_all_blocked()
      local turns, reading = 0, true
      local other = moonloop.create_task(function()
        while reading do
          turns = turns + 1
          moonloop.sleep(0)
        end
      end)
      for _ = 1, 16000 do pair.client:read(1) end
      reading = false
      other:await()
      assert.is_true(turns > 2)
    end)
  end)
end

for _, version in ipairs(link.VERSIONS) do
  record_specs(version)
  end_specs(version)
  stream_specs(version)
end
