-- SPDX-License-Identifier: MIT
-- Contexts that read their files again: connections that are made afterwards get what is in them
-- now, those that are open go on, and a reload that fails changes nothing.
local certs = require "spec.support.certificates"
local net = require "spec.support.net"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

-- Puts the certificate and key of a leaf into the folder, as cert.pem and key.pem.
local function put(folder, leaf)
  folder:write("cert.pem", certs.text(certs[leaf].cert))
  folder:write("key.pem", certs.text(certs[leaf].key))
end

-- A context of the role `make`, on cert.pem and key.pem of the folder.
local function on_files(folder, leaf, make, options)
  put(folder, leaf)
  local all = { cert = folder.path .. "/cert.pem", key = folder.path .. "/key.pem" }
  for name, value in pairs(options or {}) do all[name] = value end
  return make(leaf, all)
end

-- The certificate that a new client sees, who resumes nothing.
local function shown(server)
  local err, info = tls.try(server, tls.client { session_cache = false })
  if err then error(err, 0) end
  return info.peercert.pem
end

describe("A server's context that is reloaded", function()
  it("shows the new certificate, and the old one until then", function()
    local folder <close> = script.folder()
    local context = on_files(folder, "server", tls.server)
    local server <close> = tls.echo(context)
    assert.equal(certs.text(certs.server.cert), shown(server))
    put(folder, "renewed")
    assert.equal(certs.text(certs.server.cert), shown(server))
    assert.equal(0, select("#", context:reload()))
    assert.equal(certs.text(certs.renewed.cert), shown(server))
    put(folder, "server")
    context:reload()
    assert.equal(certs.text(certs.server.cert), shown(server))
  end)

  it("does not disturb connections that are open", function()
    local folder <close> = script.folder()
    local context = on_files(folder, "server", tls.server)
    local server <close> = tls.echo(context)
    local old <close> = tls.connect(server)
    tls.talk(old)
    put(folder, "renewed")
    for _ = 1, 5 do
      context:reload()
      collectgarbage()
      tls.talk(old)
    end
    assert.equal(certs.text(certs.renewed.cert), shown(server))
    tls.talk(old)
    assert.equal(certs.text(certs.server.cert), old:get_extra_info("peercert").pem)
  end)

  it("verifies new clients by the new authorities", function()
    local folder <close> = script.folder()
    local path = folder:write("clients.pem", certs.text(certs.client_ca))
    local context = tls.server("server", { client_ca = path, verify_client = true })
    local reports <close> = tls.reports()
    local server <close> = tls.echo(context)
    local known, unknown = tls.client_with "client", tls.client_with "client_unknown"
    local old <close> = tls.connect(server, known)
    tls.talk(old)
    folder:write("clients.pem", certs.text(certs.other_ca))
    context:reload()
    assert.is_nil((tls.try(server, unknown)))
    assert.equal("TLSError", tls.try(server, known, nil, tls.listen).kind)
    assert.equal(20, reports:wait().error.verify_code)
    tls.talk(old)
  end)

  it("that another one chose by the name shows its new certificate", function()
    local folder <close> = script.folder()
    local chosen = on_files(folder, "server", tls.server)
    local server <close> = tls.echo(tls.server("a", { sni = function() return chosen end }))
    assert.equal(certs.text(certs.server.cert), shown(server))
    put(folder, "renewed")
    chosen:reload()
    assert.equal(certs.text(certs.renewed.cert), shown(server))
  end)

  it("keeps its other options", function()
    local asked = 0
    local context = tls.server("server", {
      alpn = { "h2" }, max_version = "TLSv1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384",
      sni = function() asked = asked + 1 end,
    })
    local function spoken()
      local info = tls.succeeds { server = context, client = tls.client { alpn = { "h2" } } }
      return { info.alpn, info.version, info.cipher }
    end
    local before = spoken()
    context:reload()
    assert.same({ "h2", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384" }, before)
    assert.same(before, spoken())
    assert.equal(2, asked)
  end)

  it("opens a locked key with the same password", function()
    local folder <close> = script.folder()
    local context = on_files(folder, "encrypted", tls.server,
      { key_password = certs.encrypted.password })
    local server <close> = tls.echo(context)
    context:reload()
    assert.equal(certs.text(certs.server.cert), shown(server))
  end)

  it("that was made of PEM text stays as it is", function()
    local context = tls.server("server", {
      cert = certs.text(certs.server.cert), key = certs.text(certs.server.key),
    })
    local server <close> = tls.echo(context)
    context:reload()
    assert.equal(certs.text(certs.server.cert), shown(server))
  end)
end)

describe("A reload that fails", function()
  local ways = {
    ["a missing file"] = { "FileNotFoundError", "cert.pem", function(folder)
      os.remove(folder.path .. "/cert.pem")
    end },
    ["garbage"] = { "TLSError", "no certificate in", function(folder)
      folder:write("cert.pem", "garbage")
    end },
    ["the key of another certificate"] = {
      "TLSError", "does not belong to the certificate", function(folder)
        folder:write("key.pem", certs.text(certs.a.key))
      end,
    },
    ["a locked key"] = { "TLSError", "key_password", function(folder)
      folder:write("key.pem", certs.text(certs.encrypted.key))
    end },
  }
  for name, way in pairs(ways) do
    it("for " .. name .. " raises, and the old certificate serves on", function()
      local kind, words, spoil = table.unpack(way)
      local folder <close> = script.folder()
      local context = on_files(folder, "server", tls.server)
      local server <close> = tls.echo(context)
      local old <close> = tls.connect(server)
      spoil(folder)
      for _ = 1, 2 do
        local err = net.raises(kind, context.reload, context)
        assert.matches(words, err.message, 1, true)
        assert.equal(certs.text(certs.server.cert), shown(server))
      end
      tls.talk(old)
      put(folder, "renewed")
      context:reload()
      assert.equal(certs.text(certs.renewed.cert), shown(server))
    end)
  end

  it("in one of its files changes none of the others", function()
    local folder <close> = script.folder()
    local path = folder:write("clients.pem", certs.text(certs.client_ca))
    local context = on_files(folder, "server", tls.server,
      { client_ca = path, verify_client = "optional" })
    local server <close> = tls.echo(context)
    put(folder, "renewed")
    folder:write("clients.pem", "garbage")
    net.raises("TLSError", context.reload, context)
    assert.equal(certs.text(certs.server.cert), shown(server))
    assert.is_nil((tls.try(server, tls.client_with "client")))
  end)
end)

describe("A client's context that is reloaded", function()
  it("verifies by the new authorities", function()
    local folder <close> = script.folder()
    local path = folder:write("ca.pem", certs.text(certs.other_ca))
    local client = tls.client { ca_file = path }
    local err = tls.fails("CertificateError", { client = client })
    assert.equal(20, err.verify_code)
    folder:write("ca.pem", certs.text(certs.ca))
    client:reload()
    assert.is_true(tls.succeeds({ client = client }).verified)
    folder:write("ca.pem", "garbage")
    net.raises("TLSError", client.reload, client)
    assert.is_true(tls.succeeds({ client = client }).verified)
  end)

  it("sends its new certificate", function()
    local folder <close> = script.folder()
    local client = on_files(folder, "client", tls.client_with, { session_cache = false })
    local server <close> = tls.teller(
      tls.server("server", { client_ca = certs.client_ca, verify_client = true }),
      function(stream) return stream:get_extra_info("peercert").subject end)
    local function told()
      local stream <close> = tls.connect(server, client)
      return stream:readline()
    end
    assert.equal("CN=client,O=Moonloop\n", told())
    put(folder, "client_renewed")
    assert.equal("CN=client,O=Moonloop\n", told())
    client:reload()
    assert.equal("CN=client renewed,O=Moonloop\n", told())
  end)
end)
