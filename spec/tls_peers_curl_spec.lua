-- SPDX-License-Identifier: MIT
-- curl and an HTTPS server of ours: versions, ALPN, names, client certificates, what curl makes of
-- certificates that it does not trust, and plain HTTP sent to the TLS port.
local certs = require "spec.support.certificates"
local http_server = require "spec.support.http_server"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local peers = require "spec.support.peers"
local programs = require "spec.support.programs"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

local NOT_TRUSTED = 60 -- curl's exit status
local HANDSHAKE = 35

-- Pends the spec unless all these programs are there.
local function need(...)
  local missing = programs.missing(...)
  if missing then pending(missing .. " is not installed") end
end

-- An HTTPS server that answers with the path, or with the body that came. Its `infos` has what
-- get_extra_info("tls") gave for each connection. Awaits.
local function start(context, respond)
  local infos = {}
  local http = http_server.new(respond or function(request)
    return "200 OK", request.method == "GET" and request.path or request.body
  end)
  local server = moonloop.start_server(function(stream)
    infos[#infos + 1] = stream:get_extra_info("tls")
    http.handle(stream)
  end, "127.0.0.1", 0, { tls = context or tls.server() })
  return server, infos, http
end

-- Runs curl, which takes every name for 127.0.0.1 and the server's port. Awaits.
-- @return its exit status, and what it printed
local function try(server, line)
  return peers.run(("exec curl --silent --show-error --max-time 50 --connect-to ::127.0.0.1:%d "
    .. "--cacert %s %s"):format(server:port(), certs.ca, line))
end

local function curl(server, line)
  local status, out = try(server, line)
  assert.equal(0, status, out)
  return out
end

describe("curl over HTTPS", function()
  before_each(function() need("curl", "openssl") end)

  it("speaks the versions that it is told to", function()
    local server <close>, infos = start()
    assert.equal("/a", curl(server, "--tlsv1.3 https://localhost/a"))
    assert.equal("/b", curl(server, "--tlsv1.2 --tls-max 1.2 https://localhost/b"))
    assert.equal("/c", curl(server, "https://127.0.0.1/c"))
    assert.same({ "TLSv1.3", "TLSv1.2", "TLSv1.3" },
      { infos[1].version, infos[2].version, infos[3].version })
  end)

  it("speaks HTTP/1.1 by ALPN, and nothing with a server that has other protocols", function()
    local server <close>, infos = start(tls.server("server", { alpn = { "http/1.1" } }))
    assert.equal("/a 1.1", curl(server, "-w ' %{http_version}' https://localhost/a"))
    assert.equal("/b", curl(server, "--no-alpn https://localhost/b"))
    assert.equal("http/1.1", infos[1].alpn)
    assert.is_nil(infos[2].alpn)
    local reports <close> = tls.reports()
    local other <close> = start(tls.server("server", { alpn = { "imap" } }))
    local status, out = try(other, "https://localhost/")
    assert.equal(HANDSHAKE, status, out)
    assert.matches("no application protocol", out)
    assert.matches("ALPN", reports:wait().error.message, 1, true)
    assert.equal("/c", curl(other, "--no-alpn https://localhost/c"))
  end)

  it("uses one connection for ten requests, and sessions for those that it closes", function()
    local server <close>, infos, http = start()
    assert.equal("/1/2/3/4/5/6/7/8/9/10", curl(server, "'https://localhost/[1-10]'"))
    assert.equal(1, #infos)
    assert.equal(10, http.requests)
    curl(server, "-H 'Connection: close' 'https://localhost/[1-4]'")
    assert.equal(5, #infos)
    assert.is_false(infos[2].resumed)
    for i = 3, 5 do assert.is_true(infos[i].resumed) end
  end)

  it("sends a big body and gets it back, by length and in chunks", function()
    local folder <close> = script.folder()
    local text = net.text(2 * 1024 * 1024)
    local input = folder:write("input", text)
    local server <close> = start()
    assert.is_true(curl(server, ("-T %s https://localhost/echo"):format(input)) == text)
    assert.is_true(curl(server, ("-T - https://localhost/echo <%s"):format(input)) == text)
  end)

  it("gets a file by sendfile, in the parts that it asks for", function()
    local folder <close> = script.folder()
    local text = net.text(1000000)
    local file = folder:write("page", text)
    local server <close> = start(nil, function()
      return "200 OK", { file = file, size = #text }
    end)
    assert.is_true(curl(server, "'https://localhost/[1-2]'") == text:rep(2))
  end)

  it("makes 40 requests, 20 at a time", function()
    local folder <close> = script.folder()
    local server <close>, _, http = start()
    curl(server, ("--parallel --parallel-max 20 -o '%s/#1' 'https://localhost/[1-40]'")
      :format(folder.path))
    for i = 1, 40 do assert.equal("/" .. i, folder:read(tostring(i))) end
    assert.equal(40, http.requests)
  end)

  it("talks to a TLS server on a Unix socket", function()
    local folder <close> = script.folder()
    local http = http_server.new(function(request) return "200 OK", request.path end)
    local path = folder.path .. "/socket"
    local server <close> = moonloop.start_unix_server(http.handle, path, { tls = tls.server() })
    local status, out = peers.run(("exec curl -sS --cacert %s --unix-socket %s "
      .. "https://localhost/there"):format(certs.ca, path))
    assert.equal("/there", out)
    assert.equal(0, status)
    assert.is_true(server:is_serving())
  end)

  it("gets the certificate of the name that it asks for", function()
    local contexts = { ["a.example"] = tls.server("a"), ["b.example"] = tls.server("b") }
    local server <close>, infos = start(tls.server("server", {
      sni = function(name) return contexts[name] end,
    }))
    assert.equal("/a", curl(server, "https://a.example/a"))
    assert.equal("/b", curl(server, "https://b.example/b"))
    assert.equal("/c", curl(server, "https://localhost/c"))
    assert.equal("/d", curl(server, "https://127.0.0.1/d"))
    assert.same({ "a.example", "b.example", "localhost" },
      { infos[1].server_hostname, infos[2].server_hostname, infos[3].server_hostname })
    local reports <close> = tls.reports()
    local status, out = try(server, "https://c.example/")
    assert.equal(NOT_TRUSTED, status, out)
    assert.is_true(#reports <= 1)
  end)

  it("shows its certificate where it must", function()
    local server <close>, infos = start(tls.server("server", {
      client_ca = certs.client_ca, verify_client = true,
    }))
    assert.equal("/in", curl(server, ("--cert %s --key %s https://localhost/in"):format(
      certs.client.cert, certs.client.key)))
    assert.matches("CN=client", infos[1].peercert.subject, 1, true)
    local reports <close> = tls.reports()
    for _, version in ipairs { "1.2", "1.3" } do
      local status, out = try(server, "--tls-max " .. version .. " https://localhost/in")
      assert.is_true(status == HANDSHAKE or status == 56, status .. " " .. out)
    end
    for i = 1, 2 do
      assert.matches("the client sent no certificate", reports:wait(i).error.message, 1, true)
    end
    assert.equal(1, #infos)
  end)
end)

describe("curl that does not trust our server", function()
  before_each(function() need("curl", "openssl") end)

  local CASES = {
    { what = "since it has expired", leaf = "expired", words = "certificate has expired" },
    { what = "since it is not yet valid", leaf = "early", words = "not yet valid" },
    { what = "since it is self-signed", leaf = "self_signed", words = "self.signed certificate" },
    { what = "since it does not know the authority", leaf = "unknown",
      words = "unable to get local issuer certificate" },
    { what = "since it has another name", leaf = "a", words = "localhost" },
    { what = "since it is for clients", leaf = "wrong_purpose", words = "certificate purpose" },
  }

  for _, case in ipairs(CASES) do
    it("says so " .. case.what .. ", and the server goes on", function()
      local reports <close> = tls.reports()
      local server <close> = start(tls.server(case.leaf))
      local status, out = try(server, "https://localhost/no")
      assert.equal(NOT_TRUSTED, status, out)
      assert.matches(case.words, out)
      assert.equal("/yes", curl(server, "--insecure https://localhost/yes"))
      server:close()
      server:wait_closed()
      -- The name is looked at after the handshake, so then nothing has failed here.
      for _, report in ipairs(reports) do
        assert.is_true(moonloop.is_error(report.error, "TLSError"), tostring(report.error))
      end
      assert.is_true(#reports <= 1)
    end)
  end
end)

describe("curl that speaks plain HTTP to the TLS port", function()
  it("fails, we report why, and the server goes on", function()
    need("curl", "openssl")
    local reports <close> = tls.reports()
    local server <close>, infos = start()
    local status, out = try(server, "http://localhost/plain")
    assert.is_true(status ~= 0, out)
    local report = reports:wait()
    assert.equal("TLS handshake with a client failed", report.message)
    assert.equal("HTTP_REQUEST", report.error.code)
    assert.matches("the peer speaks plain HTTP", report.error.message, 1, true)
    assert.equal("/tls", curl(server, "https://localhost/tls"))
    assert.equal(1, #infos)
    assert.equal(1, #reports)
  end)
end)

describe("curl that speaks TLS to a plain port", function()
  it("fails and the plain server goes on", function()
    need("curl", "openssl")
    local server <close> = moonloop.start_server(function(stream)
      stream:read(1000)
      stream:write("HTTP/1.0 400 Bad Request\r\n\r\nplain")
    end, "127.0.0.1", 0)
    local status, out = try(server, "https://localhost/")
    assert.equal(HANDSHAKE, status, out)
    assert.matches("wrong version number", out)
    assert.equal("plain", curl(server, "http://localhost/"))
  end)
end)
