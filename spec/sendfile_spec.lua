-- SPDX-License-Identifier: MIT
-- Stream:sendfile: what it sends of a path, a Lua file and a descriptor and where these stand
-- afterwards, what it refuses, and how it takes its turn among those who write.
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local tasks = require "spec.support.tasks"

local wait_all_blocked = moonloop.testing.wait_all_blocked

local TEXT <const> = "0123456789abcdefghij"

-- More than the system's buffers take in.
local LARGE <const> = net.text(12 * 1024 * 1024 + 17)

-- What comes when the writing side ends now.
local function all_of(pair)
  pair.client:write_eof()
  return pair.peer:read()
end

local PAIRS = { ["TCP"] = net.pair, ["a socketpair"] = pipes.pair }

for name, new_pair in pairs(PAIRS) do
  describe("Stream:sendfile over " .. name, function()
    it("sends a file by its path and returns the number of bytes", function()
      local pair <close>, file = new_pair(), pipes.file(TEXT)
      local _ <close> = file
      assert.equal(20, pair.client:sendfile(file.path))
      assert.equal(TEXT, all_of(pair))
    end)

    it("sends a file that is larger than all buffers", function()
      local pair <close>, file = new_pair(), pipes.file(LARGE)
      local _ <close> = file
      local task = tasks.start(function() return pair.client:sendfile(file.path) end)
      assert.is_false(task:done())
      assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
      assert.equal(#LARGE, task:await())
      assert.equal("", all_of(pair))
    end)

    it("stands between what is written before and after", function()
      local pair <close>, file = new_pair(), pipes.file(TEXT)
      local _ <close> = file
      pair.client:write("<")
      pair.client:sendfile(file.path)
      pair.client:write(">")
      assert.equal("<" .. TEXT .. ">", all_of(pair))
    end)
  end)
end

describe("Stream:sendfile", function()
  -- offset, count, what is sent
  local PARTS = {
    { nil, nil, TEXT },
    { 0, 20, TEXT },
    { 5, nil, TEXT:sub(6) },
    { 5, 3, "567" },
    { nil, 3, "012" },
    { 19, 1, "j" },
    { 15, 100, "fghij" },
    { 20, nil, "" },
    { 1000, nil, "" },
    { 1000, 5, "" },
    { 7, 0, "" },
    { 5.0, 3.0, "567" },
  }

  for _, part in ipairs(PARTS) do
    local offset, count, sent = table.unpack(part, 1, 3)
    it(("sends %q for offset %s and count %s"):format(sent, offset, count), function()
      local pair <close>, file = net.pair(), pipes.file(TEXT)
      local _ <close> = file
      assert.equal(#sent, pair.client:sendfile(file.path, offset, count))
      assert.equal(sent, all_of(pair))
    end)
  end

  it("sends nothing of an empty file", function()
    local pair <close>, file = net.pair(), pipes.file("")
    local _ <close> = file
    assert.equal(0, pair.client:sendfile(file.path))
    assert.equal("", all_of(pair))
  end)

  it("closes the file that it opened", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    assert.equal(20, pair.client:sendfile(file.path))
    pcall(pair.client.sendfile, pair.client, file.path, 0, -1)
    assert.equal(0, pipes.count_descriptors(file.path))
  end)

  it("does not send more than the file has when it is cut short meanwhile", function()
    local pair <close>, file = net.pair(), pipes.file(LARGE)
    local _ <close> = file
    local task = tasks.start(function()
      local sent = pair.client:sendfile(file.path)
      pair.client:write_eof()
      return sent
    end)
    assert.is_false(task:done())
    io.open(file.path, "w"):close()
    local got = #pair.peer:read()
    assert.equal(got, task:await())
    assert.is_true(got < #LARGE)
  end)
end)

describe("Stream:sendfile of a Lua file", function()
  it("begins at the file's beginning and leaves it behind what was sent", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local lua_file <close> = assert(io.open(file.path, "rb"))
    assert.equal("012", lua_file:read(3))
    assert.equal(20, pair.client:sendfile(lua_file))
    assert.equal(20, lua_file:seek())
    assert.is_nil(lua_file:read(1))
    assert.equal(TEXT, all_of(pair))
  end)

  it("leaves it behind the part that was sent", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local lua_file <close> = assert(io.open(file.path, "rb"))
    assert.equal("0", lua_file:read(1))
    assert.equal(4, pair.client:sendfile(lua_file, 6, 4))
    assert.equal("a", lua_file:read(1))
    assert.equal(11, lua_file:seek())
    assert.equal("6789", all_of(pair))
  end)

  it("sends what Lua has written to it, also what it holds back still", function()
    local pair <close>, file = net.pair(), pipes.file("")
    local _ <close> = file
    local lua_file <close> = assert(io.open(file.path, "w+b"))
    lua_file:write("held back")
    assert.equal(9, pair.client:sendfile(lua_file))
    assert.equal("held back", all_of(pair))
  end)

  it("leaves it open", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local lua_file <close> = assert(io.open(file.path, "rb"))
    pair.client:sendfile(lua_file)
    assert.equal("file", io.type(lua_file))
    assert.equal(0, lua_file:seek("set"))
    assert.equal(TEXT, lua_file:read("a"))
  end)

  it("refuses one that is closed", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local lua_file = assert(io.open(file.path, "rb"))
    lua_file:close()
    net.refuses("closed", pair.client.sendfile, pair.client, lua_file)
    assert.equal("", all_of(pair))
  end)
end)

describe("Stream:sendfile of a descriptor", function()
  it("leaves it open and behind what was sent", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local lua_file <close>, fd = pipes.open(file.path, "rb")
    assert.equal(20, pair.client:sendfile(fd))
    assert.equal(20, pipes.position(fd))
    assert.equal(3, pair.client:sendfile(fd, 2, 3))
    assert.equal(5, pipes.position(fd))
    assert.equal("file", io.type(lua_file))
    assert.equal(TEXT .. "234", all_of(pair))
  end)

  it("raises an OSError for one that is not there", function()
    local pair <close> = net.pair()
    local err = net.raises("OSError", pair.client.sendfile, pair.client, 9999)
    assert.equal("EBADF", err.code)
    assert.equal("", all_of(pair))
  end)
end)

describe("Stream:sendfile refuses", function()
  it("a file that is not there, and names it", function()
    local pair <close>, nothing = net.pair(), pipes.free_path()
    local err = net.raises("FileNotFoundError", pair.client.sendfile, pair.client, nothing.path)
    assert.equal("ENOENT", err.code)
    assert.matches(nothing.path, err.message, 1, true)
    pair.client:write("still usable")
    assert.equal("still usable", all_of(pair))
  end)

  it("a directory", function()
    local pair <close> = net.pair()
    local err = net.raises("IsADirectoryError", pair.client.sendfile, pair.client, "/tmp")
    assert.equal("EISDIR", err.code)
    pair.client:write("still usable")
    assert.equal("still usable", all_of(pair))
  end)

  it("what is no file, no offset, no count", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local path = file.path
    local WRONG = {
      { "#1", nil }, { "#1", true }, { "#1", {} }, { "#1", print }, { "#1", 1.5 },
      { "#2", path, "x" }, { "#2", path, -1 }, { "#2", path, 0.5 }, { "#2", path, {} },
      { "#3", path, 0, "x" }, { "#3", path, 0, -1 }, { "#3", path, nil, 0.5 },
    }
    for _, wrong in ipairs(WRONG) do
      net.refuses(("bad argument %s to 'sendfile'"):format(wrong[1]), pair.client.sendfile,
        pair.client, table.unpack(wrong, 2, 4))
    end
    assert.equal("", all_of(pair))
  end)

  it("a stream that is closed or has ended its writing", function()
    for _, ending in ipairs({ "close", "abort", "write_eof" }) do
      local pair <close>, file = net.pair(), pipes.file(TEXT)
      local _ <close> = file
      pair.client[ending](pair.client)
      net.raises("InvalidStateError", pair.client.sendfile, pair.client, file.path)
    end
  end)
end)

describe("Stream:sendfile among writers", function()
  it("comes after those who wait already, and before those who come later", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT .. "\n")
    local _ <close> = file
    local count = net.fill(pair.client)
    local jobs = {
      tasks.start(function() pair.client:write("first\n") end),
      tasks.start(function() pair.client:sendfile(file.path) end),
      tasks.start(function() pair.client:write("third\n") end),
      tasks.start(function() pair.client:sendfile(file.path, 0, 21) end),
    }
    net.drain_filled(pair.peer, count)
    for _, line in ipairs({ "first", TEXT, "third", TEXT }) do
      assert.equal(line .. "\n", pair.peer:readline())
    end
    for _, job in ipairs(jobs) do job:await() end
  end)

  it("lets nobody's bytes in between", function()
    local pair <close>, file = net.pair(), pipes.file(LARGE)
    local _ <close> = file
    local jobs = { tasks.start(function() return pair.client:sendfile(file.path) end) }
    assert.is_false(jobs[1]:done())
    jobs[2] = tasks.start(function() pair.client:write("written") end)
    jobs[3] = tasks.start(function() pair.client:writelines({ "two ", "lines" }) end)
    jobs[4] = tasks.start(function() return pair.client:sendfile(file.path) end)
    assert.is_false(pair.client:try_write("pushed in"))
    assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
    assert.equal("writtentwo lines", pair.peer:readexactly(16))
    assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
    for _, job in ipairs(jobs) do job:await() end
    assert.equal("", all_of(pair))
  end)

  it("lets try_write queue again once it has ended", function()
    local pair <close>, file = net.pair(), pipes.file(LARGE)
    local _ <close> = file
    local task = tasks.start(function() return pair.client:sendfile(file.path) end)
    assert.is_false(pair.client:try_write("refused"))
    assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
    task:await()
    assert.is_true(pair.client:try_write("taken"))
    assert.equal("taken", all_of(pair))
  end)

  it("lets the stream be read meanwhile", function()
    local pair <close>, file = net.pair(), pipes.file(LARGE)
    local _ <close> = file
    local task = tasks.start(function() return pair.client:sendfile(file.path) end)
    pair.peer:write("hurry up\n")
    assert.equal("hurry up\n", pair.client:readline())
    assert.is_false(task:done())
    assert.is_true(pair.peer:readexactly(#LARGE) == LARGE)
    assert.equal(#LARGE, task:await())
  end)

  it("sends nothing when it is cancelled while it waits for its turn", function()
    local pair <close>, file = net.pair(), pipes.file(TEXT)
    local _ <close> = file
    local count = net.fill(pair.client)
    local first = tasks.start(function() pair.client:write("first") end)
    local task = tasks.start(function() pair.client:sendfile(file.path) end)
    local last = tasks.start(function() pair.client:write("last") end)
    assert.is_true(tasks.cancel(task))
    net.drain_filled(pair.peer, count)
    assert.equal("firstlast", pair.peer:readexactly(9))
    first:await()
    last:await()
    wait_all_blocked()
    assert.equal("", all_of(pair))
  end)
end)
