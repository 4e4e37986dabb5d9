-- SPDX-License-Identifier: MIT
-- What: a crawler: a pool of workers follows every link of a site, with a live progress line, and
--       ends with a table of what they fetched. Without a URL it crawls a small site that it serves
--       itself, on the same loop, in the same thread.
-- Why: this is the work an event loop is for. Every fetch is a wait; ten workers wait for ten
--      answers at a time, and the whole takes a tenth of what one worker would need.
-- Usage: moonloop examples/crawler.lua [--workers N] [--pages N] [http://HOST:PORT/PATH]
--        --pages is the size of the demo's own site, or how many addresses of another one to fetch.
package.path = (arg[0]:match "^(.*/)" or "./") .. "?.lua;" .. package.path

local moonloop = require "moonloop"
local html = require "lib.html"
local http = require "lib.http"
local site = require "lib.site"
local terminal = require "lib.terminal"

local USAGE = "usage: crawler.lua [--workers N] [--pages N] [http://HOST:PORT/PATH]"

-- The work list: addresses that are still to be fetched. Workers take from it and add to it.

local WorkList = {}
WorkList.__index = WorkList

local function new_work_list(limit)
  return setmetatable({
    limit = limit, -- of addresses, all told
    queue = moonloop.Queue { name = "work list" }, -- what is waiting
    seen = {}, found = 0, -- every address that was ever added
    busy = 0, -- workers that have taken something and may yet add more
  }, WorkList)
end

function WorkList:add(path)
  if self.seen[path] or self.found >= self.limit then
    return
  end
  self.seen[path] = true
  self.found = self.found + 1
  self.queue:put_nowait(path)
end

-- A worker begins with what it took.
function WorkList:begin()
  self.busy = self.busy + 1
end

-- A worker has done with what it took.
function WorkList:finish()
  self.busy = self.busy - 1
  self.queue:task_done()
end

-- Waits until everything is fetched and nobody is at work who could find more. Awaits.
function WorkList:complete()
  self.queue:join()
  self.queue:shutdown()
end

-- The books: what was fetched, and how long it took.

local Books = {}
Books.__index = Books

local function open_books()
  return setmetatable({
    started = moonloop.time(), rows = {}, failures = {},
    fetched = 0, bytes = 0, waited = 0, peak = 0,
  }, Books)
end

-- What the table calls it. A server's words are not let near a terminal as they come.
local function kind_of(answer)
  local words = answer.reason
  if answer.status == 200 then
    words = (answer.headers["content-type"] or "unknown"):match "^[^;%s]*"
  end
  return answer.status .. " " .. words:sub(1, 30):gsub("[^ -~]", "?")
end

function Books:record(path, seconds, ok, answer)
  local kind = ok and kind_of(answer) or "failed"
  if not ok then
    self.failures[#self.failures + 1] = path .. ": " .. tostring(answer)
  end
  local row = self.rows[kind] or { count = 0, bytes = 0, seconds = 0 }
  self.rows[kind] = row
  local bytes = ok and #answer.body or 0
  row.count, row.bytes, row.seconds = row.count + 1, row.bytes + bytes, row.seconds + seconds
  self.fetched, self.bytes = self.fetched + 1, self.bytes + bytes
  self.waited = self.waited + seconds
end

-- The work: one worker fetches one address after the other, over a connection of its own.

local function add_links(crawl, path, answer)
  local function add(link)
    local target = html.resolve(crawl.origin, path, link)
    if target then
      crawl.list:add(target)
    end
  end
  if answer.headers.location then
    add(answer.headers.location)
  end
  if (answer.headers["content-type"] or ""):find "^text/html" then
    for link in html.links(answer.body) do
      add(link)
    end
  end
end

local function visit(crawl, client, path)
  crawl.list:begin()
  local _ <close> = moonloop.defer(function() crawl.list:finish() end)
  local start = moonloop.time()
  crawl.books.peak = math.max(crawl.books.peak, crawl.list.busy)
  local ok, answer = moonloop.pcall(client.get, client, path) -- lets a cancellation pass
  crawl.books:record(path, moonloop.time() - start, ok, answer)
  if ok then
    add_links(crawl, path, answer)
  end
end

local function worker(crawl)
  local client <close> = http.client(crawl.host, crawl.port)
  for path in crawl.list.queue:iter() do -- an iterator may wait, too
    visit(crawl, client, path)
  end
end

local function progress_line(crawl)
  local books, list = crawl.books, crawl.list
  local seconds = books.seconds or moonloop.time() - books.started
  return ("  %s  %3d of %-4d %3d at work %5.0f/s %5.1f s"):format(
    terminal.bar(books.fetched / list.found, 30), books.fetched, list.found, list.busy,
    books.fetched / seconds, seconds)
end

local function show_progress(crawl)
  local _ <close> = moonloop.defer(function() terminal.keep_line(progress_line(crawl)) end)
  while true do
    moonloop.sleep(terminal.is_live and 0.05 or 1)
    terminal.show_line(progress_line(crawl))
  end
end

local function crawl_all(crawl, workers)
  local progress = moonloop.create_task({ name = "progress" }, show_progress, crawl)
  moonloop.task_group(function(group)
    for i = 1, workers do
      group:create_task({ name = "worker " .. i }, worker, crawl)
    end
    crawl.list:complete()
  end)
  crawl.books.seconds = moonloop.time() - crawl.books.started
  progress:cancel()
  moonloop.wait { progress } -- it shows its line once more
end

-- The end: what came of it.

local function table_rows(books)
  local kinds, rows = {}, { { "what", "count", "size", "mean wait" } }
  for kind in pairs(books.rows) do
    kinds[#kinds + 1] = kind
  end
  table.sort(kinds)
  local function add(what, count, bytes, seconds)
    rows[#rows + 1] = { what, tostring(count), terminal.bytes(bytes),
      ("%.0f ms"):format(1000 * seconds / count) }
  end
  for _, kind in ipairs(kinds) do
    local row = books.rows[kind]
    add(kind, row.count, row.bytes, row.seconds)
  end
  add("total", books.fetched, books.bytes, books.waited)
  return rows
end

local function print_figures(books)
  print()
  terminal.print_table(table_rows(books))
  print()
  local function line(what, format, number, unit)
    local text = ("%7s"):format(format:format(number))
    print(("  %-20s%s %s"):format(what, terminal.paint("bold", text), unit))
  end
  line("time", "%.2f", books.seconds, "s")
  line("speed", "%.0f", books.fetched / books.seconds, "fetches a second")
  line("one after another", "%.2f", books.waited, "s, the sum of all waits")
  line("speed-up", "%.1f", books.waited / books.seconds, "times as fast as that")
  line("highest concurrency", "%d", books.peak, "fetches under way at once")
end

local function print_failures(books)
  print()
  for i = 1, math.min(#books.failures, 5) do
    print(terminal.paint("red", "  failed: " .. books.failures[i]))
  end
  if #books.failures > 5 then
    print(("  and %d more"):format(#books.failures - 5))
  end
end

local function print_report(books)
  if #books.failures < books.fetched then
    print_figures(books)
  end
  if #books.failures > 0 then
    print_failures(books)
  end
end

-- The beginning: what is asked.

local function refuse(message)
  io.stderr:write("crawler: ", message, "\n", USAGE, "\n")
  os.exit(2)
end

local function parse_url(url)
  local host, rest = url:match "^http://%[([%x:.]+)%](.*)$"
  if not host then
    host, rest = url:match "^http://([^/:?#]+)(.*)$"
  end
  local port, path = (rest or ""):match "^:(%d+)(.*)$"
  if not host then
    refuse("not an http:// address: " .. url)
  end
  path = (path or rest):gsub("#.*$", "")
  local origin = url:sub(1, #url - #(path or rest))
  return { text = url, host = host, port = tonumber(port or 80), origin = origin,
    start = path:sub(1, 1) == "/" and path or "/" .. path }
end

local function parse_number(name, value)
  local number = tonumber((value or ""):match "^%d+$")
  if not number or number < 1 or number > 100000 then
    refuse("--" .. name .. " takes a number from 1 to 100000")
  end
  return number
end

local function parse_options(words)
  local options, i = { workers = 10 }, 1
  while words[i] do
    local name = words[i]:match "^%-%-(%a+)$"
    if name == "help" then
      print(USAGE)
      os.exit(0)
    elseif name == "workers" or name == "pages" then
      i = i + 1
      options[name] = parse_number(name, words[i])
    elseif words[i]:sub(1, 1) == "-" or options.url then
      refuse("unknown option: " .. words[i])
    else
      options.url = parse_url(words[i])
    end
    i = i + 1
  end
  return options
end

-- Crawls from `url`, as parse_url gives it. Awaits.
local function crawl_site(url, workers, limit)
  local list, books = new_work_list(limit), open_books()
  list:add(url.start)
  crawl_all({ host = url.host, port = url.port, origin = url.origin, list = list, books = books },
    workers)
  print_report(books)
  return books
end

local options = parse_options(arg)
if options.url then
  print(("Crawling %s with %d workers"):format(options.url.text, options.workers))
  local books = crawl_site(options.url, options.workers, options.pages or math.huge)
  moonloop.exit(books.fetched == #books.failures and 1 or 0)
end

local pages = options.pages or 200
local server <close> = site.start(pages)
local url = ("http://127.0.0.1:%d/"):format(server:port())
print(("A site of %d pages is served at %s"):format(pages, terminal.paint("cyan", url)))
print(("and crawled by %d workers, all in one thread."):format(options.workers))
crawl_site(parse_url(url), options.workers, math.huge)
