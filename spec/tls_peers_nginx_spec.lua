-- SPDX-License-Identifier: MIT
-- nginx at the other end of TLS: as an HTTPS server of our client, with certificates by name,
-- client certificates and sessions, and as a proxy that speaks TLS to a server of ours.
local certs = require "spec.support.certificates"
local http_server = require "spec.support.http_server"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local nginx = require "spec.support.nginx"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing("openssl", ...)
  if missing then pending(missing .. " is not installed") end
end

-- The lines of nginx's configuration that name a certificate of certificates.lua.
local function identity(leaf)
  return ("ssl_certificate %s; ssl_certificate_key %s;"):format(certs[leaf].cert, certs[leaf].key)
end

-- The answer to one request on a connection that ends with it. Awaits.
-- @param host "localhost" by default
-- @return the status, the body
local function get(stream, path, host)
  stream:write(("GET %s HTTP/1.0\r\nHost: %s\r\n\r\n"):format(path, host or "localhost"))
  local head = stream:readuntil("\r\n\r\n")
  return math.tointeger(tonumber(head:match("^HTTP/1%.%d (%d+)"))), stream:read()
end

local function fetch(port, path, context, options)
  local stream <close> = tls.connect(port, context, options)
  return get(stream, path, options and options.server_hostname)
end

describe("nginx as the server of our TLS client", function()
  before_each(function() need("nginx") end)

  local SERVERS = [[
    server {
      listen 127.0.0.1:%d ssl http2 default_server;
      ssl_protocols TLSv1.2 TLSv1.3;
      %s
      location /pages/ { root %%path%%; }
      location / { return 200 "$ssl_protocol $ssl_cipher $ssl_server_name $ssl_alpn_protocol"; }
    }
    server {
      listen 127.0.0.1:%d ssl;
      server_name a.example;
      %s
      location / { return 200 "this is a, asked for $ssl_server_name"; }
    }
  ]]

  local function start(folder)
    local port = net.free_port()
    return nginx.start(folder, SERVERS:format(port, identity("server"), port, identity("a"))), port
  end

  it("gives a page of some megabytes, whose end is no truncation", function()
    local folder <close> = script.folder()
    local text = net.text(3000000)
    folder:write("pages/big", text)
    local server <close>, port = start(folder)
    local status, body = fetch(port, "/pages/big")
    assert.equal(200, status)
    assert.is_true(body == text)
    assert.truthy(server)
  end)

  it("sees what the handshake agreed on as we do", function()
    local folder <close> = script.folder()
    local server <close>, port = start(folder)
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local stream <close> = tls.connect(port, tls.client {
        max_version = version, alpn = { "imap", "http/1.1" },
      })
      local info = stream:get_extra_info("tls")
      local _, body = get(stream, "/")
      assert.equal(version, info.version)
      assert.equal("http/1.1", info.alpn)
      assert.equal(("%s %s localhost http/1.1"):format(info.version, info.cipher), body)
    end
    local stream <close> = tls.connect(port, tls.client { alpn = { "h2" } })
    assert.equal("h2", stream:get_extra_info("tls").alpn)
    assert.truthy(server)
  end)

  it("has a certificate for each name", function()
    local folder <close> = script.folder()
    local server <close>, port = start(folder)
    local _, body = fetch(port, "/", nil, { server_hostname = "a.example" })
    assert.equal("this is a, asked for a.example", body)
    local err = net.raises("CertificateError", fetch, port, "/", nil,
      { server_hostname = "b.example" })
    assert.matches("wrong host", err.message, 1, true)
    _, body = fetch(port, "/", nil, { server_hostname = "127.0.0.1" })
    assert.matches("^TLSv1.3 %S+  $", body)
    assert.truthy(server)
  end)

  it("refuses a name that it does not have", function()
    local folder <close> = script.folder()
    local port = net.free_port()
    local server <close> = nginx.start(folder, ([[
      server { listen 127.0.0.1:%d ssl default_server; ssl_reject_handshake on; }
      server { listen 127.0.0.1:%d ssl; server_name localhost; %s return 200 "yes"; }
    ]]):format(port, port, identity("server")))
    local err = net.raises("TLSError", fetch, port, "/", nil, { server_hostname = "b.example" })
    assert.matches("the peer refused", err.message, 1, true)
    assert.matches("alert 'unrecognized name'", err.message, 1, true)
    assert.equal(200, (fetch(port, "/")))
    assert.truthy(server)
  end)

  it("takes up sessions again", function()
    local folder <close> = script.folder()
    local port = net.free_port()
    local server <close> = nginx.start(folder, ([[
      ssl_session_cache shared:sessions:1m;
      ssl_protocols TLSv1.2 TLSv1.3;
      server { listen 127.0.0.1:%d ssl; %s return 200 "$ssl_session_reused"; }
    ]]):format(port, identity("server")))
    for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
      local context = tls.client { max_version = version }
      local reused = {}
      for i = 1, 3 do
        local stream <close> = tls.connect(port, context)
        local _, body = get(stream, "/")
        reused[i] = body .. " " .. tostring(stream:get_extra_info("tls").resumed)
      end
      assert.same({ ". false", "r true", "r true" }, reused)
    end
    assert.truthy(server)
  end)

  it("wants a client certificate, and says what it thinks of ours", function()
    local folder <close> = script.folder()
    local port = net.free_port()
    local server <close> = nginx.start(folder, ([[
      server {
        listen 127.0.0.1:%d ssl; %s
        ssl_client_certificate %s; ssl_verify_client on;
        return 200 "$ssl_client_verify $ssl_client_s_dn";
      }
    ]]):format(port, identity("server"), certs.client_ca))
    local status, body = fetch(port, "/", tls.client_with())
    assert.equal(200, status)
    assert.equal("SUCCESS CN=client,O=Moonloop", body)
    status, body = fetch(port, "/")
    assert.equal(400, status)
    assert.matches("No required SSL certificate was sent", body)
    status = fetch(port, "/", tls.client_with("client_unknown"))
    assert.equal(400, status)
    assert.truthy(server)
  end)

  it("says by its plain port that it speaks no TLS there", function()
    local folder <close> = script.folder()
    local port = net.free_port()
    local server <close> = nginx.start(folder,
      ("server { listen 127.0.0.1:%d; return 200 'plain'; }"):format(port))
    local err = net.raises("TLSError", tls.connect, port)
    assert.equal("WRONG_VERSION_NUMBER", err.code)
    assert.matches("the peer [%l ]- not speak TLS", (err.message:gsub("speaks plain HTTP",
      "does not speak TLS")))
    local stream <close> = moonloop.connect("127.0.0.1", port)
    assert.equal(200, (get(stream, "/")))
    assert.truthy(server)
  end)
end)

