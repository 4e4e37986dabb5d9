// SPDX-License-Identifier: MIT
//
// The `moonloop` command: reads the flags, which are Lua's own and a few more,
// into a plan, and hands that to lua/moonloop/command.lua, which carries it out
// in the main task.
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interrupt.h"
#include "moonloop.h"
#include "runtime.h"

typedef struct Flags {
  int script;         // index of the script among the arguments, 0 for none
  const char *module; // -m
  bool interactive;
  bool version;
  bool ignore_environment;
  bool debug;
  bool executed; // there was a -e
} Flags;

enum { BAD_USAGE = 2 };

static const char USAGE[] =
    "usage: %s [options] [script [args]]\n"
    "Runs Lua 5.4 with an event loop: the script may await at its top level.\n"
    "Available options are:\n"
    "  -e stat     execute string 'stat'\n"
    "  -i          enter interactive mode after executing 'script'\n"
    "  -l mod      require library 'mod' into global 'mod'\n"
    "  -l g=mod    require library 'mod' into global 'g'\n"
    "  -m mod      find module 'mod' and run its file as the script\n"
    "  -v          show version information\n"
    "  -E          ignore environment variables\n"
    "  -W          turn warnings on\n"
    "  --          stop handling options\n"
    "  -           stop handling options and execute stdin\n"
    "  -h, --help  show this text\n"
    "  --version   show version information\n"
    "  --debug     debug mode, as MOONLOOP_DEBUG=1\n";

static const char *program = "moonloop";

static void say(const char *text, const char *about) {
  fprintf(stderr, "%s: %s%s\n", program, text, about);
}

static void print_usage(FILE *to) { fprintf(to, USAGE, program); }

static void print_version(void) {
  printf("Moonloop %s (%s)\n", moonloop_version(), LUA_RELEASE);
  fflush(stdout);
}

// ---- reading the flags -----------------------------------------------------

// The flags that need no value. False when it is none of them.
static bool read_plain(Flags *flags, const char *arg) {
  if (strcmp(arg, "-E") == 0)
    flags->ignore_environment = true;
  else if (strcmp(arg, "-i") == 0)
    flags->interactive = flags->version = true;
  else if (strcmp(arg, "-v") == 0 || strcmp(arg, "--version") == 0)
    flags->version = true;
  else if (strcmp(arg, "--debug") == 0)
    flags->debug = true;
  else
    return strcmp(arg, "-W") == 0;
  return true;
}

static bool takes_value(const char *arg) {
  return arg[0] == '-' && (arg[1] == 'e' || arg[1] == 'l' || arg[1] == 'm');
}

static int refuse(const char *text, const char *about) {
  say(text, about);
  print_usage(stderr);
  return BAD_USAGE;
}

static int refuse_not_yet(const char *what) {
  say("this is not there yet: ", what);
  return BAD_USAGE;
}

// The value of -e, -l or -m: the rest of the argument or the next one.
static const char *value_of(char **argv, int *i) {
  if (argv[*i][2] != 0)
    return argv[*i] + 2;
  const char *next = argv[*i + 1];
  if (!next || *next == '-')
    return NULL;
  ++*i;
  return next;
}

static bool is_later(const char *arg) {
  return strcmp(arg, "--watchdog") == 0 || strcmp(arg, "--workers") == 0;
}

// Returns 0, or the exit status of bad usage.
static int read_flags(Flags *flags, int argc, char **argv) {
  int i = 1;
  for (; i < argc && argv[i][0] == '-' && argv[i][1] != 0; i++) {
    if (strcmp(argv[i], "--") == 0) {
      i++;
      break;
    }
    if (read_plain(flags, argv[i]))
      continue;
    if (is_later(argv[i]))
      return refuse_not_yet(argv[i]);
    if (!takes_value(argv[i]))
      return refuse("unrecognized option ", argv[i]);
    char kind = argv[i][1], name[3] = {'-', kind, 0};
    const char *value = value_of(argv, &i);
    if (!value)
      return refuse("missing argument of ", name);
    flags->executed = flags->executed || kind == 'e';
    if (kind != 'm')
      continue;
    flags->module = value;
    flags->script = i; // what follows are its arguments
    return 0;
  }
  flags->script = i < argc ? i : 0;
  return 0;
}

