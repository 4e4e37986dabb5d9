-- SPDX-License-Identifier: MIT
-- 100 MiB both ways at the same time over one TLS connection, with python3's asyncio as the server
-- of our client and with socat as the client of our server; both sides say the same SHA-256.
local certs = require "spec.support.certificates"
local command = require "spec.support.command"
local moonloop = require "moonloop"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local python = require "spec.support.python"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

local SIZE = 100 * 1024 * 1024
local PIECE = 256 * 1024

local function sha256(path)
  local status, out = command.run { "sha256sum", path }
  assert(status == 0)
  return out:match("^%x+")
end

-- A file of SIZE bytes, no two alike.
local function random_file(folder, name)
  local status = folder:shell(("head -c %d /dev/urandom >%s"):format(SIZE, name))
  assert(status == 0)
  return folder.path .. "/" .. name
end

local function send(stream, path)
  local file <close> = assert(io.open(path, "rb"))
  for data in function() return file:read(PIECE) end do stream:write(data) end
end

local function receive(stream, path)
  local file <close> = assert(io.open(path, "wb"))
  local left = SIZE
  while left > 0 do
    local data = assert(stream:read(math.min(left, PIECE)), "it ended too early")
    file:write(data)
    left = left - #data
  end
end

-- Sends one file and receives another at the same time. Awaits.
local function exchange(stream, from, to)
  local group <close> = moonloop.TaskGroup()
  group:create_task(send, stream, from)
  group:create_task(receive, stream, to)
end

describe("100 MiB both ways at once over TLS", function()
  local SERVER = [[
SIZE = 100 * 1024 * 1024

async def send(writer):
    digest, sent = hashlib.sha256(), 0
    while sent < SIZE:
        data = os.urandom(262144)
        digest.update(data)
        writer.write(data)
        await writer.drain()
        sent += len(data)
    return digest.hexdigest()

async def receive(reader):
    digest, left = hashlib.sha256(), SIZE
    while left:
        data = await reader.read(min(left, 262144))
        assert data
        digest.update(data)
        left -= len(data)
    return digest.hexdigest()

async def handle(reader, writer):
    sent, received = await asyncio.gather(send(writer), receive(reader))
    writer.write(f"{sent} {received}\n".encode())
    writer.close()

serve(handle, server_context())
]]

  it("arrive with python3 as the server of our client #load", function()
    python.need()
    local folder <close> = script.folder()
    local from, to = random_file(folder, "from"), folder.path .. "/to"
    local server <close>, port = python.serve(SERVER)
    local stream <close> = tls.connect(port)
    exchange(stream, from, to)
    assert.equal(("%s %s\n"):format(sha256(to), sha256(from)), stream:readline())
    assert.is_nil(stream:read(1))
    assert.truthy(server)
  end)

  it("arrive with socat as the client of our server #load", function()
    if programs.missing("socat", "openssl") then pending("socat or openssl is not installed") end
    local folder <close> = script.folder()
    local ours, theirs = random_file(folder, "ours"), random_file(folder, "theirs")
    local to, to_them = folder.path .. "/to", folder.path .. "/to_them"
    local server <close> = moonloop.start_server(function(stream)
      exchange(stream, ours, to)
    end, "127.0.0.1", 0, { tls = tls.server() })
    local status, out = peers.run(("exec socat -t 30 -b 65536 'OPEN:%s!!CREATE:%s' "
      .. "OPENSSL:127.0.0.1:%d,cafile=%s,commonname=localhost"):format(theirs, to_them,
      server:port(), certs.ca))
    assert.equal("", out)
    assert.equal(0, status)
    server:close()
    server:wait_closed()
    assert.equal(sha256(theirs), sha256(to))
    assert.equal(sha256(ours), sha256(to_them))
  end)
end)
