-- SPDX-License-Identifier: MIT
-- Many connections at once whose protocols write, pause, half-close, close, abort, reset and
-- raise at random, inside their callbacks and from tasks, break no promise: the order of
-- callbacks holds, no byte is lost, doubled or out of place, and nothing is left open. The
-- seeds are in the names; MOONLOOP_TORTURE_SEED=N runs that one alone.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local protocols = require "spec.support.protocols"
local tasks = require "spec.support.tasks"

local loop = moonloop.get_event_loop()
local R = math.random

local SEEDS, PAIRS, ROUNDS, LARGEST = 6, 30, 40, 90000

local TEXT = net.text(1024 * 1024 + 13)
local TWICE = TEXT .. TEXT

local function seeds()
  local asked = tonumber(os.getenv("MOONLOOP_TORTURE_SEED"))
  if asked then return { math.tointeger(asked) } end
  local list = {}
  for i = 1, SEEDS do list[i] = R(1, 1000000) end
  return list
end

-- The `count` bytes that stand at `offset` in what each side writes.
local function piece(offset, count)
  local from = offset % #TEXT
  return TWICE:sub(from + 1, from + count)
end

-- ---- what a protocol may do ----------------------------------------------------

local acts = {}

local function may_write(recorder)
  return not recorder.ends and not recorder.is_lost
end

local function write(recorder, method)
  if not may_write(recorder) then return end
  local count = R(8) == 1 and R(0, LARGEST) or R(0, 900)
  local data = piece(recorder.written, count)
  recorder.written = recorder.written + count -- before pause_writing is called within
  if method == "write" then return recorder.transport:write(data) end
  local cut = R(0, count)
  recorder.transport:writelines { data:sub(1, cut), data:sub(cut + 1) }
end

function acts.write(recorder) write(recorder, "write") end

function acts.writelines(recorder) write(recorder, "writelines") end

-- Reading goes on some time in any case.
function acts.pause_reading(recorder)
  if recorder.is_lost then return end
  recorder.transport:pause_reading()
  recorder.resumes = recorder.resumes or {}
  table.insert(recorder.resumes, moonloop.create_task(function()
    moonloop.sleep(R(0, 2) * 0.001)
    recorder.transport:resume_reading()
  end))
end

function acts.limits(recorder)
  local high = R(0, 3) * 10000
  recorder.transport:set_write_buffer_limits(high, R(0, high))
end

function acts.look(recorder)
  local transport = recorder.transport
  local low, high = transport:get_write_buffer_limits()
  assert(low <= high and transport:get_write_buffer_size() >= 0)
  return tostring(transport), transport:is_reading(), transport:get_extra_info("peername")
end

function acts.half_close(recorder)
  if recorder.is_lost or recorder.ends and recorder.ends ~= "write_eof" then return end
  recorder.ends = "write_eof"
  recorder.transport:write_eof()
end

function acts.close(recorder)
  recorder.ends = recorder.ends or "close"
  recorder.transport:close()
end

-- From now on the peer may miss some of what was written.
function acts.abort(recorder)
  recorder.ends, recorder.cuts = recorder.ends or "abort", true
  recorder.transport:abort()
end

function acts.reset(recorder)
  if recorder.kind ~= "tcp" or recorder.transport:is_closing() then return end
  recorder.ends, recorder.cuts = recorder.ends or "reset", true
  protocols.reset(recorder.transport)
end

local GENTLE = { "write", "write", "write", "writelines", "pause_reading", "limits", "look" }
local HARSH = { "half_close", "close", "abort", "reset" }

local function act(recorder)
  for _ = 1, R(0, 3) do
    local list = R(60) == 1 and HARSH or GENTLE
    acts[list[R(#list)]](recorder)
  end
end

-- ---- protocols that do so in their callbacks ---------------------------------------

local function random_callback(raised)
  return function(recorder)
    act(recorder)
    if R(150) == 1 then
      recorder.ends, recorder.cuts = recorder.ends or "raise", true
      raised[#raised + 1] = { number = #raised + 1 }
      error(raised[#raised])
    end
    return R(2) == 1
  end
end

local function check_data(recorder, data)
  local offset = recorder.size - #data
  if piece(offset, #data) ~= data then
    recorder.broken[#recorder.broken + 1] = "other bytes than were written at " .. offset
  end
end

local function extra(raised)
  local any = random_callback(raised)
  return {
    connection_made = function(recorder)
      recorder.written, recorder.discards = 0, true
      recorder.transport:get_extra_info("socket"):setsockopt("SO_SNDBUF", 4096) -- soon full
      return any(recorder)
    end,
    data_received = function(recorder, data)
      check_data(recorder, data)
      return any(recorder)
    end,
    eof_received = function(recorder)
      local stays = any(recorder)
      if not stays then recorder.ends = recorder.ends or "eof" end
      return stays
    end,
    pause_writing = any,
    resume_writing = any,
    connection_lost = function(recorder)
      acts.look(recorder)
      any(recorder)
    end,
  }
end

local function random_pair(raised)
  local kind = protocols.kinds[R(#protocols.kinds)]
  local pair = protocols.pair { kind = kind, client = extra(raised), peer = extra(raised) }
  pair.client.kind, pair.peer.kind = kind, kind
  return pair
end

-- Closes one end and then the other, at once or when the first is through, and aborts them when
-- both have more to send than fits. Awaits.
local function bring_to_an_end(pair)
  local both = { pair.client, pair.peer }
  local first, second = both[1], both[2]
  if R(2) == 1 then first, second = second, first end
  acts.close(first)
  if R(3) > 1 then
    second.transport:resume_reading()
    moonloop.move_on_after(0.1, function() first:lost() end)
  end
  acts.close(second)
  moonloop.move_on_after(0.2, function()
    for _, recorder in ipairs(both) do recorder:lost() end
  end)
  for _, recorder in ipairs(both) do
    if not recorder.is_lost then acts.abort(recorder) end
    recorder:lost()
    for _, task in ipairs(recorder.resumes or {}) do task:await() end
  end
end

-- Acts from a task now and then, and checks what has come in the end. Awaits.
local function live(raised)
  local pair <close> = random_pair(raised)
  for _ = 1, ROUNDS do
    moonloop.sleep(R(0, 2) * 0.0005)
    act(R(2) == 1 and pair.client or pair.peer)
  end
  bring_to_an_end(pair)
  for sender, receiver in pairs { [pair.client] = pair.peer, [pair.peer] = pair.client } do
    assert(receiver.size <= sender.written, "more came than was written")
    if receiver.ended and not sender.cuts and not sender.err then
      assert.equal(sender.written, receiver.size)
    end
  end
  return pair.client.size + pair.peer.size
end

describe("Protocols that do anything at any time", function()
  for _, seed in ipairs(seeds()) do
    it("break no promise with seed " .. seed, function()
      math.randomseed(seed)
      local reports <close> = tasks.reports()
      local raised, all, moved = {}, {}, 0
      for i = 1, PAIRS do
        all[i] = moonloop.create_task(live, raised)
      end
      for i = 1, PAIRS do moved = moved + all[i]:await() end
      moonloop.testing.wait_all_blocked()
      assert.equal(#raised, #reports)
      for i = 1, #raised do
        assert.is_not_nil(tasks.find(reports, function(report)
          return report.error == raised[i]
        end))
      end
      assert.is_true(moved > 0)
      assert.is_true(loop:is_running())
    end)
  end
end)
