-- SPDX-License-Identifier: MIT
-- Stream:sendfile cut short: by a cancellation, by the end of its own stream or of the peer's, by
-- a scope's deadline; what has gone out then, and where the file stands.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

-- More than the system's buffers take in.
local LARGE <const> = net.text(12 * 1024 * 1024)

-- A sendfile that cannot go on, since nobody reads. Awaits.
-- @return its task, the Lua file that it sends
local function stuck(stream, offset)
  local file <close> = pipes.file(LARGE)
  local lua_file = assert(io.open(file.path, "rb"))
  local task = tasks.start(function() return stream:sendfile(lua_file, offset) end)
  assert(not task:done(), "all was sent at once")
  return task, lua_file
end

-- All that comes until the end of file or an error, and that error.
local function read_all(stream)
  local pieces = {}
  local ok, err = pcall(function()
    for piece in stream:chunks() do pieces[#pieces + 1] = piece end
  end)
  return table.concat(pieces), not ok and err or nil
end

describe("Stream:sendfile that is cancelled in the middle", function()
  it("has sent what the file's position says, and nothing after that", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client)
    local _ <close> = file
    assert.is_true(tasks.cancel(task))
    local sent = file:seek()
    assert.is_true(sent > 0 and sent < #LARGE)
    local writer = moonloop.create_task(function()
      pair.client:write("after")
      pair.client:write_eof()
    end)
    assert.is_true(pair.peer:readexactly(sent) == LARGE:sub(1, sent))
    assert.equal("after", pair.peer:read())
    writer:await()
  end)

  it("counts the position from its offset", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client, 1000)
    local _ <close> = file
    assert.is_true(tasks.cancel(task))
    local stands = file:seek()
    pair.client:close()
    assert.is_true(pair.peer:read() == LARGE:sub(1001, stands))
  end)

  it("hands its turn to the next writer", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client)
    local _ <close> = file
    local second = tasks.start(function() pair.client:write("second ") end)
    local third = tasks.start(function() return pair.client:sendfile(file, 0, 16) end)
    assert.is_true(tasks.cancel(task))
    local sent = file:seek()
    assert.is_true(pair.peer:readexactly(sent) == LARGE:sub(1, sent))
    assert.equal("second " .. LARGE:sub(1, 16), pair.peer:readexactly(23))
    second:await()
    assert.equal(16, third:await())
  end)

  it("can be taken up again where it stopped", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client)
    local _ <close> = file
    assert.is_true(tasks.cancel(task))
    local sent = file:seek()
    local rest = moonloop.create_task(function() return pair.client:sendfile(file, sent) end)
    assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
    assert.equal(#LARGE - sent, rest:await())
  end)

  it("can be ended by a deadline", function()
    local pair <close> = net.pair()
    local file <close> = pipes.file(LARGE)
    local sendfile = pair.client.sendfile
    assert.is_false(moonloop.move_on_after(0.05, sendfile, pair.client, file.path))
    assert.is_false(pair.client:is_closing())
  end)

  it("closes the file that it opened", function()
    local pair <close> = net.pair()
    local file <close> = pipes.file(LARGE)
    local task = tasks.start(function() pair.client:sendfile(file.path) end)
    assert.equal(1, pipes.count_descriptors(file.path))
    assert.is_true(tasks.cancel(task))
    assert.equal(0, pipes.count_descriptors(file.path))
  end)
end)

describe("Stream:sendfile whose own stream ends", function()
  it("raises InvalidStateError when that is closed, and the peer has a part", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client)
    local _ <close> = file
    pair.client:close()
    net.raises("InvalidStateError", task.await, task)
    local sent = file:seek()
    assert.is_true(sent > 0 and sent < #LARGE)
    assert.is_true(pair.peer:read() == LARGE:sub(1, sent))
  end)

  it("raises InvalidStateError when that is aborted", function()
    local pair <close> = net.pair()
    local task, file = stuck(pair.client)
    local _ <close> = file
    local waiting = tasks.start(function() pair.client:sendfile(file) end)
    pair.client:abort()
    net.raises("InvalidStateError", task.await, task)
    net.raises("InvalidStateError", waiting.await, waiting)
    local got = read_all(pair.peer)
    assert.is_true(got == LARGE:sub(1, #got))
  end)

  it("lets go of the file that it opened", function()
    for _, ending in ipairs({ "close", "abort" }) do
      local pair <close> = net.pair()
      local file <close> = pipes.file(LARGE)
      local task = tasks.start(function() pair.client:sendfile(file.path) end)
      assert.equal(1, pipes.count_descriptors(file.path))
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", task.await, task)
      assert.equal(0, pipes.count_descriptors(file.path))
    end
  end)
end)

describe("Stream:sendfile whose peer ends", function()
  it("raises ConnectionResetError after a reset, and the file stands in the middle", function()
    local raw <close> = peers.raw()
    local port = raw:ask("listen 5")
    local stream <close> = moonloop.connect("127.0.0.1", math.tointeger(port))
    raw:ask("accept")
    local task, file = stuck(stream)
    local _ <close> = file
    raw:ask("reset")
    local err = net.raises("ConnectionResetError", task.await, task)
    assert.equal("ECONNRESET", err.code)
    local stands = file:seek()
    assert.is_true(stands > 0 and stands < #LARGE)
    net.raises("ConnectionError", stream.sendfile, stream, file)
  end)

  it("raises a ConnectionError when the peer goes away, over TCP and over a socketpair", function()
    for _, new_pair in ipairs({ net.pair, pipes.pair }) do
      local pair <close> = new_pair()
      local task, file = stuck(pair.client)
      local _ <close> = file
      local waiting = tasks.start(function() pair.client:write("x") end)
      pair.peer:abort()
      local err = net.raises("ConnectionError", task.await, task)
      assert.is_true(err.kind == "BrokenPipeError" or err.kind == "ConnectionResetError")
      net.raises("ConnectionError", waiting.await, waiting)
    end
  end)

  it("raises BrokenPipeError when the peer had gone before", function()
    local pair <close> = pipes.pair()
    local file <close> = pipes.file(LARGE)
    pair.peer:close()
    pair.peer:wait_closed()
    local err = net.raises("BrokenPipeError", pair.client.sendfile, pair.client, file.path)
    assert.equal("EPIPE", err.code)
  end)
end)
