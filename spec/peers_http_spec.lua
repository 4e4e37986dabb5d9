-- SPDX-License-Identifier: MIT
-- Streams beside programs that speak HTTP: curl as a client of a server written on Streams
-- (support/http_server.lua), nginx in front of that server, and nginx as a server of our client.
local http_server = require "spec.support.http_server"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local nginx = require "spec.support.nginx"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"
local tasks = require "spec.support.tasks"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

local SIZE = 8 * 1024 * 1024

-- Gives back what it is given; "/words" gives a text in several pieces, "/big" one of SIZE bytes.
local function respond(request)
  if request.path == "/words" then
    local left = { "three", " little", " words" }
    return "200 OK", function() return table.remove(left, 1) end
  elseif request.path == "/big" then
    return "200 OK", net.text(SIZE)
  end
  return "200 OK", request.method == "GET" and request.path or request.body
end

-- Our server on a free port. Awaits.
local function start(answer)
  local http = http_server.new(answer or respond)
  return http, moonloop.start_server(http.handle, "127.0.0.1", 0)
end

-- Runs curl and gives what it printed. Awaits.
local function curl(line, ...)
  local status, out = peers.run(("exec curl --silent --show-error --max-time 50 " .. line)
    :format(...))
  assert.equal(0, status, out)
  return out
end

