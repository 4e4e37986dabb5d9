-- SPDX-License-Identifier: MIT
-- SSLKEYLOGFILE: the file that a program's contexts write the secrets of their connections to, in
-- the format that Wireshark reads.
local certs = require "spec.support.certificates"
local command = require "spec.support.command"
local script = require "spec.support.script"

-- A program that connects to a server of its own `...` times by that version, and says hello.
local TALK = [[
local moonloop = require "moonloop"
local version, times = ...
local server <close> = moonloop.start_server(function(stream) stream:write("hello") end,
  "127.0.0.1", 0, { tls = moonloop.tls.server_context { cert = %q, key = %q } })
for _ = 1, times do
  local context = moonloop.tls.client_context { ca_file = %q, max_version = version }
  local stream <close> = moonloop.connect("127.0.0.1", server:port(), { tls = context })
  print(stream:read())
end
]]

-- Runs that program in the folder, with the variable set to keys.txt there unless `path` is
-- another one, or false; gives what it said on stderr.
local function talk(folder, version, times, path)
  if path == nil then path = folder.path .. "/keys.txt" end
  folder:write("x.lua", TALK:format(certs.server.cert, certs.server.key, certs.ca))
  local status, out, err = folder:moonloop({ "x.lua", version, tostring(times) },
    { env = { SSLKEYLOGFILE = path } })
  assert.equal(0, status, err)
  assert.equal(("hello\n"):rep(times), out)
  return err
end

-- How many lines with each label there are; a line of another form is an error.
local function labels(text)
  local counts = {}
  for line in text:gmatch("[^\n]+") do
    local label, random, secret = line:match("^([%u%d_]+) (%x+) (%x+)$")
    assert.is_truthy(label, line)
    assert.equal(64, #random)
    assert.is_true(#secret >= 64)
    counts[label] = (counts[label] or 0) + 1
  end
  return counts
end

describe("SSLKEYLOGFILE #slow", function()
  it("gets the secrets of TLS 1.3, from both sides, for its owner's eyes alone", function()
    local folder <close> = script.folder()
    talk(folder, "TLSv1.3", 1)
    local counts = labels(folder:read("keys.txt"))
    for _, label in ipairs {
      "CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET",
      "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0",
    } do
      assert.equal(2, counts[label], label)
    end
    local _, mode = command.run { "stat", "-c", "%a", folder.path .. "/keys.txt" }
    assert.equal("600\n", mode)
  end)

  it("gets the master secrets of TLS 1.2, from both sides, behind what it holds", function()
    local folder <close> = script.folder()
    talk(folder, "TLSv1.2", 2)
    local first = folder:read("keys.txt")
    assert.same({ CLIENT_RANDOM = 4 }, labels(first))
    talk(folder, "TLSv1.2", 1)
    local all = folder:read("keys.txt")
    assert.equal(first, all:sub(1, #first))
    assert.same({ CLIENT_RANDOM = 6 }, labels(all))
  end)

  it("that cannot be written to, or is empty, stops nothing", function()
    local folder <close> = script.folder()
    talk(folder, "TLSv1.3", 1, "/nowhere/keys.txt")
    assert.equal("", talk(folder, "TLSv1.3", 1, ""))
  end)

  it("is not written where the variable is not set", function()
    local folder <close> = script.folder()
    talk(folder, "TLSv1.3", 1, false)
    local _, files = command.run { "ls", folder.path }
    assert.equal("x.lua\n", files)
  end)
end)
