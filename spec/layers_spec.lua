-- SPDX-License-Identifier: MIT
-- Keeps the direction of dependencies: lua/ needs modules/, modules/ need
-- host/, host/ needs only Lua and libev, and host/command stands on all of it.
-- Reads every #include and require, and names those that point up.
local source = require "spec.support.source"

-- The modules that may know another one, and why.
local KNOWS = {
  stream = { socket = "it owns a descriptor" },
  tls = { stream = "it filters one" },
}

-- The one file that opens all modules, so it knows each, and none knows it.
local ROOT = "modules/library.c"

-- The one file that runs in another's house: busted loads it, nobody else.
local GUEST = { path = "lua/moonloop/testing/busted.lua", requires = "busted" }

-- What the runtime has no business with: that is for modules/.
local NOT_IN_HOST = { "sys/socket.h", "netinet/", "arpa/", "netdb.h", "openssl/", "ares" }

local function layer(path)
  return path:match("^(host/command)/") or path:match("^(%w+)/")
end

-- stream.c, stream_read.c and stream.h are one module.
local function module_of(path)
  return path:match("^modules/([^_./]+)")
end

-- An include is found as the compiler finds it.
local function resolve(name, from)
  local folder = from:match("^(.*)/")
  for _, path in ipairs { folder .. "/" .. name, name, "host/" .. name, "modules/" .. name } do
    path = path:gsub("[^/]+/%.%./", "")
    if source.exists(path) then return path end
  end
  return nil
end

local function may_include(from, to)
  local here, there = layer(from), layer(to)
  if here == "host/command" or there == here and here == "host" then return true end
  if here ~= "modules" then return false end
  local me, other = module_of(from), module_of(to)
  return there == "host" or there == "modules" and
    (from == ROOT or me == other or (KNOWS[me] or {})[other] ~= nil)
end