describe("nginx as the TLS client of our server", function()
  before_each(function() need("nginx", "curl") end)

  local PROXY = [[
    upstream ours { server 127.0.0.1:%d; keepalive 4; }
    server {
      listen 127.0.0.1:%d backlog=64;
      location / {
        proxy_pass https://ours;
        proxy_http_version 1.1;
        proxy_set_header Connection $http_x_connection;
        proxy_request_buffering off;
        proxy_ssl_protocols %s;
        proxy_ssl_server_name on;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate %s;
        proxy_ssl_name localhost;
        %s
      }
    }
  ]]

  local SIZE = 2 * 1024 * 1024

  -- An HTTPS server that sends back what comes. Its `infos` has what get_extra_info("tls") gave
  -- for each connection. Awaits.
  local function start(context)
    local infos = {}
    local http = http_server.new(function(request)
      return "200 OK", request.method == "GET" and request.path or request.body
    end)
    local server = moonloop.start_server(function(stream)
      infos[#infos + 1] = stream:get_extra_info("tls")
      http.handle(stream)
    end, "127.0.0.1", 0, { tls = context })
    return server, http, infos
  end

  -- @param options `protocols`, and `more` lines
  local function proxy(folder, server, options)
    local port = net.free_port()
    options = options or {}
    return nginx.start(folder, PROXY:format(server:port(), port,
      options.protocols or "TLSv1.2 TLSv1.3", certs.ca, options.more or "")), port
  end

  local function curl(line, ...)
    local status, out = peers.run(("exec curl --silent --show-error --max-time 50 " .. line)
      :format(...))
    assert.equal(0, status, out)
    return out
  end

  it("hands requests and bodies on over kept connections, and verifies us", function()
    local folder <close> = script.folder()
    local text = net.text(SIZE)
    folder:write("input", text)
    local server <close>, http, infos = start(tls.server())
    local front <close>, port = proxy(folder, server)
    assert.is_true(curl("-T %s/input http://127.0.0.1:%d/echo", folder.path, port) == text)
    assert.is_true(curl("'http://127.0.0.1:%d/[10-29]'", port):find("/10/11.*/29$") == 1)
    assert.equal(21, http.requests)
    assert.is_true(http.connections <= 2, http.connections)
    assert.equal("TLSv1.3", infos[1].version)
    assert.truthy(front)
  end)

  it("takes up sessions again, connection by connection", function()
    local folder <close> = script.folder()
    local server <close>, http, infos = start(tls.server())
    local front <close>, port = proxy(folder, server, { protocols = "TLSv1.2" })
    curl("-H 'X-Connection: close' 'http://127.0.0.1:%d/[1-4]'", port)
    assert.equal(4, http.connections)
    assert.is_false(infos[1].resumed)
    for i = 2, 4 do assert.is_true(infos[i].resumed) end
    assert.truthy(front)
  end)

  it("shows its client certificate", function()
    local folder <close> = script.folder()
    local server <close>, _, infos = start(tls.server("server", {
      client_ca = certs.client_ca, verify_client = true,
    }))
    local front <close>, port = proxy(folder, server, {
      more = ("proxy_ssl_certificate %s; proxy_ssl_certificate_key %s;"):format(certs.client.cert,
        certs.client.key),
    })
    assert.equal("/there", curl("http://127.0.0.1:%d/there", port))
    assert.is_true(infos[1].verified)
    assert.matches("CN=client", infos[1].peercert.subject, 1, true)
    assert.truthy(front)
  end)

  it("trusts us under our name only, and our server goes on", function()
    local folder <close> = script.folder()
    local reports <close> = tls.reports()
    local server <close> = start(tls.server("a"))
    local front <close>, port = proxy(folder, server)
    assert.equal("502", curl("-o /dev/null -w '%%{http_code}' http://127.0.0.1:%d/", port))
    local stream <close> = tls.connect(server, nil, { server_hostname = "a.example" })
    local status, body = get(stream, "/still")
    assert.equal(200, status)
    assert.equal("/still", body)
    assert.is_true(#reports <= 1)
    assert.truthy(front)
  end)
end)