// ---- the plan --------------------------------------------------------------

static void add_action(lua_State *L, int list, const char *kind,
                       const char *text, const char *name) {
  lua_createtable(L, 0, 3);
  lua_pushstring(L, kind);
  lua_setfield(L, -2, "kind");
  lua_pushstring(L, text);
  lua_setfield(L, -2, "text");
  lua_pushstring(L, name);
  lua_setfield(L, -2, "name");
  lua_rawseti(L, list, luaL_len(L, list) + 1);
}

static void add_init(lua_State *L, int list) {
  const char *name = "LUA_INIT" LUA_VERSUFFIX;
  const char *text = getenv(name);
  if (!text)
    text = getenv(name = "LUA_INIT");
  if (text)
    add_action(L, list, "init", text, name);
}

static void push_actions(lua_State *L, const Flags *flags, char **argv) {
  lua_newtable(L);
  int list = lua_gettop(L);
  if (!flags->ignore_environment)
    add_init(L, list);
  for (int i = 1; argv[i] && argv[i][0] == '-' && argv[i][1] != 0; i++) {
    char kind = argv[i][1];
    if (strcmp(argv[i], "--") == 0 || kind == 'm')
      return;
    if (kind == 'W')
      add_action(L, list, "warn", "", "");
    if (kind == 'e')
      add_action(L, list, "execute", value_of(argv, &i), "");
    else if (kind == 'l')
      add_action(L, list, "library", value_of(argv, &i), "");
  }
}

static bool reads_stdin(const Flags *flags, char **argv) {
  if (flags->module)
    return false;
  if (flags->script)
    return strcmp(argv[flags->script], "-") == 0 &&
           strcmp(argv[flags->script - 1], "--") != 0;
  return !flags->executed && !flags->version && !isatty(STDIN_FILENO);
}

static void push_script(lua_State *L, const Flags *flags, char **argv) {
  bool from_stdin = reads_stdin(flags, argv);
  if (!flags->script && !from_stdin) {
    lua_pushnil(L);
    return;
  }
  lua_createtable(L, 0, 2);
  lua_pushstring(L, flags->module ? "module" : from_stdin ? "stdin" : "file");
  lua_setfield(L, -2, "kind");
  lua_pushstring(L, flags->module ? flags->module : argv[flags->script]);
  lua_setfield(L, -2, "name");
}

// The global `arg`: the script at 0, its arguments after, the rest before it.
static void set_arg(lua_State *L, const Flags *flags, int argc, char **argv) {
  int script = flags->script ? flags->script : argc;
  lua_createtable(L, argc - script, script + 1);
  for (int i = 0; i < argc; i++) {
    lua_pushstring(L, argv[i]);
    lua_rawseti(L, -2, i - (flags->script ? script : 0));
  }
  lua_setglobal(L, "arg");
}

static void push_arguments(lua_State *L, const Flags *flags, int argc,
                           char **argv) {
  int n = flags->script ? argc - flags->script - 1 : 0;
  lua_createtable(L, n, 1);
  for (int i = 1; i <= n; i++) {
    lua_pushstring(L, argv[flags->script + i]);
    lua_rawseti(L, -2, i);
  }
  lua_pushinteger(L, n);
  lua_setfield(L, -2, "n");
}

static int l_interrupted(lua_State *L) {
  lua_pushboolean(L, interrupt_count() > 0);
  return 1;
}

