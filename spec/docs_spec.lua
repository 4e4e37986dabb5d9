-- SPDX-License-Identifier: MIT
-- What the README and the guide say is so: every snippet with an output is run and gives that
-- output, every other one is Lua, the shell commands that make its files work, every link leads
-- somewhere, and of the names on the asyncio page those that are there are called "today" and no
-- others.
local moonloop = require "moonloop"
local command = require "spec.support.command"
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

-- What a block right after a snippet shows: which output, and the exit status that goes with it.
local OUTPUTS = {
  ["text"] = { field = "expected" },
  ["text report"] = { field = "expected_err" },
  ["text error"] = { field = "expected_err", status = 1 },
}

-- The Lua blocks of a page; those that have an output carry it as `expected` and `expected_err`.
-- `files` are the blocks "sh files" above a snippet: the commands that make the files it reads.
local function snippets(text)
  local list, files = {}, {}
  for _, block in ipairs(blocks(text)) do
    local before, output = list[#list], OUTPUTS[block.info]
    if block.info == "sh files" then
      files[#files + 1] = block.text
    elseif block.info == "lua" then
      block.files = table.concat(files)
      list[#list + 1] = block
    elseif output and block.after and before and not before[output.field] then
      before[output.field] = block.text
      before.status = output.status
      before.has_output = true
    end
  end
  return list
end

-- A snippet is run under the name that its first line gives it: `-- name.lua`.
local function run_snippet(snippet)
  local name = snippet.text:match("^%-%- ([%w_]+%.lua)\n") or "snippet.lua"
  local folder <close> = script.folder()
  local status, _, err = folder:shell("set -e\n" .. snippet.files)
  assert(status == 0, err)
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
      if snippet.has_output then
        it("shows what its snippet prints at " .. where, function()
          local status, out, err = run_snippet(snippet)
          assert.equal(snippet.expected_err or "", err)
          assert.equal(snippet.expected or "", out)
          assert.equal(snippet.status or 0, status)
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

-- The names that python3's asyncio has, one to a line.
local ASYNCIO_NAMES = [[
import asyncio, asyncio.subprocess
names = set(asyncio.__all__)
classes = [getattr(asyncio, name) for name in asyncio.__all__] + [asyncio.subprocess.Process]
for c in classes:
    if isinstance(c, type) and not issubclass(c, BaseException):
        names |= {name for name in dir(c) if not name.startswith("_")}
print("\n".join(sorted(names)))
]]

describe("docs/coming-from-asyncio.md", function()
  local text = source.read("docs/coming-from-asyncio.md")

  -- An object of each class that the page names.
  local function objects()
    local loop = moonloop.get_running_loop()
    local server = moonloop.start_server(function() end, "127.0.0.1", 0)
    local stream = moonloop.connect("127.0.0.1", server:port())
    local socket, peer = moonloop.socket.socketpair()
    local datagram = moonloop.open_datagram { family = "inet" }
    local transport = loop:connect_accepted_socket(moonloop.Protocol, peer)
    local endpoint = loop:create_datagram_endpoint(moonloop.DatagramProtocol,
      { local_addr = { host = "127.0.0.1" } })
    local all = {
      moonloop = moonloop, loop = loop, Future = moonloop.Future(),
      Task = moonloop.create_task(function() end), Context = moonloop.copy_context(),
      ContextVar = moonloop.ContextVar("docs"), Stream = stream, Server = server,
      Runner = moonloop.Runner(), Handle = loop:call_soon(function() end),
      ErrorGroup = moonloop.ErrorGroup, Timeout = moonloop.timeout(60),
      TaskGroup = moonloop.TaskGroup(), CancelScope = moonloop.CancelScope(),
      Lock = moonloop.Lock(), Event = moonloop.Event(), Condition = moonloop.Condition(),
      Semaphore = moonloop.Semaphore(), BoundedSemaphore = moonloop.BoundedSemaphore(),
      Barrier = moonloop.Barrier(1), Queue = moonloop.Queue(),
      PriorityQueue = moonloop.PriorityQueue(), LifoQueue = moonloop.LifoQueue(),
      socket = socket, Datagram = datagram, Transport = transport, DatagramTransport = endpoint,
      TLSContext = moonloop.tls.client_context(),
    }
    return setmetatable(all, { __close = function()
      do
        local _ <close> = all.Timeout
        local _ <close> = all.TaskGroup
      end
      all.Task:await()
      stream:abort()
      socket:close()
      datagram:close()
      transport:abort()
      endpoint:abort()
      server:close()
      server:wait_closed()
      moonloop.testing.wait_all_blocked() -- the transports close from the loop
    end })
  end

  -- "moonloop.testing.async" is there when each part of it is.
  local function is_there(object, path)
    for name in path:gmatch("[^.]+") do
      object = object[name]
      if object == nil then return false end
    end
    return true
  end

  -- The names in the second column that belong to an object of ours, with whether they are there
  -- and the row's third column.
  local function each_name(visit)
    local all <close> = objects()
    for _, line in source.lines(text) do
      local ours, when = line:match("^|[^|]*| ([^|]*) | (%l+) |")
      for class, path in (ours or ""):gmatch("`(%a+)[.:]([%a_.]+)") do
        if all[class] then visit(class .. "." .. path, is_there(all[class], path), when) end
      end
    end
  end

  it("calls `today` what is there, and nothing else", function()
    local wrong, count = {}, 0
    each_name(function(name, exists, when)
      count = count + 1
      if exists ~= (when == "today") then wrong[#wrong + 1] = name .. " " .. when end
    end)
    assert.same({}, wrong)
    assert.is_true(count > 150)
  end)

  it("names all that asyncio has", function()
    local status, names = command.run { "python3", "-c", ASYNCIO_NAMES }
    if status ~= 0 then
      pending("python3 is not installed")
      return
    end
    local words, missing = {}, {}
    for word in text:gmatch("[%a_]+") do words[word] = true end
    for name in names:gmatch("[^\n]+") do
      if not words[name] then missing[#missing + 1] = name end
    end
    assert.same({}, missing)
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

  it("runs the commands above a snippet first", function()
    local found = snippets("```lua\nx = 1\n```\n```sh files\necho moon >a\n```\n"
      .. "```sh\nnosuch\n```\n```lua\nio.write(io.open('a'):read('a'))\n```\n")
    assert.equal("", found[1].files)
    local status, out = run_snippet(found[2])
    assert.equal("moon\n", out)
    assert.equal(0, status)
  end)

  it("finds links to files and headings that are not there", function()
    assert.same({ "b.md", "#c" }, links("[a](b.md) [x](https://e.org) [c](#c)"))
    assert.matches("no docs/nosuch.md", bad_link("docs/index.md", "nosuch.md"), 1, true)
    assert.matches("no such heading", bad_link("docs/index.md", "tasks.md#nosuch"), 1, true)
    assert.is_nil(bad_link("docs/index.md", "tasks.md#cancelling"))
    assert.is_nil(bad_link("docs/index.md", "../README.md"))
  end)
end)
