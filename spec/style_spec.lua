-- SPDX-License-Identifier: MIT
-- The part of the house style that a machine can look at and no linter does:
-- the licence line, the paragraph that says what a file is, and the length of
-- files and functions.
local source = require "spec.support.source"

local FUNCTION_LINES = 60
local FILE_LINES = 500
local FOLDERS = { "host", "modules", "lua", "spec", "examples", "bench", ".ci" }
local SINGLE_FILES = { "Makefile", ".busted", ".luacheckrc", ".ci/run", ".ci/install-packages" }

local function line_count(text)
  return select(2, text:gsub("\n", "\n"))
end

-- C as clang-format leaves it: a function begins in column one and ends with
-- a brace there. Returns {name, first, last} for each.
local function c_functions(text)
  local found, first, head = {}, nil, ""
  for number, line in source.lines(text) do
    if not first and line:find("^[%a_]") then first, head = number, "" end
    if first then head = head .. line .. "\n" end
    if line:find("^}") then
      local name = head:match("^[^{=;]-([%w_]+)%(")
      if name then found[#found + 1] = { name = name, first = first, last = number } end
      first = nil
    elseif first and line:find(";%s*$") and not head:find("{", 1, true) then
      first = nil
    elseif first == number and line:find("};?%s*$") then
      first = nil
    end
  end
  return found
end

-- Lua functions by the compiler's own listing.
local function lua_functions(path)
  local found = {}
  local listing = assert(io.popen("luac5.4 -l -p '" .. path .. "'"))
  for line in listing:lines() do
    local first, last = line:match("^function <.*:(%d+),(%d+)>")
    if first then
      found[#found + 1] = { name = "function", first = tonumber(first), last = tonumber(last) }
    end
  end
  listing:close()
  return found
end

local function too_long(path, functions)
  local bad = {}
  for _, fn in ipairs(functions) do
    local length = fn.last - fn.first + 1
    if length > FUNCTION_LINES then
      bad[#bad + 1] = ("%s:%d: %s has %d lines"):format(path, fn.first, fn.name, length)
    end
  end
  return bad
end

local function append(list, more)
  table.move(more, 1, #more, #list + 1, list)
end

-- Whether the licence stands first and a comment about the file follows.
local function bad_top(path, text)
  local body = text:gsub("^#![^\n]*\n", "")
  local first, rest = body:match("^([^\n]*)\n(.*)")
  if not (first and first:find("SPDX-License-Identifier: MIT", 1, true)) then
    return path .. ":1: no SPDX line"
  end
  rest = rest:gsub("^[%s/#*%-]*\n", "")
  if not rest:find("^%s*[/#*%-]+ %S") then
    return path .. ":2: no paragraph that says what the file is"
  end
end

describe("style", function()
  local all = source.list(FOLDERS, { c = true, h = true, lua = true })
  append(all, SINGLE_FILES)

  it("begins each file with its licence and what it is", function()
    local bad = {}
    for _, path in ipairs(all) do
      bad[#bad + 1] = bad_top(path, source.read(path))
    end
    assert.same({}, bad)
  end)

  it("keeps files short", function()
    local bad = {}
    for _, path in ipairs(all) do
      local lines = line_count(source.read(path))
      if lines > FILE_LINES then bad[#bad + 1] = ("%s: %d lines"):format(path, lines) end
    end
    assert.same({}, bad)
  end)

  it("keeps C functions short", function()
    local bad = {}
    local folders = { "host", "modules", "bench", "spec" }
    for _, path in ipairs(source.list(folders, { c = true, h = true })) do
      append(bad, too_long(path, c_functions(source.read(path))))
    end
    assert.same({}, bad)
  end)

  it("keeps Lua functions short", function()
    local bad = {}
    local folders = { "host", "lua", "examples", "bench", "spec/support" }
    for _, path in ipairs(source.list(folders, { lua = true })) do
      append(bad, too_long(path, lua_functions(path)))
    end
    assert.same({}, bad)
  end)
end)

describe("the style check", function()
  it("sees C functions and nothing else", function()
    local text = table.concat({
      "typedef struct A {",
      "  int (*fn)(void);",
      "} A;",
      "static const luaL_Reg list[] = {",
      "  {\"a\", f(1)},",
      "};",
      "int declared(int a,",
      "             int b);",
      "static inline int tiny(void) { return 1; }",
      "static int *",
      "long_name(int a,",
      "          int b) {",
      "  if (a) {",
      "    return 0;",
      "  }",
      "}",
      "int other(void) {",
      "}",
      "",
    }, "\n")
    assert.same({
      { name = "long_name", first = 10, last = 16 },
      { name = "other", first = 17, last = 18 },
    }, c_functions(text))
  end)

  it("names a function that is too long", function()
    assert.same({ "x.c:3: f has 61 lines" },
      too_long("x.c", { { name = "f", first = 3, last = 63 } }))
    assert.same({}, too_long("x.c", { { name = "f", first = 3, last = 62 } }))
  end)

  it("wants a licence and a paragraph", function()
    assert.is_nil(bad_top("x", "// SPDX-License-Identifier: MIT\n//\n// What.\n"))
    assert.is_nil(bad_top("x", "#!/bin/sh\n# SPDX-License-Identifier: MIT\n# What.\n"))
    assert.equal("x:1: no SPDX line", bad_top("x", "int x;\n"))
    assert.equal("x:2: no paragraph that says what the file is",
      bad_top("x", "-- SPDX-License-Identifier: MIT\nlocal x = 1\n"))
  end)
end)