describe("curl", function()
  it("uploads a big body and gets it back, by length and in chunks", function()
    need("curl")
    local folder <close> = script.folder()
    local text = net.text(SIZE)
    folder:write("input", text)
    local http, server = start()
    local _ <close> = server
    local url = ("http://127.0.0.1:%d/echo"):format(server:port())
    assert.is_true(curl("-T %s/input %s", folder.path, url) == text)
    assert.is_true(curl("-T - %s <%s/input", url, folder.path) == text)
    assert.equal(2, http.requests)
  end)

  it("is told to go on with its body when it asks", function()
    need("curl")
    local folder <close> = script.folder()
    folder:write("input", net.text(2000000))
    local asked
    local _, server = start(function(request)
      asked = request.headers.expect
      return "200 OK", tostring(#request.body)
    end)
    local _ <close> = server
    assert.equal("2000000", curl("-H 'Expect: 100-continue' --data-binary @%s/input " ..
      "http://127.0.0.1:%d/", folder.path, server:port()))
    assert.equal("100-continue", asked)
  end)

  it("gets a text that is sent in chunks", function()
    need("curl")
    local _, server = start()
    local _ <close> = server
    assert.equal("three little words", curl("http://127.0.0.1:%d/words", server:port()))
  end)

  it("uses one connection for ten requests", function()
    need("curl")
    local http, server = start()
    local _ <close> = server
    assert.equal("/1/2/3/4/5/6/7/8/9/10", curl("'http://127.0.0.1:%d/[1-10]'", server:port()))
    assert.equal(10, http.requests)
    assert.equal(1, http.connections)
  end)

  it("makes 100 requests, 20 at a time", function()
    need("curl")
    local folder <close> = script.folder()
    local http, server = start()
    local _ <close> = server
    curl("--parallel --parallel-max 20 -o '%s/#1' 'http://127.0.0.1:%d/[1-100]'", folder.path,
      server:port())
    for i = 1, 100 do assert.equal("/" .. i, folder:read(tostring(i))) end
    assert.equal(100, http.requests)
  end)

  it("gets a file that goes out by sendfile, several times on one connection", function()
    need("curl")
    local folder <close> = script.folder()
    local text = net.text(SIZE)
    local file = folder:write("page", text)
    local http, server = start(function() return "200 OK", { file = file, size = #text } end)
    local _ <close> = server
    assert.is_true(curl("'http://127.0.0.1:%d/[1-3]'", server:port()) == text:rep(3))
    assert.equal(1, http.connections)
  end)

  it("talks to a server on a Unix socket", function()
    need("curl")
    local folder <close> = script.folder()
    local http = http_server.new(respond)
    local path = folder.path .. "/socket"
    local server <close> = moonloop.start_unix_server(http.handle, path)
    assert.equal("/a/b", curl("--unix-socket %s 'http://localhost/{a,b}'", path))
    assert.is_true(curl("--unix-socket %s http://localhost/big", path) == net.text(SIZE))
    assert.equal(2, http.connections)
    assert.is_true(server:is_serving())
  end)

  it("talks to a server on an abstract socket", function()
    need("curl")
    local http = http_server.new(respond)
    local name = ("moonloop-spec-%d"):format(net.free_port())
    local server <close> = moonloop.start_unix_server(http.handle, "\0" .. name)
    assert.equal("/there", curl("--abstract-unix-socket %s http://localhost/there", name))
    assert.is_true(server:is_serving())
  end)

  it("may go away in the midst of an answer, and others are served", function()
    need("curl")
    local reports <close> = tasks.reports()
    local _, server = start()
    local _ <close> = server
    local _, out = peers.run(("curl -s http://127.0.0.1:%d/big | head -c 1000 | wc -c")
      :format(server:port()))
    assert.equal("1000\n", out)
    assert.equal("/still", curl("http://127.0.0.1:%d/still", server:port()))
    server:close()
    server:wait_closed()
    for _, report in ipairs(reports) do
      assert.is_true(moonloop.is_error(report.error, "ConnectionError"), tostring(report.error))
    end
    assert.equal(1, #reports)
  end)
end)

describe("nginx before our server", function()
  local PROXY = [[
    upstream ours { server %s; keepalive 8; }
    server {
      listen 127.0.0.1:%d backlog=256;
      location / {
        proxy_pass http://ours;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_request_buffering off;
      }
    }
  ]]

  it("hands requests and big bodies on, over kept connections", function()
    need("nginx", "curl")
    local folder <close> = script.folder()
    local text = net.text(SIZE)
    folder:write("input", text)
    local http, server = start()
    local _ <close> = server
    local port = net.free_port()
    local _ <close> = nginx.start(folder, PROXY:format("127.0.0.1:" .. server:port(), port))
    assert.is_true(curl("-T %s/input http://127.0.0.1:%d/echo", folder.path, port) == text)
    assert.is_true(curl("http://127.0.0.1:%d/big", port) == text)
    assert.equal("three little words", curl("http://127.0.0.1:%d/words", port))
    curl("'http://127.0.0.1:%d/[1-50]'", port)
    assert.equal(53, http.requests)
    assert.is_true(http.connections <= 4, http.connections)
  end)

  it("reaches it on a Unix socket", function()
    need("nginx", "curl")
    local folder <close> = script.folder()
    local http = http_server.new(respond)
    local path, port = folder.path .. "/socket", net.free_port()
    local server <close> = moonloop.start_unix_server(http.handle, path)
    local _ <close> = nginx.start(folder, PROXY:format("unix:" .. path, port))
    assert.equal("/a/b/c", curl("'http://127.0.0.1:%d/{a,b,c}'", port))
    assert.equal(3, http.requests)
    assert.is_true(server:is_serving())
  end)

  it("serves 200 requests of 20 clients at a time", function()
    need("nginx", "curl")
    local folder <close> = script.folder()
    local http, server = start()
    local _ <close> = server
    local port = net.free_port()
    local _ <close> = nginx.start(folder, PROXY:format("127.0.0.1:" .. server:port(), port))
    curl("--parallel --parallel-max 20 -o '%s/out/#1' --create-dirs " ..
      "'http://127.0.0.1:%d/[1-200]'", folder.path, port)
    for i = 1, 200 do assert.equal("/" .. i, folder:read("out/" .. i)) end
    assert.equal(200, http.requests)
  end)
end)

describe("nginx before our client", function()
  local PAGES = "server { listen %s; root %%path%%/pages; }"

  -- The next answer's body. Awaits.
  local function read_answer(stream)
    local head = stream:readuntil("\r\n\r\n")
    assert.matches("^HTTP/1.1 20%d", head)
    return stream:readexactly(math.tointeger(head:match("[Cc]ontent%-[Ll]ength: (%d+)")))
  end

  local function request(i, headers)
    return ("GET /%d HTTP/1.1\r\nHost: a\r\n%s\r\n"):format(i, headers or "")
  end

  it("answers 50 requests that are sent in one piece, in order", function()
    need("nginx")
    local folder <close> = script.folder()
    local requests = {}
    for i = 1, 50 do
      folder:write("pages/" .. i, ("page %d "):format(i) .. net.text(i * 997))
      requests[i] = request(i)
    end
    local port = net.free_port()
    local _ <close> = nginx.start(folder, PAGES:format("127.0.0.1:" .. port))
    local stream <close> = moonloop.connect("127.0.0.1", port)
    stream:write(table.concat(requests))
    for i = 1, 50 do
      assert(read_answer(stream) == ("page %d "):format(i) .. net.text(i * 997), "page " .. i)
    end
  end)

  it("gives parts of a page over a Unix socket", function()
    need("nginx")
    local folder <close> = script.folder()
    local text = net.text(3000000)
    folder:write("pages/1", text)
    local _ <close> = nginx.start(folder, PAGES:format("unix:%path%/socket"))
    local stream <close> = moonloop.connect_unix(folder.path .. "/socket")
    for first = 1, 3000000, 700000 do
      local last = math.min(first + 699999, 3000000)
      stream:write(request(1, ("Range: bytes=%d-%d\r\n"):format(first - 1, last - 1)))
      assert.is_true(read_answer(stream) == text:sub(first, last))
    end
  end)
end)
