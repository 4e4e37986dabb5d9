-- SPDX-License-Identifier: MIT
-- What the README and the guide say is so: every snippet with an output is run and gives that
-- output, every other one is Lua, every link leads somewhere, and every name that the asyncio page
-- calls "today" exists.
local moonloop = require "moonloop"
local script = require "spec.support.script"
local source = require "spec.support.source"

local function pages()
  local list = source.list({ "docs" }, { md = true })
  table.insert(list, 1, "README.md")
  return list
end

-- The fenced blocks of a page: {info=, text=, line=, after=}; `after` tells that nothing stands
-- between this block and the one before.
local function blocks(text)
  local list, block, after = {}, nil, false
  for number, line in source.lines(text) do
    local fence = line:match("^```(.*)$")
    if fence and block then
      block.text = table.concat(block.lines, "\n") .. "\n"
      list[#list + 1] = block
      block, after = nil, true
    elseif fence then
      block = { info = fence, line = number, after = after, lines = {} }
    elseif block then
      block.lines[#block.lines + 1] = line
    elseif line:find("%S") then
      after = false
    end
  end
  assert(not block, "a block that does not end")
  return list
end

-- The Lua blocks of a page; those that have an output carry it as `expected`.
local function snippets(text)
  local list = {}
  for _, block in ipairs(blocks(text)) do
    local before = list[#list]
    if block.info == "lua" then
      list[#list + 1] = block
    elseif block.info == "text" and block.after and before and not before.expected then
      before.expected = block.text
    end
  end
  return list
end

-- A snippet is run under the name that its first line gives it: `-- name.lua`.
local function run_snippet(snippet)
  local name = snippet.text:match("^%-%- ([%w_]+%.lua)\n") or "snippet.lua"
  local folder <close> = script.folder()
  folder:write(name, snippet.text)
  return folder:moonloop { name }
end

-- The anchors of a page, as they are made from its headings.
local function anchors(text)
  local set = {}
  for _, line in source.lines(text) do
    local heading = line:match("^#+ (.*)$")
    if heading then
      set[heading:lower():gsub("[^%w%s_-]", ""):gsub("%s", "-")] = true
    end
  end
  return set
end

local function folder_of(path)
  return path:match("^(.*/)") or ""
end

-- "docs/../examples/x" -> "examples/x"
local function tidy(path)
  local before
  repeat
    before = path
    path = path:gsub("[^/]+/%.%./", "", 1)
  until path == before
  return path
end

-- What is wrong with a link on a page, or nil.
local function bad_link(page, target)
  local path, anchor = target:match("^([^#]*)#?(.*)$")
  path = path == "" and page or tidy(folder_of(page) .. path)
  if not source.exists(path) then
    return target .. ": there is no " .. path
  end
  if anchor ~= "" and not anchors(source.read(path))[anchor] then
    return target .. ": there is no such heading in " .. path
  end
end

local function links(text)
  local list = {}
  for target in text:gmatch("%]%(([^)%s]+)%)") do
    if not target:find("^%a+:") then list[#list + 1] = target end
  end
  return list
end

for _, page in ipairs(pages()) do
  describe(page, function()
    local text = source.read(page)

    for _, snippet in ipairs(snippets(text)) do
      local where = "line " .. snippet.line
      it("has Lua in its snippet at " .. where, function()
        assert.is_truthy(load(snippet.text, "=" .. page))
      end)
      if snippet.expected then
        it("shows what its snippet prints at " .. where, function()
          local status, out, err = run_snippet(snippet)
          assert.equal("", err)
          assert.equal(snippet.expected, out)
          assert.equal(0, status)
        end)
      end
    end

    it("has no link that leads nowhere", function()
      local bad = {}
      for _, target in ipairs(links(text)) do bad[#bad + 1] = bad_link(page, target) end
      assert.same({}, bad)
    end)
  end)
end

describe("docs/coming-from-asyncio.md", function()
  -- An object of each class that the page names.
  local function objects()
    local loop = moonloop.get_running_loop()
    local server = moonloop.start_server(function() end, "127.0.0.1", 0)
    local stream = moonloop.connect("127.0.0.1", server:port())
    local all = {
      moonloop = moonloop, loop = loop, Future = moonloop.Future(),
      Task = moonloop.create_task(function() end), Context = moonloop.copy_context(),
      ContextVar = moonloop.ContextVar("docs"), Stream = stream, Server = server,
    }
    return setmetatable(all, { __close = function()
      all.Task:await()
      stream:abort()
      server:close()
      server:wait_closed()
    end })
  end

  -- Calls visit(class, name) for the first name in the second column of each row of today.
  local function each_of_today(visit)
    for _, line in source.lines(source.read("docs/coming-from-asyncio.md")) do
      local ours, when = line:match("^|[^|]*| ([^|]*) | (%l+) |")
      local class, name = (ours or ""):match("^`(%a+)[.:]([%a_]+)")
      if when == "today" and class then visit(class, name) end
    end
  end

  it("calls nothing `today` that is not there", function()
    local all <close> = objects()
    local missing, count = {}, 0
    each_of_today(function(class, name)
      local object = all[class]
      count = count + 1
      if object and object[name] == nil then missing[#missing + 1] = class .. "." .. name end
    end)
    assert.same({}, missing)
    assert.is_true(count > 60)
  end)
end)

describe("the docs check", function()
  it("joins a snippet with the output right after it", function()
    local found = snippets("```lua\nprint(1)\n```\n\n```text\n1\n```\n```lua\nx = 1\n```\nor\n"
      .. "```text\nno output\n```\n")
    assert.equal(2, #found)
    assert.equal("print(1)\n", found[1].text)
    assert.equal("1\n", found[1].expected)
    assert.is_nil(found[2].expected)
  end)

  it("finds links to files and headings that are not there", function()
    assert.same({ "b.md", "#c" }, links("[a](b.md) [x](https://e.org) [c](#c)"))
    assert.matches("no docs/nosuch.md", bad_link("docs/index.md", "nosuch.md"), 1, true)
    assert.matches("no such heading", bad_link("docs/index.md", "tasks.md#nosuch"), 1, true)
    assert.is_nil(bad_link("docs/index.md", "tasks.md#cancelling"))
    assert.is_nil(bad_link("docs/index.md", "../README.md"))
  end)
end)
