-- SPDX-License-Identifier: MIT
-- The contexts of TLS: what client_context and server_context take and refuse, where the files
-- they name are missing, no PEM, of another kind or locked by a password, and that a context is
-- let go of.
local certs = require "spec.support.certificates"
local moonloop = require "moonloop"
local net = require "spec.support.net"
local script = require "spec.support.script"
local tls = require "spec.support.tls"

local client_context = moonloop.tls.client_context
local server_context = moonloop.tls.server_context

-- Options of a server context with the certificate of `localhost`, but for `changes`.
local function with(changes)
  local options = { cert = certs.server.cert, key = certs.server.key }
  for name, value in pairs(changes) do options[name] = value end
  return options
end

-- What a TLSError says that `fn(options)` raises.
local function complaint(fn, options)
  return net.raises("TLSError", fn, options).message
end

local COMMON = {
  cert = "string", key = "string", key_password = "string", alpn = "table",
  min_version = "string", max_version = "string", ciphers = "string",
  allow_truncation = "boolean",
}
local CLIENT = { ca_file = "string", ca_path = "string", verify = "boolean",
  session_cache = "boolean" }
local SERVER = { client_ca = "string", sni = "function" }

local function refuses_wrong_types(fn, name, options)
  for option, kind in pairs(options) do
    for _, value in ipairs { 42, true, "text", {}, print } do
      if type(value) ~= kind then
        local said = net.refuses(("bad argument #1 to '%s'"):format(name), fn,
          with { [option] = value })
        assert.matches("'" .. option .. "'", said, 1, true)
      end
    end
  end
end

describe("tls.client_context", function()
  it("takes no option at all, and no table", function()
    assert.equal("TLSContext: (client)", tostring(client_context {}))
    assert.equal("TLSContext: (client)", tostring(client_context()))
  end)

  it("takes every option that it has", function()
    local context = client_context {
      ca_file = certs.ca, ca_path = certs.hashed, cert = certs.client.cert,
      key = certs.client.key, key_password = "not needed", alpn = { "h2", "http/1.1" },
      min_version = "TLSv1", max_version = "TLSv1.3", verify = true, ciphers = "HIGH",
      session_cache = false, allow_truncation = true,
    }
    assert.equal("TLSContext: (client)", tostring(context))
  end)

  it("refuses options of another type, naming them", function()
    refuses_wrong_types(client_context, "client_context", COMMON)
    refuses_wrong_types(client_context, "client_context", CLIENT)
    net.refuses("bad argument #1 to 'client_context'", client_context, 42)
  end)

  it("names the nearest option to one that does not exist", function()
    net.refuses("did you mean 'ca_file'?", client_context, { cafile = certs.ca })
    net.refuses("did you mean 'verify'?", client_context, { verify_ = false })
    net.refuses("no option 'client_ca'", client_context, { client_ca = certs.ca })
  end)

  it("refuses a key without a certificate", function()
    net.refuses("'cert'", client_context, { key = certs.client.key })
  end)
end)

describe("tls.server_context", function()
  it("takes every option that it has", function()
    local context = server_context {
      cert = certs.server.cert, key = certs.server.key, key_password = "not needed",
      client_ca = certs.client_ca, verify_client = "optional", alpn = { "h2" },
      min_version = "TLSv1.2", max_version = "TLSv1.3", ciphers = "HIGH", sni = print,
      allow_truncation = true,
    }
    assert.equal("TLSContext: (server)", tostring(context))
  end)

  it("needs a certificate", function()
    net.refuses("'cert'", server_context, {})
    net.refuses("bad argument #1 to 'server_context'", server_context)
    net.refuses("'cert'", server_context, { key = certs.server.key })
  end)

  it("refuses options of another type, naming them", function()
    refuses_wrong_types(server_context, "server_context", COMMON)
    refuses_wrong_types(server_context, "server_context", SERVER)
    net.refuses("bad argument #1 to 'server_context'", server_context, "text")
  end)

  it("names the nearest option to one that does not exist", function()
    net.refuses("did you mean 'client_ca'?", server_context, with { clientca = certs.ca })
    net.refuses("no option 'ca_file'", server_context, with { ca_file = certs.ca })
  end)

  it("takes for verify_client false, true and \"optional\" alone", function()
    for _, value in ipairs { "maybe", 1, {} } do
      net.refuses("'verify_client'", server_context,
        with { verify_client = value, client_ca = certs.client_ca })
    end
    assert.is_truthy(server_context(with { verify_client = false }))
  end)

  it("needs client_ca to verify clients", function()
    net.refuses("'client_ca'", server_context, with { verify_client = true })
    net.refuses("'client_ca'", server_context, with { verify_client = "optional" })
  end)
end)

