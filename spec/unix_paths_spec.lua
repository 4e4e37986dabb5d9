-- SPDX-License-Identifier: MIT
-- What a Unix server does with the file of its path: it takes over one that a dead server left and
-- nothing else, gives it the permissions it is told, and removes only its own.
local lfs = require "lfs"
local luasocket_unix = require "socket.unix"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local pipes = require "spec.support.pipes"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

local function greet(stream)
  stream:write("hello")
end

local function finish(server)
  server:close()
  server:wait_closed()
end

local function greeting(path)
  local stream <close> = moonloop.connect_unix(path)
  return stream:read()
end

-- A socket of another program on `path`, which listens unless it is of datagrams.
local function foreign(kind, path)
  local socket = assert(luasocket_unix[kind]())
  assert(socket:bind(path))
  if kind == "stream" then assert(socket:listen(1)) end
  return socket
end

describe("A Unix server's path", function()
  it("is there while the server listens, and gone when it is closed", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(greet, name.path)
    assert.equal("socket", lfs.attributes(name.path, "mode"))
    server:close()
    assert.is_nil(lfs.attributes(name.path))
    server:wait_closed()
  end)

  it("is removed when the server leaves its block, by an error too", function()
    local name <close> = pipes.free_path()
    pcall(function()
      local _ <close> = moonloop.start_unix_server(greet, name.path)
      assert.equal("hello", greeting(name.path))
      error("the reason")
    end)
    assert.is_nil(lfs.attributes(name.path))
  end)

  it("is removed when the run ends before the server was closed", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local server = require "moonloop".start_unix_server(print, "here")
    ]])
    assert.equal(0, (folder:moonloop({ "script.lua" })))
    assert.is_nil(lfs.attributes(folder.path .. "/here"))
  end)

  it("may be relative to the current folder", function()
    local status, out = script.run([[
      local moonloop = require "moonloop"
      local server <close> = moonloop.start_unix_server(function(s) s:write("hello") end, "here")
      local stream <close> = moonloop.connect_unix("./here")
      print(stream:read(), server:sockets()[1].path)
    ]])
    assert.same({ 0, "hello\there\n" }, { status, out })
  end)

  it("may have 107 bytes and no more", function()
    local folder <close> = script.folder()
    local longest = folder.path .. "/" .. ("x"):rep(107 - #folder.path - 1)
    local server = moonloop.start_unix_server(greet, longest)
    assert.equal("hello", greeting(longest))
    assert.same({ { path = longest } }, server:sockets())
    finish(server)
    local err = net.raises("OSError", moonloop.start_unix_server, greet, longest .. "y")
    assert.equal("ENAMETOOLONG", err.code)
    assert.matches(longest .. "y", err.message, 1, true)
    assert.is_nil(lfs.attributes(longest))
  end)

  it("may not hold a zero byte behind its beginning", function()
    local folder <close> = script.folder()
    local path = folder.path .. "/cut\0short"
    assert.is_false(pcall(moonloop.start_unix_server, greet, path))
    assert.is_false(pcall(moonloop.connect_unix, path))
    assert.is_nil(lfs.attributes(folder.path .. "/cut"))
  end)

  it("must be in a folder that is there", function()
    local nothing <close> = pipes.free_path()
    local path = nothing.path .. "/socket"
    local err = net.raises("FileNotFoundError", moonloop.start_unix_server, greet, path)
    assert.matches(path, err.message, 1, true)
  end)

  it("must be in a folder that one may write to", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      local ok, err = pcall(moonloop.start_unix_server, print, "closed/here")
      print(ok, err.kind, err.code)
    ]])
    local status, out = folder:shell([[
      chmod 755 . && mkdir closed && chmod 555 closed
      [ $(id -u) -ne 0 ] || as="setpriv --reuid=65534 --regid=65534 --clear-groups"
      $as "$MOONLOOP" -e "" || exit 77
      $as "$MOONLOOP" script.lua
    ]])
    if status == 77 then return pending("another user cannot run the command") end
    assert.same({ 0, "false\tPermissionError\tEACCES\n" }, { status, out })
  end)
end)

describe("A Unix server takes over", function()
  it("a socket that a dead server left behind", function()
    local name <close> = pipes.free_path()
    foreign("stream", name.path):close()
    assert.equal("socket", lfs.attributes(name.path, "mode"))
    net.raises("ConnectionRefusedError", moonloop.connect_unix, name.path)
    local server = moonloop.start_unix_server(greet, name.path)
    assert.equal("hello", greeting(name.path))
    finish(server)
    assert.is_nil(lfs.attributes(name.path))
  end)

  it("a socket of a server that was killed", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local server = require "moonloop".start_unix_server(print, "here")
      os.exit(0)
    ]])
    assert.equal(0, (folder:moonloop({ "script.lua" })))
    local path = folder.path .. "/here"
    assert.equal("socket", lfs.attributes(path, "mode"))
    local server = moonloop.start_unix_server(greet, path)
    assert.equal("hello", greeting(path))
    finish(server)
  end)
end)

