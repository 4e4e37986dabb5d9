-- SPDX-License-Identifier: MIT
-- What luacheck lets pass: Lua 5.4 and nothing else, in specs busted's names too.
std = "lua54"
max_line_length = 100
exclude_files = { "build" }
files["spec"] = { std = "+busted" }
files[".busted"] = { std = "lua54" }
files[".luacheckrc"] = { std = "luacheckrc" }
