-- SPDX-License-Identifier: MIT
-- Sessions of TLS that are resumed: a client's context keeps them by host, port and name, and
-- neither a session of another nor one that the server does not know any more does harm.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

-- Connects and talks once. Says whether the session was resumed, which the client has to know.
local function resumed(server, client, options)
  local err, info = tls.try(server, client, options)
  if err then error(err, 0) end
  return info.resumed
end

for _, version in ipairs { "TLSv1.2", "TLSv1.3" } do
  describe("A client of " .. version .. " that comes again", function()
    local client

    before_each(function()
      client = tls.client { min_version = version, max_version = version }
    end)

    it("resumes its session, as often as it comes", function()
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client))
      for _ = 1, 3 do assert.is_true(resumed(server, client)) end
    end)

    it("says so on both sides", function()
      local server <close> = tls.teller(tls.server(), function(stream)
        return tostring(stream:get_extra_info("tls").resumed)
      end)
      for _, expected in ipairs { "false\n", "true\n" } do
        local stream <close> = tls.connect(server, client)
        assert.equal(expected, stream:readline())
        assert.equal(expected, tostring(stream:get_extra_info("tls").resumed) .. "\n")
      end
    end)

    it("knows of the server what it knew the first time", function()
      local server <close> = tls.echo(tls.server("server", { alpn = { "h2" } }))
      client = tls.client { alpn = { "h2" }, max_version = version }
      local _, first = tls.try(server, client)
      local _, again = tls.try(server, client)
      assert.is_false(first.resumed)
      assert.is_true(again.resumed)
      first.resumed, again.resumed = nil, nil
      assert.is_true(again.verified)
      assert.equal("h2", again.alpn)
      assert.same(first, again)
    end)

    it("is known to the server by its certificate, as the first time", function()
      local context = tls.server("server", { client_ca = certs.client_ca, verify_client = true })
      local server <close> = tls.teller(context, function(stream)
        local info = stream:get_extra_info("tls")
        return table.concat({ info.peercert.subject, tostring(info.verified) }, " ")
      end)
      client = tls.client_with("client", { max_version = version })
      for _ = 1, 2 do
        local stream <close> = tls.connect(server, client)
        assert.equal("CN=client,O=Moonloop true\n", stream:readline())
      end
    end)

    it("begins anew where it keeps no sessions", function()
      local server <close> = tls.echo()
      client = tls.client { session_cache = false, max_version = version }
      for _ = 1, 3 do assert.is_false(resumed(server, client)) end
    end)

    it("begins anew at another port", function()
      local context = tls.server()
      local server <close> = tls.echo(context)
      local other <close> = tls.echo(context)
      assert.is_false(resumed(server, client))
      assert.is_false(resumed(other, client))
      assert.is_true(resumed(server, client))
      assert.is_true(resumed(other, client))
    end)

    it("begins anew at another host", function()
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client, { host = "127.0.0.1" }))
      assert.is_false(resumed(server, client, { host = "localhost" }))
      assert.is_true(resumed(server, client, { host = "localhost" }))
    end)

    it("begins anew under another name", function()
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client, { server_hostname = "localhost" }))
      assert.is_false(resumed(server, client, { server_hostname = "127.0.0.1" }))
      assert.is_false(resumed(server, client, { server_hostname = "" }))
      assert.is_true(resumed(server, client, { server_hostname = "localhost" }))
      assert.is_true(resumed(server, client, { server_hostname = "127.0.0.1" }))
    end)

    it("begins anew with another context", function()
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client))
      assert.is_false(resumed(server, tls.client { max_version = version }))
      assert.is_true(resumed(server, client))
    end)

    it("begins anew, and is verified, at a server that knows nothing of it", function()
      local port
      do
        local server <close> = tls.echo()
        port = server:port()
        assert.is_false(resumed(server, client))
      end
      local server <close> = moonloop.start_server(function(stream)
        for chunk in stream:chunks() do stream:write(chunk) end
      end, "127.0.0.1", port, { tls = tls.server("renewed") })
      local err, info = tls.try(server, client)
      assert.is_nil(err)
      assert.is_false(info.resumed)
      assert.is_true(info.verified)
      assert.equal(certs.text(certs.renewed.cert), info.peercert.pem)
      assert.is_true(resumed(server, client))
    end)

    it("resumes after the server's context was reloaded", function()
      local context = tls.server()
      local server <close> = tls.echo(context)
      assert.is_false(resumed(server, client))
      context:reload()
      assert.is_true(resumed(server, client))
    end)

    it("begins anew after the reload of a server that verifies clients", function()
      local context = tls.server("server", { client_ca = certs.client_ca, verify_client = true })
      local server <close> = tls.echo(context)
      client = tls.client_with("client", { max_version = version })
      assert.is_false(resumed(server, client))
      context:reload()
      assert.is_false(resumed(server, client))
      assert.is_true(resumed(server, client))
    end)

    it("does not resume with a server that it no longer trusts", function()
      local folder <close> = script.folder()
      local path = folder:write("ca.pem", certs.text(certs.ca))
      client = tls.client { ca_file = path, max_version = version }
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client))
      folder:write("ca.pem", certs.text(certs.other_ca))
      client:reload()
      local reports <close> = tls.reports()
      assert.equal("CertificateError", tls.try(server, client).kind)
      reports:wait()
    end)

    it("may come many times at once", function()
      local server <close> = tls.echo()
      assert.is_false(resumed(server, client))
      local group <close> = moonloop.TaskGroup()
      for _ = 1, 8 do
        group:create_task(function() assert.is_nil((tls.try(server, client))) end)
      end
    end)
  end)
end

describe("A session", function()
  it("is not taken over to another version", function()
    local server <close> = tls.echo()
    local twelve, thirteen = tls.client { max_version = "TLSv1.2" }, tls.client()
    for _ = 1, 2 do
      local _, old = tls.try(server, twelve)
      local _, new = tls.try(server, thirteen)
      assert.equal("TLSv1.2", old.version)
      assert.equal("TLSv1.3", new.version)
    end
  end)

  -- Tickets come after the handshake, so a client that does not read gets none.
  local function resumed_unread(version, times)
    local server <close> = tls.echo()
    local client = tls.client { max_version = version }
    assert.is_false(resumed(server, client))
    local answers, group <close> = {}, moonloop.TaskGroup()
    for i = 1, times do
      local stream = tls.connect(server, client)
      answers[i] = stream:get_extra_info("tls").resumed
      group:create_task(function()
        stream:close()
        stream:wait_closed()
      end)
    end
    return answers
  end

  it("serves once in TLS 1.3, where a server gives two at first", function()
    assert.same({ true, true, false }, resumed_unread("TLSv1.3", 3))
  end)

  it("serves again and again in TLS 1.2", function()
    assert.same({ true, true, true }, resumed_unread("TLSv1.2", 3))
  end)

  it("is not kept of a connection whose handshake failed", function()
    local reports <close> = tls.reports()
    local server <close> = tls.echo(tls.server("expired"))
    local client = tls.client()
    for count = 1, 3 do
      assert.equal(10, tls.try(server, client).verify_code)
      reports:wait(count)
    end
  end)

  it("goes with its context", function()
    local seen = setmetatable({}, { __mode = "k" })
    do
      local server <close> = tls.echo()
      local client = tls.client()
      seen[client] = true
      assert.is_false(resumed(server, client))
      assert.is_true(resumed(server, client))
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)
end)