describe("A version of TLS", function()
  it("that there is none of is refused, and the nearest named", function()
    for _, option in ipairs { "min_version", "max_version" } do
      local said = net.refuses("'TLSv1.4'", client_context, { [option] = "TLSv1.4" })
      assert.matches(option, said, 1, true)
      assert.matches("did you mean 'TLSv1.", said, 1, true)
      net.refuses("did you mean 'TLSv1.2'?", server_context, with { [option] = "tlsv1.2" })
    end
  end)

  it("may be the lowest and the highest at once", function()
    for _, version in ipairs { "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3" } do
      local context = client_context { min_version = version, max_version = version }
      assert.equal("TLSContext: (client)", tostring(context))
    end
  end)

  it("is refused as the lowest above the highest", function()
    local said = net.refuses("min_version", client_context,
      { min_version = "TLSv1.3", max_version = "TLSv1.2" })
    assert.matches("max_version", said, 1, true)
    net.refuses("max_version", server_context, with { max_version = "TLSv1.1" })
  end)
end)

describe("A list of protocols", function()
  it("is refused unless it holds strings of 1 to 255 bytes", function()
    local long = ("x"):rep(256)
    for _, list in ipairs { { "h2", 7 }, { "" }, { long }, { { "h2" } }, { h2 = true } } do
      net.refuses("'alpn'", client_context, { alpn = list })
      net.refuses("'alpn'", server_context, with { alpn = list })
    end
    assert.is_truthy(client_context { alpn = { ("x"):rep(255) } })
  end)

  it("is read when the context is made", function()
    local names = { "one", "two" }
    local server = tls.server("server", { alpn = names })
    local client = tls.client { alpn = names }
    names[1], names[2] = "three", nil
    assert.equal("one", tls.succeeds({ server = server, client = client }).alpn)
  end)
end)

describe("A list of ciphers", function()
  it("that OpenSSL finds nothing for is refused", function()
    for _, list in ipairs { "nonsense", "", "TLS_NONSENSE" } do
      for _, fn in ipairs { client_context, server_context } do
        local ok, err = pcall(fn, with { ciphers = list })
        assert.is_false(ok)
        assert.matches("ciphers", tostring(err), 1, true)
      end
    end
  end)
end)

describe("A file that a context names", function()
  local absent = "/nowhere/at all.pem"

  local function not_found(fn, options)
    local err = net.raises("FileNotFoundError", fn, options)
    assert.equal("ENOENT", err.code)
    assert.matches(absent, err.message, 1, true)
  end

  it("and that is missing is a FileNotFoundError that names it", function()
    not_found(client_context, { ca_file = absent })
    not_found(client_context, { ca_path = absent })
    not_found(client_context, { cert = absent })
    not_found(client_context, { cert = certs.client.cert, key = absent })
    not_found(server_context, { cert = absent })
    not_found(server_context, with { key = absent })
    not_found(server_context, with { client_ca = absent, verify_client = true })
  end)

  it("and that is a folder is an error that names it", function()
    for option, fn in pairs { cert = server_context, key = server_context,
      ca_file = client_context } do
      local err = net.raises("Error", fn, fn == client_context and { ca_file = certs.folder }
        or with { [option] = certs.folder })
      assert.matches(certs.folder, err.message, 1, true)
      assert.matches(option, err.message, 1, true)
    end
  end)

  it("and that holds no PEM of the kind is a TLSError that names option and file", function()
    local folder <close> = script.folder()
    local garbage, empty = folder:write("x.pem", "garbage\n"), folder:write("empty.pem", "")
    local function names(fn, option, options, path)
      local said = complaint(fn, options)
      assert.matches("^" .. option, said)
      assert.matches(path, said, 1, true)
    end
    for _, path in ipairs { garbage, empty } do
      names(client_context, "ca_file", { ca_file = path }, path)
      names(client_context, "cert", { cert = path }, path)
      names(server_context, "cert", with { cert = path }, path)
      names(server_context, "key", with { key = path }, path)
      names(server_context, "client_ca", with { client_ca = path, verify_client = true }, path)
    end
    names(server_context, "cert", with { cert = certs.server.key }, certs.server.key)
    names(server_context, "key", with { key = certs.server.cert }, certs.server.cert)
  end)
end)