describe("A Unix server raises AddressInUseError and leaves alone", function()
  local function refused(path)
    local err = net.raises("AddressInUseError", moonloop.start_unix_server, greet, path)
    assert.equal("EADDRINUSE", err.code)
    assert.matches(path, err.message, 1, true)
  end

  it("another program's server", function()
    local name <close> = pipes.free_path()
    local other = foreign("stream", name.path)
    refused(name.path)
    local client = assert(luasocket_unix.stream())
    assert.equal(1, client:connect(name.path))
    client:close()
    other:close()
  end)

  it("another program's server whose backlog is full", function()
    local name <close> = pipes.free_path()
    local other, clients = foreign("stream", name.path), {}
    for i = 1, 2 do
      clients[i] = assert(luasocket_unix.stream())
      assert.equal(1, clients[i]:connect(name.path))
    end
    refused(name.path)
    assert.equal("socket", lfs.attributes(name.path, "mode"))
    other:close()
    for i = 1, 2 do clients[i]:close() end
  end)

  it("a socket for datagrams", function()
    local name <close> = pipes.free_path()
    local other = foreign("dgram", name.path)
    refused(name.path)
    assert.equal("socket", lfs.attributes(name.path, "mode"))
    other:close()
  end)

  it("a regular file", function()
    local file <close> = pipes.file("precious")
    refused(file.path)
    assert.equal("precious", file:read())
  end)

  it("a folder", function()
    local folder <close> = script.folder()
    refused(folder.path)
    assert.equal("directory", lfs.attributes(folder.path, "mode"))
  end)

  it("a FIFO", function()
    local fifo <close> = pipes.fifo()
    refused(fifo.path)
    assert.equal("named pipe", lfs.attributes(fifo.path, "mode"))
  end)

  it("a link, whatever it leads to", function()
    local folder <close> = script.folder()
    local stale, link = folder.path .. "/stale", folder.path .. "/link"
    foreign("stream", stale):close()
    assert(lfs.link(stale, link, true))
    refused(link)
    assert.equal("link", lfs.symlinkattributes(link, "mode"))
    assert.equal("socket", lfs.attributes(stale, "mode"))
  end)
end)

describe("A Unix server that is closed leaves alone what is not its own", function()
  it("a file in its path's place", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(greet, name.path)
    os.remove(name.path)
    local file <close> = assert(io.open(name.path, "w"))
    file:write("precious")
    file:flush()
    finish(server)
    assert.equal("precious", name:read())
  end)

  it("a socket in its path's place", function()
    local name <close> = pipes.free_path()
    local first = moonloop.start_unix_server(greet, name.path)
    os.remove(name.path)
    local second = moonloop.start_unix_server(function(s) s:write("second") end, name.path)
    finish(first)
    assert.equal("second", greeting(name.path))
    finish(second)
    assert.is_nil(lfs.attributes(name.path))
  end)

  it("a path that nothing stands at any more", function()
    local name <close> = pipes.free_path()
    local server = moonloop.start_unix_server(greet, name.path)
    os.remove(name.path)
    finish(server)
    assert.is_nil(lfs.attributes(name.path))
  end)
end)

describe("The option mode", function()
  local MODES = {
    [tonumber("600", 8)] = "rw-------", ["660"] = "rw-rw----", ["0777"] = "rwxrwxrwx",
    [0] = "---------",
  }
  for mode, permissions in pairs(MODES) do
    it(("gives the path the permissions it says: %s"):format(mode), function()
      local name <close> = pipes.free_path()
      local server = moonloop.start_unix_server(greet, name.path, { mode = mode })
      assert.equal(permissions, lfs.attributes(name.path, "permissions"))
      finish(server)
    end)
  end

  it("keeps others out", function()
    local folder <close> = script.folder()
    folder:write("script.lua", [[
      local moonloop = require "moonloop"
      for _, mode in ipairs { "600", "666" } do
        local server <close> = moonloop.start_unix_server(function(s)
          s:write("hello\n")
        end, "here", { mode = mode })
        local program = io.popen(os.getenv("AS") .. " socat -u UNIX-CONNECT:here STDOUT 2>&1")
        local stream <close> = moonloop.connect_read_pipe(program)
        print(stream:read():match("Permission denied") or "hello")
      end
    ]])
    local status, out = folder:shell([[
      chmod 755 .
      [ $(id -u) -eq 0 ] || exit 77
      AS="setpriv --reuid=65534 --regid=65534 --clear-groups" exec "$MOONLOOP" script.lua
    ]])
    if status == 77 then return pending("only root can be another user") end
    assert.same({ 0, "Permission denied\nhello\n" }, { status, out })
  end)
end)

describe("The option sock", function()
  it("takes over a socket that listens", function()
    local name <close> = pipes.free_path()
    local unix = moonloop.socket.unix()
    unix:bind({ path = name.path })
    unix:listen(5)
    local server = moonloop.start_unix_server(greet, nil, { sock = unix })
    assert.same({ { path = name.path } }, server:sockets())
    assert.equal("hello", greeting(name.path))
    finish(server)
    net.raises("OSError", greeting, name.path)
  end)
end)

describe("Starting a Unix server", function()
  it("that fails leaves nothing open", function()
    local file <close> = pipes.file("")
    local mark = moonloop.testing.mark()
    assert.is_false(pcall(moonloop.start_unix_server, greet, file.path))
    assert.same({}, moonloop.testing.leaks(mark))
  end)

  it("twenty times at once gives one server", function()
    local _ <close> = tasks.reports() -- of greetings for who only looked whether one is there
    local name <close> = pipes.free_path()
    foreign("stream", name.path):close()
    local jobs, servers = {}, {}
    for i = 1, 20 do
      jobs[i] = moonloop.create_task(function()
        servers[#servers + 1] = moonloop.start_unix_server(greet, name.path)
      end)
    end
    local refused = 0
    for i = 1, 20 do
      local ok, err = tasks.outcome(jobs[i])
      if not ok and moonloop.is_error(err, "AddressInUseError") then refused = refused + 1 end
    end
    assert.same({ 1, 19 }, { #servers, refused })
    assert.equal("hello", greeting(name.path))
    finish(servers[1])
  end)
end)
