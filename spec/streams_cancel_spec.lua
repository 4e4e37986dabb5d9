-- SPDX-License-Identifier: MIT
-- Readers and writers that are cancelled at every await, before their data come, in the midst of
-- them and in the turn in which they come: no byte is lost or doubled, a cancelled write has
-- written nothing, and who writes after it is served in order.
local moonloop = require "moonloop"
local delivery = require "spec.support.delivery"
local net = require "spec.support.net"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local BOTH_WAYS = { "TCP", "a socketpair" }

-- ---- a reader ----------------------------------------------------------------

-- What is read: records of eight bytes.
local function numbered(count)
  local list = {}
  for i = 1, count do list[i] = ("%06d;\n"):format(i) end
  return table.concat(list)
end

-- What a call gives, and what is left when the stream ends within it.
local function or_part(call)
  return function(s)
    local ok, got = moonloop.pcall(call, s)
    if ok then return got end
    assert(moonloop.is_error(got, "IncompleteReadError"), got)
    return got.partial
  end
end

-- Each takes some bytes and gives them.
local READS = {
  or_part(function(s) return s:readexactly(5) end),
  function(s) return s:readline() end,
  function(s) return s:read(3) end,
  or_part(function(s) return s:readuntil({ ";\n", "00" }) end),
  function(s)
    local seen = s:peek(4)
    local got = seen and s:readexactly(#seen)
    assert(got == seen, "peek saw other bytes than were read")
    return got
  end,
  function(s)
    local line = s:lines()()
    return line and line .. "\n"
  end,
  function(s) return s:chunks(11)() end,
  or_part(function(s) return s:readuntil("\n0") end),
}

-- A reader that goes on where it was cancelled: all that it took is in `text()`.
local Reader = {}
Reader.__index = Reader

-- `how(call)` calls it, and may give false for a call that was given up.
local function new_reader(stream, how)
  local self = setmetatable({ stream = stream, got = {}, calls = 0 }, Reader)
  self.how = how or function(call) return call(stream) end
  self:go_on()
  return self
end

function Reader:go_on()
  self.task = moonloop.create_task(function()
    while true do
      self.calls = self.calls + 1
      local piece = self.how(READS[self.calls % #READS + 1])
      if piece == nil then return end
      self.got[#self.got + 1] = piece or nil
    end
  end)
end

-- Cancels the task, whose place another one takes.
function Reader:cancel()
  self.task:cancel()
  local ok, err = tasks.outcome(self.task)
  assert(ok or moonloop.is_error(err, "CancelledError"), err)
  if not ok then self:go_on() end
end

-- All that was read until the end of file.
function Reader:text()
  self.task:await()
  return table.concat(self.got)
end

-- ---- moments -----------------------------------------------------------------

-- When a reader that waits in a call is cancelled. Each is given one byte to send.
local MOMENTS = {
  { name = "before its data come", act = function(link, reader, byte)
    reader:cancel()
    link.far:write(byte)
  end },
  { name = "when a part of its data is there", act = function(link, reader, byte)
    link.far:write(byte)
    wait_all_blocked()
    reader:cancel()
  end },
  { name = "in the turn in which its data come", act = function(link, reader, byte)
    link.far:write(byte)
    reader:cancel()
  end },
  { name = "in the turn after its data came", act = function(link, reader, byte)
    link.far:write(byte)
    moonloop.sleep(0)
    reader:cancel()
  end },
}

-- Sends `data` byte by byte and cancels where `is_due(calls, times)` holds, which is given how many
-- calls the reader has begun and how often it was due before. Returns how often that was.
local function read_with_cancels(kind, data, moment, is_due)
  local link <close> = delivery.link(kind)
  local reader, due = new_reader(link.near), 0
  for byte in data:gmatch(".") do
    wait_all_blocked()
    if is_due(reader.calls, due) then
      due = due + 1
      moment.act(link, reader, byte)
    else
      link.far:write(byte)
    end
  end
  link.far:write_eof()
  assert.equal(data, reader:text())
  return due
end

for _, kind in ipairs(BOTH_WAYS) do
  describe("A reader over " .. kind, function()
    for _, moment in ipairs(MOMENTS) do
      it("loses and doubles nothing when it is cancelled at its n-th await, " .. moment.name,
        function()
          local data, last = numbered(8), nil
          for n = 1, 100 do
            local due = read_with_cancels(kind, data, moment, function(calls, due)
              return due == 0 and calls >= n
            end)
            if due == 0 then break end
            last = n
          end
          assert.is_true(last > #READS)
        end)

      it("loses and doubles nothing when it is cancelled at every await, " .. moment.name,
        function()
          local data = numbered(20)
          local due = read_with_cancels(kind, data, moment, function() return true end)
          assert.equal(#data, due)
        end)
    end

    it(("loses and doubles nothing when it is cancelled at random (SPEC_SEED=%d)")
      :format(delivery.seed), function()
      local random = delivery.random(delivery.seed)
      local link <close> = delivery.link(kind)
      local data, first = numbered(100), 1
      local reader = new_reader(link.near)
      while first <= #data do
        local act = random(1, 4)
        if act == 1 then
          local size = random(1, 20)
          link.far:write(data:sub(first, first + size - 1))
          first = first + size
        elseif act == 2 then
          reader:cancel()
        elseif act == 3 then
          moonloop.sleep(0)
        else
          wait_all_blocked()
        end
      end
      link.far:write_eof()
      assert.equal(data, reader:text(), "SPEC_SEED=" .. delivery.seed)
    end)

    it(("loses and doubles nothing by timeouts of 0 (SPEC_SEED=%d)"):format(delivery.seed),
      function()
        local random = delivery.random(delivery.seed)
        local link <close> = delivery.link(kind)
        local data, gave_up = numbered(100), 0
        local reader = new_reader(link.near, function(call)
          if random(1, 3) == 1 then return call(link.near) end
          local ok, piece = moonloop.move_on_after(0, call, link.near)
          if not ok then gave_up = gave_up + 1 end
          return ok and piece
        end)
        for first = 1, #data, 7 do
          link.far:write(data:sub(first, first + 6))
          moonloop.sleep(0)
        end
        link.far:write_eof()
        assert.equal(data, reader:text(), "SPEC_SEED=" .. delivery.seed)
        assert.is_true(gave_up > 0)
      end)

    it("has what a timeout of 0 left, and the TimeoutError", function()
      local link <close> = delivery.link(kind)
      link.far:write("whole\n")
      for _ = 1, 5 do
        local ok, got = pcall(function()
          local _ <close> = moonloop.timeout(0)
          return link.near:readexactly(7)
        end)
        assert.is_false(ok)
        assert.is_true(moonloop.is_error(got, "TimeoutError"))
      end
      assert.equal("whole\n", link.near:readline())
    end)
  end)
end

-- ---- writers -----------------------------------------------------------------

local FILLER = ("x"):rep(70000) -- so much that the next write waits

local WRITES = {
  function(s, record) s:write(record, FILLER, "\n") end,
  function(s, record) s:writelines({ record, FILLER .. "\n" }) end,
}

-- Reads a record as WRITES writes them.
local function read_record(stream)
  local record, filler = stream:readline():match("^(%d+:%d+;)(x*)\n$")
  assert(filler == FILLER, "a record with other data in it")
  return record
end

-- Writes records until it is cancelled, the next one each time that it is started.
local function new_writer(stream, name, count)
  local self = { next = 1 }
  function self.go_on()
    self.task = moonloop.create_task(function()
      while self.next <= count do
        WRITES[self.next % 2 + 1](stream, ("%d:%d;"):format(name, self.next))
        self.next = self.next + 1
      end
    end)
  end
  function self.cancel()
    self.task:cancel()
    local ok, err = tasks.outcome(self.task)
    assert(ok or moonloop.is_error(err, "CancelledError"), err)
    return not ok
  end
  self.go_on()
  return self
end

for _, kind in ipairs(BOTH_WAYS) do
  describe("A writer over " .. kind, function()
    it("writes each record once when it is cancelled at every await and goes on", function()
      local COUNT = 40
      local link <close> = delivery.link(kind)
      local filled = net.fill(link.near)
      local writer, cancelled, pieces = new_writer(link.near, 1, COUNT), 0, {}
      while not writer.task:done() do
        pieces[#pieces + 1] = link.far:readexactly(65536)
        -- In the turn in which there is room again, and in each of the next ones.
        for _ = 1, #pieces % 5 do moonloop.sleep(0) end
        if writer.cancel() then
          cancelled = cancelled + 1
          writer.go_on()
        end
        moonloop.sleep(0)
      end
      link.near:write_eof()
      pieces[#pieces + 1] = link.far:read()
      local expected = { ("0123456789abcdef"):rep(filled // 16) }
      for i = 1, COUNT do expected[i + 1] = ("1:%d;%s\n"):format(i, FILLER) end
      assert.is_true(table.concat(pieces) == table.concat(expected))
      assert.is_true(cancelled > 5)
    end)

    it(("has written what it says, when one of many is cancelled at random (SPEC_SEED=%d)")
      :format(delivery.seed), function()
      local random = delivery.random(delivery.seed)
      local link <close> = delivery.link(kind)
      local count, writers, gone = net.fill(link.near), {}, 0
      for i = 1, 20 do writers[i] = new_writer(link.near, i, 2) end
      moonloop.sleep(0)
      local reader = moonloop.create_task(function()
        net.drain_filled(link.far, count)
        local got = {}
        while link.far:peek(1) do got[read_record(link.far)] = true end
        return got
      end)
      for _ = 1, 10 do
        if writers[random(1, #writers)].cancel() then gone = gone + 1 end
        for _ = 1, random(0, 2) do moonloop.sleep(0) end
      end
      local expected = {}
      for i, writer in ipairs(writers) do
        tasks.outcome(writer.task)
        for n = 1, writer.next - 1 do expected[("%d:%d;"):format(i, n)] = true end
      end
      link.near:write_eof()
      assert.same(expected, reader:await(), "SPEC_SEED=" .. delivery.seed)
      assert.is_true(gone > 0)
    end)

    it("lets the next one write when its turn has come and it is cancelled", function()
      local link <close> = delivery.link(kind)
      local count, writers, expected = net.fill(link.near), {}, {}
      for i = 1, 300 do writers[i] = moonloop.create_task(link.near.write, link.near, i, ";") end
      local reader = moonloop.create_task(function()
        net.drain_filled(link.far, count)
        return link.far:read()
      end)
      -- The first of those who wait, in each turn: also in the one that would have been its own.
      for i = 1, 200 do
        moonloop.sleep(0)
        writers[i]:cancel()
      end
      for i, writer in ipairs(writers) do
        local ok = tasks.outcome(writer)
        if ok then expected[#expected + 1] = i .. ";" end
        assert.is_true(ok or i <= 200)
      end
      link.near:write_eof()
      assert.equal(table.concat(expected), reader:await())
      assert.is_true(#expected < 300)
    end)

    it("has written all or nothing when a timeout of 0 is over", function()
      local link <close> = delivery.link(kind)
      local expected, gave_up = {}, 0
      local reader = moonloop.create_task(function() return link.far:read() end)
      for i = 1, 60 do
        local text = ("%d:"):format(i) .. ("y"):rep(100000)
        if moonloop.move_on_after(0, link.near.write, link.near, text, "\n") then
          expected[#expected + 1] = text .. "\n"
        else
          gave_up = gave_up + 1
        end
        if i % 3 == 0 then
          link.near:write("between\n")
          expected[#expected + 1] = "between\n"
        end
      end
      link.near:write_eof()
      assert.is_true(reader:await() == table.concat(expected))
      assert.is_true(gave_up > 0)
    end)
  end)
end
