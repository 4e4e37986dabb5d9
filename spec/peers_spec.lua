-- SPDX-License-Identifier: MIT
-- Streams and servers beside real programs: python3's asyncio, socat and nginx,
-- each at the other end of a connection while the loop of the specs runs.
local command = require "spec.support.command"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local script = require "spec.support.script"

local function echo(stream)
  for data in function() return stream:read(65536) end do stream:write(data) end
end

local function echo_server()
  return moonloop.start_server(echo, "127.0.0.1", 0)
end

-- Pends the spec when a program is not there.
local function need(program)
  local status = command.run({ "sh", "-c", "command -v " .. program })
  if status ~= 0 then pending(program .. " is not installed") end
end

-- Twenty clients of asyncio's streams; its argument is the port of an echo server.
local CLIENT = [[
import asyncio, sys

async def one(port, i):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in range(20):
        line = f"client {i} line {n}\n".encode()
        writer.write(line)
        await writer.drain()
        assert await reader.readline() == line
    block = bytes(range(256)) * 4096
    writer.write(block)
    writer.write_eof()
    assert await reader.read() == block
    writer.close()
    await writer.wait_closed()

async def main():
    port = int(sys.argv[1])
    await asyncio.gather(*(one(port, i) for i in range(20)))
    print("20 clients served")

asyncio.run(main())
]]

describe("python3's asyncio", function()
  local SERVER = [[
import asyncio, sys

async def handle(reader, writer):
    data = await reader.read()
    writer.write(data.upper())
    writer.write_eof()
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    _, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]))
    writer.write(f"{port}\n".encode())
    await writer.drain()
    await server.serve_forever()

asyncio.run(main())
]]

  it("talks to the echo server as a client, half-close included", function()
    need("python3")
    local folder <close> = script.folder()
    local path = folder:write("client.py", CLIENT)
    local server <close> = echo_server()
    local status, out = peers.run("exec python3 " .. path .. " " .. server:port())
    assert.equal("20 clients served\n", out)
    assert.equal(0, status)
  end)

  it("serves our client, half-close included", function()
    need("python3")
    local folder <close> = script.folder()
    local path = folder:write("server.py", SERVER)
    local ports = moonloop.Future()
    local callback <close> = moonloop.start_server(function(stream)
      ports:set_result(math.tointeger(stream:readline():sub(1, -2)))
    end, "127.0.0.1", 0)
    local pid_file = folder.path .. "/pid"
    local job = peers.start(("python3 %s %d & echo $! >%s; wait"):format(path, callback:port(),
      pid_file))
    local port = ports:await()
    for i = 1, 5 do
      local stream <close> = moonloop.connect("127.0.0.1", port)
      stream:write("round ", i, " ", ("abc"):rep(100000))
      stream:write_eof()
      assert.equal("ROUND " .. i .. " " .. ("ABC"):rep(100000), stream:read())
    end
    os.execute("kill $(cat " .. pid_file .. ")")
    job:wait()
  end)
end)