local function bad_include(path, line)
  local system = line:match('^%s*#%s*include%s*<([^>]+)>')
  if system and layer(path) == "host" then
    for _, prefix in ipairs(NOT_IN_HOST) do
      if system:sub(1, #prefix) == prefix then return "<" .. system .. ">" end
    end
  end
  local name = line:match('^%s*#%s*include%s*"([^"]+)"')
  local to = name and resolve(name, path)
  if name and not (to and may_include(path, to)) then return to or name end
end

local function bad_includes(path, text)
  local bad = {}
  for number, line in source.lines(text) do
    local name = bad_include(path, line)
    if name then bad[#bad + 1] = ("%s:%d: includes %s"):format(path, number, name) end
  end
  return bad
end

-- Calls visit(name, line number) for each require of a literal name.
local function each_require(text, visit)
  for number, line in source.lines(source.without_comments(text)) do
    for name in line:gmatch("%f[%w_]require%s*%(?%s*[\"']([^\"']+)[\"']") do
      visit(name, number)
    end
  end
end

local function bad_requires(path, text)
  local bad = {}
  each_require(text, function(name, number)
    local guest = path == GUEST.path and name == GUEST.requires
    if name ~= "moonloop" and not name:find("^moonloop%.") and not guest then
      bad[#bad + 1] = ("%s:%d: requires %s"):format(path, number, name)
    end
  end)
  return bad
end

local function lua_files()
  local files = {}
  for _, path in ipairs(source.list({ "lua/moonloop" }, { lua = true })) do
    files[path] = source.read(path)
  end
  return files
end

local function path_of(module)
  if module == "moonloop" then module = "moonloop.init" end
  return "lua/" .. module:gsub("%.", "/") .. ".lua"
end

-- Each circle as "a.lua:3 > b.lua:7 > a.lua", in the order of the files.
local function circles(files)
  local found, state, trail = {}, {}, {}
  local function visit(path)
    state[path] = "open"
    each_require(files[path], function(name, number)
      local to = path_of(name)
      trail[#trail + 1] = ("%s:%d"):format(path, number)
      if state[to] == "open" then
        local first = 1
        while trail[first]:match("^(.*):") ~= to do first = first + 1 end
        found[#found + 1] = table.concat(trail, " > ", first) .. " > " .. to
      elseif files[to] and not state[to] then
        visit(to)
      end
      trail[#trail] = nil
    end)
    state[path] = "closed"
  end
  local paths = {}
  for path in pairs(files) do paths[#paths + 1] = path end
  table.sort(paths)
  for _, path in ipairs(paths) do
    if not state[path] then visit(path) end
  end
  return found
end

describe("layers", function()
  it("has no include that points up or sideways", function()
    local bad = {}
    for _, path in ipairs(source.list({ "host", "modules" }, { c = true, h = true })) do
      local more = bad_includes(path, source.read(path))
      table.move(more, 1, #more, #bad + 1, bad)
    end
    assert.same({}, bad)
  end)

  it("has programs that know the public header alone", function()
    local bad = {}
    for _, path in ipairs(source.list({ "spec/embed", "bench" }, { c = true, h = true })) do
      for number, line in source.lines(source.read(path)) do
        local name = line:match('^%s*#%s*include%s*"([^"]+)"')
        if name and not source.exists(path:match("^(.*/)") .. name) then
          bad[#bad + 1] = ("%s:%d: includes %s"):format(path, number, name)
        end
      end
    end
    assert.same({}, bad)
  end)

  it("has a Lua library that requires nothing but itself", function()
    local bad = {}
    for path, text in pairs(lua_files()) do
      local more = bad_requires(path, text)
      table.move(more, 1, #more, #bad + 1, bad)
    end
    assert.same({}, bad)
  end)

  it("has no circle in the Lua library", function()
    assert.same({}, circles(lua_files()))
  end)
end)

describe("the layer check", function()
  it("names the file and line of an include that points up", function()
    assert.same({ "host/task.c:3: includes modules/socket.h" },
      bad_includes("host/task.c", '#include <ev.h>\n\n#include "modules/socket.h"\n'))
    assert.same({ "host/task.c:1: includes <sys/socket.h>" },
      bad_includes("host/task.c", "#include <sys/socket.h>\n"))
    assert.same({ "modules/timer.c:1: includes nosuch.h" },
      bad_includes("modules/timer.c", '#include "nosuch.h"\n'))
  end)

  it("lets modules see the host, the command everything", function()
    assert.same({}, bad_includes("modules/signal.c", '#include "host/moonloop.h"\n'))
    assert.same({}, bad_includes("modules/signal.c", '#include "moonloop.h"\n'))
    assert.same({}, bad_includes("host/command/main.c", '#include "moonloop.h"\n'))
  end)

  it("lets a module see its own parts and what it stands on", function()
    assert.is_true(may_include("modules/stream_read.c", "modules/stream.h"))
    assert.is_true(may_include("modules/stream.c", "modules/socket.h"))
    assert.is_false(may_include("modules/socket.c", "modules/stream.h"))
    assert.is_false(may_include("modules/dns.c", "modules/socket.h"))
    assert.is_false(may_include("host/task.c", "host/command/repl.h"))
  end)

  it("lets the file that opens the modules see them all, and nothing above", function()
    assert.is_true(may_include(ROOT, "modules/socket.h"))
    assert.is_true(may_include(ROOT, "host/runtime.h"))
    assert.is_false(may_include(ROOT, "host/command/repl.h"))
    assert.is_false(may_include("modules/stream.c", "modules/library.h"))
    assert.is_false(may_include("host/runtime.c", "modules/library.h"))
  end)

  it("lets the helper for busted require busted, and nothing else", function()
    local text = 'require "busted"\nrequire "socket"\n'
    assert.same({ GUEST.path .. ":2: requires socket" }, bad_requires(GUEST.path, text))
    assert.same({ "lua/moonloop/run.lua:1: requires busted" },
      bad_requires("lua/moonloop/run.lua", 'require "busted"'))
  end)

  it("reads code and not comments", function()
    assert.same({ "x.lua:4: requires socket" }, bad_requires("x.lua",
      '-- require "lfs"\n--[[ require "lfs"\n]]\nlocal s = "--" .. require("socket")\n'))
  end)

  it("finds a circle and says where it goes", function()
    local files = {
      ["lua/moonloop/a.lua"] = '\nrequire "moonloop.b"',
      ["lua/moonloop/b.lua"] = 'require "moonloop.c"',
      ["lua/moonloop/c.lua"] = 'require "moonloop.b"',
    }
    assert.same({ "lua/moonloop/b.lua:1 > lua/moonloop/c.lua:1 > lua/moonloop/b.lua" },
      circles(files))
  end)
end)