describe("PEM text in the place of a path", function()
  it("serves for certificate, key and authorities", function()
    local server = server_context {
      cert = certs.text(certs.server.cert), key = certs.text(certs.server.key),
      client_ca = certs.text(certs.client_ca), verify_client = true,
    }
    local client = client_context {
      ca_file = certs.text(certs.ca), cert = certs.text(certs.client.cert),
      key = certs.text(certs.client.key),
    }
    assert.equal(certs.text(certs.server.cert),
      tls.succeeds({ server = server, client = client }).peercert.pem)
  end)

  it("may hold several authorities, and words between them", function()
    local text = "The first:\n" .. certs.text(certs.other_ca) .. "and the second:\n"
      .. certs.text(certs.ca)
    assert.is_true(tls.succeeds({ client = client_context { ca_file = text } }).verified)
  end)

  it("that is damaged is a TLSError that names the option and does not repeat it", function()
    local damaged = certs.text(certs.server.cert):gsub("\n%w%w", "\n!!")
    for option, said in pairs {
      cert = complaint(server_context, with { cert = damaged }),
      key = complaint(server_context, with { key = "-----BEGIN PRIVATE KEY-----\nx\n" }),
      ca_file = complaint(client_context, { ca_file = damaged }),
    } do
      assert.matches("^" .. option, said)
      assert.not_matches("BEGIN", said)
    end
  end)
end)

describe("A key", function()
  it("is taken from the certificate's file or text where none is given", function()
    local folder <close> = script.folder()
    local both = certs.text(certs.server.key) .. certs.text(certs.server.cert)
    local path = folder:write("both.pem", both)
    assert.is_true(tls.succeeds({ server = server_context { cert = path } }).verified)
    assert.is_true(tls.succeeds({ server = server_context { cert = both } }).verified)
  end)

  it("that is nowhere is a TLSError", function()
    assert.matches("key", complaint(server_context, { cert = certs.server.cert }), 1, true)
  end)

  it("of another certificate is refused", function()
    assert.matches("does not belong to the certificate",
      complaint(server_context, with { key = certs.a.key }), 1, true)
    assert.matches("does not belong to the certificate",
      complaint(client_context, with { key = certs.a.key }), 1, true)
  end)

  it("that is locked opens with its password", function()
    assert.is_true(tls.succeeds({ server = tls.server "encrypted" }).verified)
  end)

  it("that is locked is a TLSError that names key_password without the right one", function()
    for _, password in ipairs { "wrong", false } do
      local options = with { key = certs.encrypted.key, key_password = password or nil }
      assert.matches("key_password", complaint(server_context, options), 1, true)
      assert.matches("key_password", complaint(client_context, options), 1, true)
    end
  end)

  it("that is locked makes nobody ask on the terminal", function()
    local folder <close> = script.folder()
    folder:write("x.lua", ([[
      local ok, err = pcall(require("moonloop").tls.server_context, { cert = %q, key = %q })
      print(ok, err.kind)]]):format(certs.server.cert, certs.encrypted.key))
    local _, said = folder:shell([[script -qec '"$MOONLOOP" x.lua' /dev/null]], { timeout = 20 })
    assert.equal("false\tTLSError", said:match("^%s*(.-)%s*$"))
  end)
end)

describe("A context", function()
  it("has a class of its own", function()
    local mt = getmetatable(client_context())
    assert.equal("moonloop.TLSContext", mt.__name)
    assert.equal(mt, getmetatable(tls.server()))
  end)

  it("refuses methods called on something else", function()
    local reload = client_context().reload
    for _, value in ipairs { 42, {}, io.stdout, moonloop.Event() } do
      assert.matches("TLSContext", net.refuses("reload", reload, value), 1, true)
    end
    assert.matches("TLSContext", net.refuses("reload", reload), 1, true)
  end)

  it("is let go of with what its functions hold", function()
    local seen = setmetatable({}, { __mode = "k" })
    do
      local context
      context = tls.server("server", { sni = function() return context end })
      seen[context], seen[client_context()] = true, true
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(seen))
  end)

  it("outlives nothing that still uses it", function()
    local pair <close> = tls.pair { client = tls.client(), server = tls.server() }
    collectgarbage()
    collectgarbage()
    pair.client:write("hello\n")
    assert.equal("hello\n", pair.peer:readline())
  end)
end)
