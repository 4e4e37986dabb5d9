-- SPDX-License-Identifier: MIT
-- Every example does what it says: the ones with a file in examples/expected print exactly that,
-- the servers, clients and the demo have their own facts, below and in examples_talk_spec.lua, and
-- there is no third kind.
package.path = "examples/?.lua;" .. package.path

local moonloop = require "moonloop"
local http = require "lib.http"
local background = require "spec.support.background"
local command = require "spec.support.command"
local net = require "spec.support.net"
local script = require "spec.support.script"
local stock = require "spec.support.stock"

-- These have no expected file.
local SPECIAL = {
  chat_client = true, chat_server = true, crawler = true, echo_client = true, echo_server = true,
  fetch_pages = true, port_forwarder = true, redis_client = true,
}

-- These are run under stock Lua as well.
local STOCK = { "concepts_run", "coroutines_stock" }

local function read_file(path)
  local file <close> = io.open(path, "rb")
  return file and file:read("a")
end

local function names(pattern)
  local _, out = command.run({ "/bin/sh", "-c", "ls " .. pattern })
  local list = {}
  for name in out:gmatch("([%w_]+)%.%l+\n") do list[#list + 1] = name end
  return list
end

local function example(name)
  return "examples/" .. name .. ".lua"
end

-- What is to be typed goes through a pipe, as in the example's own usage line.
local function run_example(name)
  local input = "examples/expected/" .. name .. ".in"
  if not read_file(input) then
    return command.run({ script.binary, example(name) })
  end
  local line = 'cat "$1" | "$0" "$2"'
  return command.run({ "/bin/sh", "-c", line, script.binary, input, example(name) })
end

local function assert_output(expected, status, out, err)
  assert.equal("", err)
  assert.equal(expected, out)
  assert.equal(0, status)
end

describe("examples", function()
  for _, name in ipairs(names("examples/*.lua")) do
    local expected = read_file("examples/expected/" .. name .. ".txt")
    if expected then
      it(name .. " prints what is expected", function()
        assert_output(expected, run_example(name))
      end)
    else
      it(name .. " is one of those with facts of their own", function()
        assert.is_true(SPECIAL[name])
      end)
    end
  end

  it("leave no expected output without its example", function()
    for _, name in ipairs(names("examples/expected/*.txt")) do
      assert.is_truthy(read_file(example(name)), name)
    end
  end)

  it("begin with what, why and usage", function()
    for _, name in ipairs(names("examples/*.lua")) do
      local text = read_file(example(name))
      assert.matches("^%-%- SPDX.-\n%-%- What: .-\n%-%- Why: .-\n%-%- Usage: ", text,
        nil, nil, name)
    end
  end)

  for _, name in ipairs(STOCK) do
    it(name .. " prints the same in stock Lua", function()
      assert_output(read_file("examples/expected/" .. name .. ".txt"), stock.run { example(name) })
    end)
  end
end)

local function start_echo_server()
  return background.start({ script.binary, example "echo_server", "127.0.0.1", "0" },
    "listening on 127.0.0.1 port (%d+)\n")
end

local function echo_client(port, ...)
  return command.run { script.binary, example "echo_client", "127.0.0.1", port, ... }
end

describe("examples/echo_server and echo_client", function()
  it("talk to each other", function()
    local server <close> = start_echo_server()
    assert_output("one\ntwo\nthree\n", echo_client(server.found, "one", "two", "three"))
  end)

  it("say hello when there is nothing else to say", function()
    local server <close> = start_echo_server()
    assert_output("hello\nworld\n", echo_client(server.found))
  end)

  it("serve several clients, one of them silent", function()
    local server <close> = start_echo_server()
    local silent <close> = moonloop.connect("127.0.0.1", tonumber(server.found))
    assert_output("first\n", echo_client(server.found, "first"))
    assert_output("second\n", echo_client(server.found, "second"))
    silent:write("third\n")
    assert.equal("third\n", silent:readline())
  end)

  it("end with a clear message where nobody listens", function()
    local status, out, err = echo_client("1")
    assert.equal(1, status)
    assert.equal("", out)
    assert.matches("ConnectionRefusedError: connect 127.0.0.1:1: Connection refused", err, 1, true)
  end)
end)

local function is_installed(program)
  return command.run { "/bin/sh", "-c", "command -v " .. program } == 0
end

describe("examples/echo_server and echo_client with socat", function()
  if not is_installed("socat") then
    pending("socat is not installed")
    return
  end

  it("echo up to the half-close", function()
    local server <close> = start_echo_server()
    assert_output("a\nb\nc", command.run(
      { "socat", "-t5", "-", "TCP:127.0.0.1:" .. server.found }, { stdin = "a\nb\nc" }))
  end)

  it("echo a megabyte unchanged", function()
    local server <close> = start_echo_server()
    local bytes = {}
    for i = 1, 1000000 do bytes[i] = string.char(i * 7919 % 251) end
    local text = table.concat(bytes)
    local _, out = command.run(
      { "socat", "-t5", "-", "TCP:127.0.0.1:" .. server.found }, { stdin = text })
    assert.is_true(out == text)
  end)

  it("are no different from socat's own server", function()
    local server <close> = background.start(
      { "socat", "-d", "-d", "TCP-LISTEN:0,bind=127.0.0.1", "EXEC:cat" },
      "listening on [^\n]*:(%d+)\n")
    assert_output("from\nsocat\n", echo_client(server.found, "from", "socat"))
  end)
end)

describe("examples/echo_client with python3's asyncio", function()
  if not is_installed("python3") then
    pending("python3 is not installed")
    return
  end

  -- Answers once it has the whole input, so it sees the half-close.
  local SERVER = [[
import asyncio

async def handle(reader, writer):
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print("port", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
]]

  it("gets what is written after the half-close", function()
    local server <close> = background.start({ "python3", "-c", SERVER }, "port (%d+)\n")
    assert_output("ONE\nTWO\n", echo_client(server.found, "one", "two"))
  end)
end)

-- A site in a process of its own, for clients that run while this one waits for them.
local function start_site(pages)
  local code = [[
    package.path = "examples/?.lua;" .. package.path
    local server = require("lib.site").start(%d)
    print("port " .. server:port())
    io.stdout:flush()
    moonloop.sleep_forever()]]
  return background.start({ script.binary, "-e", code:format(pages) }, "port (%d+)\n")
end

-- The first number in the row that begins with `what`, and the row's text.
local function row(out, what)
  for line in out:gmatch("[^\n]+") do
    local first, last = line:find(what, 1, true)
    if first and not line:sub(1, first - 1):find("%S") then
      return tonumber(line:sub(last + 1):match("[%d.]+")), line
    end
  end
end

local function crawl(...)
  return command.run { script.binary, example "crawler", ... }
end

describe("examples/crawler", function()
  it("crawls its own site and shows what it fetched", function()
    local status, out, err = crawl("--pages", "60", "--workers", "20")
    assert.equal("", err)
    assert.equal(0, status)
    assert.equal(60, (row(out, "200 text/html")))
    assert.equal(1, (row(out, "200 text/css")))
    assert.equal(12, (row(out, "200 image/svg+xml")))
    assert.equal(2, (row(out, "301 Moved Permanently")))
    assert.equal(2, (row(out, "404 Not Found")))
    assert.equal(77, (row(out, "total")))
    assert.equal(20, (row(out, "highest concurrency")))
    assert.is_nil(out:find("failed", 1, true))
    assert.is_nil(out:find("\27", 1, true), "a file is no terminal")
  end)

  it("takes less time than its waits one after another", function()
    local status, out = crawl()
    assert.equal(0, status)
    assert.equal(200, (row(out, "200 text/html")))
    assert.is_true(row(out, "time") < row(out, "one after another") / 3)
    assert.matches("(%d+) of %1 +0 at work", out) -- the last line of progress
  end)

  it("crawls another server, by name, and stops at --pages", function()
    local site <close> = start_site(40)
    local status, out = crawl("--pages", "25", "http://localhost:" .. site.found)
    assert.equal(0, status)
    assert.equal(25, (row(out, "total")))
  end)

  it("says what failed and exits with 1 when nothing answers", function()
    local status, out = crawl("http://127.0.0.1:1/")
    assert.equal(1, status)
    assert.matches("failed: /: ConnectionRefusedError: connect 127.0.0.1:1", out, 1, true)
  end)

  it("refuses what it does not know, with its usage", function()
    for _, word in ipairs { "--speed", "https://localhost/", "--workers" } do
      local status, out, err = crawl(word)
      assert.equal(2, status)
      assert.equal("", out)
      assert.matches("usage: crawler.lua", err, 1, true)
    end
  end)
end)

describe("examples/fetch_pages", function()
  local function fetch(port, ...)
    return command.run { script.binary, example "fetch_pages", "127.0.0.1", port, ... }
  end

  it("prints the checksums that cksum prints", function()
    local site <close> = start_site(3)
    local folder <close> = script.folder()
    for i = 2, 3 do
      local client <close> = http.client("127.0.0.1", tonumber(site.found))
      folder:write("picture/" .. i .. ".svg", client:get("/picture/" .. i .. ".svg").body)
    end
    local _, sums = folder:run { "cksum", "picture/2.svg", "picture/3.svg" }
    local status, out = fetch(site.found, "--path", "/picture/%d.svg", "--pages", "3")
    assert.equal(0, status)
    for line in sums:gmatch("[^\n]+") do
      local numbers, name = line:match("^(%d+ %d+) (.*)$")
      assert.matches(numbers .. " /" .. name .. "\n", out, 1, true)
    end
  end)

  it("finds the page that differs and exits with 1", function()
    local site <close> = start_site(3)
    local folder <close> = script.folder()
    for i = 1, 3 do
      local client <close> = http.client("127.0.0.1", tonumber(site.found))
      folder:write(i .. ".svg", client:get("/picture/" .. i .. ".svg").body)
    end
    folder:write("2.svg", "something else")
    folder:shell("mkdir picture && mv *.svg picture")
    local status, out = fetch(site.found, "--path", "/picture/%d.svg", "--pages", "3",
      "--directory", folder.path)
    assert.equal(1, status)
    assert.matches("^/picture/2.svg: %d+ bytes that differ from the file's 14\n"
      .. "3 pages, %d+ bytes, 3 connections, 1 wrong\n$", out)
  end)

  it("counts a page that is not there as wrong", function()
    local site <close> = start_site(3)
    local status, out = fetch(site.found, "--path", "/page/%d", "--pages", "4")
    assert.equal(1, status)
    assert.matches("/page/4: 404 Not Found\n", out, 1, true)
    assert.matches("4 pages, %d+ bytes, 4 connections, 1 wrong\n$", out)
  end)
end)

describe("examples/fetch_pages with nginx", function()
  if not is_installed("nginx") then
    pending("nginx is not installed")
    return
  end

  local CONF = [[
%s daemon off; worker_processes 1; pid nginx.pid; error_log stderr notice;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server { listen 127.0.0.1:%d; root pages; }
}
]]

  -- Pages of 10 bytes to 80 kB, no two alike.
  local function write_pages(folder, count)
    folder:shell("mkdir pages")
    for i = 1, count do
      folder:write("pages/" .. i .. ".html", ("page %3d\n"):format(i):rep(i * i // 30 + 1))
    end
  end

  local function start_nginx(folder)
    local port = net.free_port()
    local _, user = command.run { "id", "-u" }
    local conf = folder:write("nginx.conf", CONF:format(user == "0\n" and "user root;" or "", port))
    return background.start({ "nginx", "-e", "stderr", "-p", folder.path, "-c", conf },
      "start worker process %d+"), tostring(port)
  end

  it("gets 500 pages over 50 connections, byte for byte", function()
    local folder <close> = script.folder()
    write_pages(folder, 500)
    local started, port = start_nginx(folder)
    local _ <close> = started
    local status, out = command.run { script.binary, example "fetch_pages", "127.0.0.1", port,
      "--pages", "500", "--connections", "50", "--directory", folder.path .. "/pages" }
    assert.matches("^500 pages, %d+ bytes, 50 connections, 0 wrong\n$", out)
    assert.equal(0, status)
  end)
end)
