-- SPDX-License-Identifier: MIT
-- A small site to try a crawler on: pages that link to each other, a style sheet, pictures, a few
-- links that have moved and a few that lead nowhere. Every answer takes its time, as answers of a
-- real site do. The same number of pages always gives the same site. Builds on http.lua.
local moonloop = require "moonloop"
local http = require "lib.http"

local M = {}

local FAN_OUT = 4 -- pages that each page leads to for the first time
local PICTURES = 12
local SENTENCE = "The far side keeps its back to us and its stories to itself. "

-- A number between 0 and 1, always the same for the same n.
local function scatter(n)
  return (n * 2654435761 % 4294967296) / 4294967296
end

local function page_path(i)
  return i == 1 and "/" or "/page/" .. i
end

local function page_links(i, pages)
  local links = { "/", page_path(1 + math.floor(scatter(i) * pages)) }
  for child = FAN_OUT * (i - 1) + 2, math.min(FAN_OUT * i + 1, pages) do
    links[#links + 1] = page_path(child)
  end
  if i % 40 == 7 then
    links[#links + 1] = "/lost/" .. i
  end
  if i % 50 == 3 then
    links[#links + 1] = "/old/" .. i
  end
  return links
end

local function page(i, pages)
  local lines = {
    "<!DOCTYPE html>", "<html><head><title>Page " .. i .. "</title>",
    '<link rel="stylesheet" href="/style.css"></head><body>',
    '<img alt="a moon" src="/picture/' .. i % PICTURES + 1 .. '.svg">',
    "<p>" .. SENTENCE:rep(5 + math.floor(scatter(i + 17) * 30)) .. "</p>",
  }
  for _, link in ipairs(page_links(i, pages)) do
    lines[#lines + 1] = ('<a href="%s">%s</a>'):format(link, link)
  end
  lines[#lines + 1] = "</body></html>\n"
  return table.concat(lines, "\n")
end

local function picture(i)
  local circle = '<circle cx="50" cy="50" r="40"/><circle cx="%d" cy="50" r="40" fill="#fff"/>'
  return '<svg xmlns="http://www.w3.org/2000/svg">' .. circle:format(50 + 5 * i) .. "</svg>\n"
end

local function found(content_type, body)
  return { status = 200, headers = { "Content-Type: " .. content_type }, body = body }
end

-- The answer, and how many seconds it takes.
local function answer(target, pages)
  local i = target == "/" and 1 or tonumber(target:match "^/page/(%d+)$")
  if i and i >= 1 and i <= pages then
    return found("text/html", page(i, pages)), 0.08 + 0.12 * scatter(i + 101)
  end
  i = tonumber(target:match "^/picture/(%d+)%.svg$")
  if i then
    return found("image/svg+xml", picture(i)), 0.04
  end
  if target == "/style.css" then
    return found("text/css", "body { max-width: 40em; margin: auto; color: #234 }\n"), 0.03
  end
  i = tonumber(target:match "^/old/(%d+)$")
  if i then
    return { status = 301, headers = { "Location: " .. page_path(i) } }, 0.02
  end
  return { status = 404, headers = { "Content-Type: text/plain" }, body = "not here\n" }, 0.05
end

--- Serves the site on a free port of 127.0.0.1.
-- @param pages how many pages it has
-- @return the Server, a to-be-closed value
function M.start(pages)
  return moonloop.start_server(function(stream)
    http.serve(stream, function(request)
      if request.method ~= "GET" then
        return { status = 405, headers = { "Allow: GET" } }
      end
      local response, seconds = answer(request.target, pages)
      moonloop.sleep(seconds)
      return response
    end)
  end, "127.0.0.1", 0)
end

return M