describe("socat", function()
  it("sends its input, half-closes and gets all of it back", function()
    need("socat")
    local folder <close> = script.folder()
    local text = net.text(3 * 1024 * 1024)
    folder:write("input", text)
    local server <close> = echo_server()
    local status, out = peers.run(("exec socat -t 30 STDIO TCP:127.0.0.1:%d <%s/input")
      :format(server:port(), folder.path))
    assert.equal(0, status)
    assert.is_true(out == text)
  end)

  it("gets what a handler writes after the end of its input", function()
    need("socat")
    local server <close> = moonloop.start_server(function(stream)
      local all = stream:read()
      stream:write(("%d bytes, the last %q"):format(#all, all:sub(-1)))
    end, "127.0.0.1", 0)
    local _, out = peers.run(("printf 'some words.' | socat -t 30 STDIO TCP:127.0.0.1:%d")
      :format(server:port()))
    assert.equal('11 bytes, the last "."', out)
  end)

  it("speaks IPv6 to a server on ::1", function()
    need("socat")
    local server <close> = moonloop.start_server(echo, "::1", 0)
    local _, out = peers.run(("echo six | socat -t 30 STDIO TCP6:[::1]:%d"):format(server:port()))
    assert.equal("six\n", out)
  end)
end)

describe("examples/echo_server.lua", function()
  -- Serves on a free port, $port, while `line` runs.
  local function beside_example(folder, line)
    return folder:shell(([[
      mkfifo said
      "$MOONLOOP" %s 127.0.0.1 0 >said 2>err & server=$!
      read -r line <said
      port=${line##* }
      %s
      status=$?
      kill $server
      cat err >&2
      exit $status
    ]]):format(command.quote(script.root .. "/examples/echo_server.lua"), line), { timeout = 60 })
  end

  it("answers socat, half-close included", function()
    need("socat")
    local folder <close> = script.folder()
    local text = net.text(1000000)
    folder:write("input", text)
    local status, out, err = beside_example(folder,
      "socat -t 30 STDIO TCP:127.0.0.1:$port <input")
    assert.is_true(out == text)
    assert.equal(0, status, err)
  end)

  it("answers python3's asyncio, half-close included", function()
    need("python3")
    local folder <close> = script.folder()
    folder:write("client.py", CLIENT)
    local status, out, err = beside_example(folder, "python3 client.py $port")
    assert.equal("20 clients served\n", out)
    assert.equal(0, status, err)
  end)
end)

describe("nginx", function()
  local CONF = [[
%s
worker_processes 1;
pid %s/nginx.pid;
error_log %s/error.log;
events { worker_connections 512; }
http {
  access_log off;
  client_body_temp_path %s/body;
  proxy_temp_path %s/proxy;
  fastcgi_temp_path %s/fastcgi;
  uwsgi_temp_path %s/uwsgi;
  scgi_temp_path %s/scgi;
  server { listen 127.0.0.1:%d backlog=256; root %s/pages; }
}
]]

  local PAGES = 500

  -- Pages of 1 to 200,000 bytes, no two alike.
  local function page(i)
    return (("page %d "):format(i) .. net.text(i * 397)):sub(1, i * 400)
  end

  -- Starts nginx on those pages and gives its port; `stop` ends it.
  local function start(folder)
    for i = 1, PAGES do folder:write("pages/" .. i, page(i)) end
    local port, path = net.free_port(), folder.path
    local _, user = command.run({ "id", "-u" })
    folder:write("nginx.conf", CONF:format(user == "0\n" and "user root;" or "", path, path, path,
      path, path, path, path, port, path))
    local status, _, err = command.run({ "nginx", "-p", path, "-c", path .. "/nginx.conf" })
    assert.equal(0, status, err)
    return port
  end

  local function stop(folder)
    folder:shell("pid=$(cat nginx.pid) && kill $pid && while [ -e nginx.pid ]; do :; done")
  end

  local function fetch(port, i)
    local stream <close> = moonloop.connect("127.0.0.1", port)
    stream:write(("GET /%d HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):format(i))
    assert(stream:readline() == "HTTP/1.1 200 OK\r\n")
    local length
    for line in function() return stream:readuntil("\r\n") end do
      if line == "\r\n" then break end
      length = math.tointeger(line:lower():match("^content%-length: (%d+)")) or length
    end
    local body = stream:readexactly(length)
    assert(stream:read() == "")
    return body
  end

  it("gives 500 pages to 50 connections at a time, byte for byte", function()
    need("nginx")
    local folder <close> = script.folder()
    local port = start(folder)
    local next_page, right, open, most = 0, 0, 0, 0
    local function work()
      while next_page < PAGES do
        next_page = next_page + 1
        local i = next_page
        open = open + 1
        most = math.max(most, open)
        if fetch(port, i) == page(i) then right = right + 1 end
        open = open - 1
      end
    end
    local workers = {}
    for i = 1, 50 do workers[i] = moonloop.create_task(work) end
    for i = 1, 50 do workers[i]:await() end
    stop(folder)
    assert.equal(PAGES, right)
    assert.equal(50, most)
  end)
end)
