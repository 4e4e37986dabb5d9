-- SPDX-License-Identifier: MIT
-- Server Name Indication: the name that a client sends, and a server's choice of the certificate
-- by it. A choice that fails ends that handshake, is reported, and the server goes on.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local tls = require "spec.support.tls"

-- A server context with the certificate of `localhost` and that function for `sni`.
local function choosing(sni, options)
  local all = { sni = sni }
  for name, value in pairs(options or {}) do all[name] = value end
  return tls.server("server", all)
end

-- The names that a server is told when clients connect with these options; "none" for no name.
local function told(...)
  local names = {}
  local context = choosing(function(name)
    names[#names + 1] = name == nil and "none" or name
  end)
  local client = tls.client { verify = false }
  for _, options in ipairs { ... } do
    tls.succeeds {
      server = context, client = client, client_options = options,
      server_options = { host = options.host },
    }
  end
  return names
end

describe("The name that a client sends", function()
  it("is the host, or server_hostname in its place", function()
    assert.same({ "localhost", "a.example" }, told(
      { host = "localhost", server_hostname = false },
      { host = "localhost", server_hostname = "a.example" }))
  end)

  it("has no dot at its end", function()
    assert.same({ "a.example" }, told { server_hostname = "a.example." })
  end)

  it("is left out for IP literals and for the empty string", function()
    assert.same({ "none", "none", "none", "none" }, told(
      { host = "127.0.0.1", server_hostname = false },
      { host = "::1", server_hostname = false },
      { host = "127.0.0.1", server_hostname = "::1" },
      { host = "localhost", server_hostname = "" }))
  end)

  it("is known on both sides", function()
    local pair <close> = tls.pair {
      server = tls.server "a", client_options = { server_hostname = "a.example" },
    }
    assert.equal("a.example", pair.client:get_extra_info("tls").server_hostname)
    assert.equal("a.example", pair.peer:get_extra_info("tls").server_hostname)
  end)

  it("is unknown to the server where none was sent", function()
    local pair <close> = tls.pair {
      client = tls.client { verify = false }, client_options = { server_hostname = "" },
    }
    assert.is_nil(pair.peer:get_extra_info("tls").server_hostname)
  end)
end)

for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
  describe("A server that chooses by the name, in " .. version .. ",", function()
    local client

    before_each(function()
      client = tls.client { min_version = version, max_version = version }
    end)

    local function subject(context, name)
      local info = tls.succeeds {
        server = context, client = client, client_options = { server_hostname = name },
      }
      assert.is_true(info.verified)
      return info.peercert.subject:match("CN=([^,]+)")
    end

    it("shows each client the certificate of its name", function()
      local others = { ["a.example"] = tls.server "a", ["b.example"] = tls.server "b" }
      local context = choosing(function(name) return others[name] end)
      assert.equal("a.example", subject(context, "a.example"))
      assert.equal("b.example", subject(context, "b.example"))
      assert.equal("localhost", subject(context, "localhost"))
    end)

    it("shows its own to a name that it does not know, which the client refuses", function()
      local others = { ["a.example"] = tls.server "a" }
      local err = tls.fails("CertificateError", {
        server = choosing(function(name) return others[name or ""] end), client = client,
        client_options = { server_hostname = "nobody.example" },
      })
      assert.equal(62, err.verify_code)
      assert.equal(certs.text(certs.server.cert), err.peercert.pem)
    end)

    it("may choose itself", function()
      local context
      context = choosing(function() return context end)
      assert.equal("localhost", subject(context, "localhost"))
    end)

    it("serves with what the chosen context says", function()
      local other = tls.server("a", { alpn = { "two" } })
      local info = tls.succeeds {
        server = choosing(function() return other end, { alpn = { "one" } }),
        client = tls.client { alpn = { "one", "two" }, max_version = version },
        client_options = { server_hostname = "a.example" },
      }
      assert.equal("two", info.alpn)
    end)

    it("asks for a client's certificate when the chosen context does", function()
      local other = tls.server("a", { client_ca = certs.client_ca, verify_client = true })
      local context = choosing(function(name) return name == "a.example" and other or nil end)
      local named = { server_hostname = "a.example" }
      local _, reported = tls.fails("TLSError", {
        server = context, client = client, client_options = named, after = client,
        use = tls.listen,
      })
      assert.matches("the client sent no certificate", reported.message, 1, true)
      local own = tls.client_with("client", { max_version = version })
      assert.is_true(tls.succeeds({
        server = context, client = own, client_options = named,
      }).verified)
    end)
  end)
end

-- Has the function choose for "bad.example" and nil for others; gives the server's report of it
-- and the client's error.
local function chooses_badly(choose)
  local context = choosing(function(name)
    if name == "bad.example" then return choose() end
  end)
  local reports <close> = tls.reports()
  local server <close> = tls.echo(context)
  local err = tls.try(server, nil, { server_hostname = "bad.example" })
  assert.is_true(moonloop.is_error(err, "TLSError"), tostring(err))
  local report = reports:wait()
  assert.equal("TLS handshake with a client failed", report.message)
  assert.is_nil((tls.try(server)))
  assert.equal(1, #reports)
  return report.error, err
end

-- Whether a text is in an Error or in what caused it.
local function says(err, text)
  while err do
    if tostring(err):find(text, 1, true) then return true end
    err = moonloop.is_error(err) and err.cause
  end
  return false
end

describe("A choice by the name that", function()
  it("raises fails the handshake and is reported with the error", function()
    local reported, err = chooses_badly(function() error("no such house") end)
    assert.is_true(says(reported, "no such house"), tostring(reported))
    assert.is_false(says(err, "no such house"))
  end)

  it("raises an Error is reported with that", function()
    local reported = chooses_badly(function()
      error(moonloop.Error.new { kind = "Error", message = "a kind of its own" })
    end)
    assert.is_true(says(reported, "a kind of its own"), tostring(reported))
  end)

  it("raises nil fails the handshake, too", function()
    chooses_badly(function() error() end)
  end)

  it("gives something else than a server context fails the handshake", function()
    for _, value in ipairs { 42, "a.example", true, {}, print, tls.client() } do
      local reported = chooses_badly(function() return value end)
      assert.is_true(says(reported, "context"), tostring(reported))
    end
    assert.is_true(says(chooses_badly(function() return false end), "context"))
  end)

  it("tries to await fails the handshake", function()
    for _, await in ipairs {
      function() moonloop.sleep(0) end,
      function() moonloop.Event():wait() end,
      function() return coroutine.yield() end,
    } do
      local reported = chooses_badly(await)
      assert.is_true(says(reported, "await") or says(reported, "yield"), tostring(reported))
    end
  end)

  it("starts a task has it run", function()
    local ran = moonloop.Future()
    tls.succeeds {
      server = choosing(function()
        moonloop.create_task(function() ran:set_result("ran") end)
      end),
    }
    assert.equal("ran", ran:await())
  end)

  it("reloads, or makes and drops contexts, does no harm", function()
    local context
    context = choosing(function()
      context:reload()
      local other = tls.server "server"
      collectgarbage()
      return other
    end)
    assert.is_true(tls.succeeds({ server = context }).verified)
  end)
end)

describe("A client's context", function()
  it("has no option sni", function()
    net.refuses("sni", moonloop.tls.client_context, { sni = print })
  end)
end)
