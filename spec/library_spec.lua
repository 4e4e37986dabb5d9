-- SPDX-License-Identifier: MIT
-- What the build leaves: the symbols that the libraries show to others, and an
-- installed tree that needs nothing of the source tree.
local command = require "spec.support.command"
local source = require "spec.support.source"
local stock = require "spec.support.stock"

-- The names of defined symbols that `nm` lists with `flags`, sorted by nm.
-- What a sanitizer adds to every object is not ours.
local function symbols(flags, file)
  local status, out = command.run({ "nm", "--format=posix", "--defined-only", flags,
    stock.build .. "/" .. file })
  assert.equal(0, status)
  local names = {}
  for name in out:gmatch("([%w_.@]+) [A-Z] ") do
    if not name:find("^__") and not name:find("^_[A-Z]") then names[#names + 1] = name end
  end
  return names
end

local function not_public(names)
  local bad = {}
  for _, name in ipairs(names) do
    if not name:find("^moonloop_") and not name:find("^luaopen_moonloop") then
      bad[#bad + 1] = name
    end
  end
  return bad
end

local function declared()
  local names = {}
  for name in source.read("host/moonloop.h"):gmatch("([%w_]+)%(") do
    if name:find("^moonloop_") or name == "luaopen_moonloop" then names[name] = true end
  end
  return names
end

describe("the libraries", function()
  for _, case in ipairs {
    { "-g", "libmoonloop.a" },
    { "-D", "libmoonloop.so" },
    { "-D", "moonloop.so" },
  } do
    it("show only public names: " .. case[2], function()
      local names = symbols(case[1], case[2])
      assert.is_true(#names > 0)
      assert.same({}, not_public(names))
    end)

    it("hold every function of moonloop.h: " .. case[2], function()
      local missing = declared()
      for _, name in ipairs(symbols(case[1], case[2])) do missing[name] = nil end
      assert.is_nil(next(missing))
    end)
  end
end)

-- What is installed is the plain build: once is enough.
local describe_plain = stock.build:find("asan", 1, true) and pending or describe

describe_plain("make install", function()
  local folder

  lazy_setup(function()
    folder = os.tmpname()
    os.remove(folder)
    local status, _, err = command.run({ "make", "install", "PREFIX=/usr", "DESTDIR=" .. folder },
      { timeout = 300, env = { MAKEFLAGS = false } })
    assert.equal(0, status, err)
  end)

  lazy_teardown(function() command.run { "rm", "-rf", folder } end)

  it("installs a command that finds its library in itself", function()
    local status, out, err = command.run {
      "env", "-C", "/", folder .. "/usr/bin/moonloop", "-e", [[
        print((pcall(moonloop.sleep, 0)))]] }
    assert.same({ 0, "true\n", "" }, { status, out, err })
  end)

  it("installs nothing that looks into the source tree", function()
    local _, here = command.run { "pwd" }
    here = here:gsub("\n", "")
    for _, name in ipairs { "bin/moonloop", "lib/lua/5.4/moonloop.so" } do
      local text = source.read(folder .. "/usr/" .. name)
      assert.is_nil(text:find(here .. "/lua\0", 1, true), name)
    end
    local pc = source.read(folder .. "/usr/lib/pkgconfig/moonloop.pc")
    assert.is_nil(pc:find(here, 1, true))
  end)

  it("installs a module for stock Lua", function()
    local status, out, err = command.run { "lua5.4", "-e",
      ("package.cpath = %q"):format(folder .. "/usr/lib/lua/5.4/?.so"),
      "-e", 'require("moonloop").run(function() print("ran") end)' }
    assert.same({ 0, "ran\n", "" }, { status, out, err })
  end)

  it("is undone by make uninstall", function()
    local status = command.run({ "make", "uninstall", "PREFIX=/usr", "DESTDIR=" .. folder },
      { env = { MAKEFLAGS = false } })
    local _, left = command.run { "find", folder, "!", "-type", "d" }
    assert.same({ 0, "" }, { status, left })
  end)
end)