static void push_plan(lua_State *L, const Flags *flags, int argc, char **argv) {
  lua_createtable(L, 0, 4);
  push_actions(L, flags, argv);
  lua_setfield(L, -2, "actions");
  push_script(L, flags, argv);
  lua_setfield(L, -2, "script");
  push_arguments(L, flags, argc, argv);
  lua_setfield(L, -2, "arguments");
  lua_pushcfunction(L, l_interrupted);
  lua_setfield(L, -2, "interrupted");
}

// ---- running ---------------------------------------------------------------

static bool wants_debug(const Flags *flags) {
  const char *text = getenv("MOONLOOP_DEBUG");
  return flags->debug || (!flags->ignore_environment && text && *text &&
                          strcmp(text, "0") != 0);
}

static void open_libraries(lua_State *L, const Flags *flags) {
  if (flags->ignore_environment) {
    lua_pushboolean(L, true);
    lua_setfield(L, LUA_REGISTRYINDEX, "LUA_NOENV");
  }
  luaL_openlibs(L);
  luaL_requiref(L, "moonloop", luaopen_moonloop, flags->executed);
  lua_getfield(L, -1, "patch_coroutines");
  lua_call(L, 0, 0);
  lua_pop(L, 1);
  moonloop_runtime_of(L)->debug = wants_debug(flags);
}

static bool has_work(const Flags *flags, char **argv) {
  return flags->script || flags->executed || reads_stdin(flags, argv);
}

static int protected_main(lua_State *L) { // argc argv -> status
  int argc = (int)lua_tointeger(L, 1);
  char **argv = lua_touserdata(L, 2);
  Flags flags = {0};
  lua_settop(L, 0);
  int status = read_flags(&flags, argc, argv);
  if (status != 0) {
    lua_pushinteger(L, status);
    return 1;
  }
  if (flags.version)
    print_version();
  luaL_checkversion(L);
  open_libraries(L, &flags);
  set_arg(L, &flags, argc, argv);
  if ((flags.interactive || !has_work(&flags, argv)) && !flags.version) {
    lua_pushinteger(L, refuse_not_yet("the interactive mode"));
    return 1;
  }
  interrupt_open(L);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "moonloop.command");
  lua_call(L, 1, 1);
  lua_getfield(L, -1, "run");
  push_plan(L, &flags, argc, argv);
  lua_call(L, 1, 1);
  interrupt_close(L);
  return 1;
}

static int report_failure(lua_State *L) {
  const char *message = lua_tostring(L, -1);
  say(message ? message : "(error object is no string)", "");
  return EXIT_FAILURE;
}

static int exit_status(lua_State *L) {
  if (lua_isboolean(L, -1))
    return lua_toboolean(L, -1) ? EXIT_SUCCESS : EXIT_FAILURE;
  return (int)lua_tointeger(L, -1);
}

// Help and what comes with later versions. Returns the status, or -1.
static int run_other(int argc, char **argv) {
  if (argc < 2)
    return -1;
  if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
    print_usage(stdout);
    return EXIT_SUCCESS;
  }
  if (strcmp(argv[1], "ps") == 0 || strcmp(argv[1], "pstree") == 0)
    return refuse_not_yet(argv[1]);
  return -1;
}

// A process started without them would give their numbers to the loop's own
// descriptors, and print into these.
static void fill_standard_descriptors(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) < 0)
      open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY);
}

int main(int argc, char **argv) {
  fill_standard_descriptors();
  if (argv[0] && argv[0][0])
    program = argv[0];
  int other = run_other(argc, argv);
  if (other >= 0)
    return other;
  lua_State *L = luaL_newstate();
  if (!L) {
    say("cannot create state: not enough memory", "");
    return EXIT_FAILURE;
  }
  lua_pushcfunction(L, protected_main);
  lua_pushinteger(L, argc);
  lua_pushlightuserdata(L, argv);
  int status = lua_pcall(L, 2, 1, 0);
  int result = status == LUA_OK ? exit_status(L) : report_failure(L);
  lua_close(L);
  return result;
}
