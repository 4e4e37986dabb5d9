-- SPDX-License-Identifier: MIT
-- Finds the links of an HTML page and says what they point to. Text in, text out: it needs nothing
-- else, and never waits.
local M = {}

-- "a/./b/../c" -> "a/c"
local function without_dots(path)
  local parts = {}
  for part in path:gmatch "[^/]+" do
    if part == ".." then
      parts[#parts] = nil
    elseif part ~= "." then
      parts[#parts + 1] = part
    end
  end
  local folder = #parts > 0 and (path:find "/%.?%.?$") and "/" or ""
  return "/" .. table.concat(parts, "/") .. folder
end

--- Resolves a link found on the page `base`.
-- @param origin of the site, such as "http://127.0.0.1:80"
-- @return a path with its query, or nil when the link leaves the site
function M.resolve(origin, base, link)
  link = link:gsub("&amp;", "&"):gsub("#.*$", ""):gsub("^%s+", ""):gsub("%s+$", "")
  if link:sub(1, 2) == "//" then
    link = "http:" .. link
  end
  if link:sub(1, #origin) == origin and not link:find("^[^/?]", #origin + 1) then
    link = link:sub(#origin + 1)
    link = link:sub(1, 1) == "/" and link or "/" .. link
  end
  if link == "" or link:find "^%a[%w+.-]*:" then
    return nil
  end
  if link:sub(1, 1) == "?" then
    return base:gsub("%?.*$", "") .. link
  end
  local path, query = link:match "^([^?]*)(.*)$"
  if path:sub(1, 1) ~= "/" then
    path = base:gsub("%?.*$", ""):match "^(.*/)" .. path
  end
  return without_dots(path) .. query
end

--- Iterates over the values of all `href` and `src` attributes.
function M.links(text)
  local attributes = text:gmatch "(%a+)%s*=%s*([\"'])(.-)%2"
  return function()
    for name, _, value in attributes do
      name = name:lower()
      if name == "href" or name == "src" then
        return value
      end
    end
  end
end

return M
