# SPDX-License-Identifier: MIT
#
# Builds, checks and installs Moonloop with GNU make. `make help` lists what to
# call. One library is made of host/, modules/ and lua/; the command and the
# Lua module hold the same objects. Everything made lies in build/; the
# sanitized twin of it all in build/asan/.

.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# ---------------------------------------------------------------- to choose

PREFIX = /usr/local
LIBDIR = $(PREFIX)/lib
# Where stock Lua looks for C modules.
LUA_CMOD = $(PREFIX)/lib/lua/5.4
DESTDIR =

CC = gcc
LD = ld
OBJCOPY = objcopy
LUA = lua5.4
OPTIMIZE = $(if $(SANITIZE),-O1,-O2) -g
# 0: warnings do not stop the build.
WERROR = 1
# What gcc's -fsanitize takes; `make asan` sets it.
SANITIZE =
# 1: show the commands.
V =
# 0: builds without TLS, and without OpenSSL.
TLS = 1
WITH_TLS := $(filter-out 0,$(TLS))

# What the specs are asked: make specs SPEC=spec/task_spec.lua BUSTED_ARGS="..."
SPEC =
BUSTED_ARGS =

# ---------------------------------------------------------------- the layout

# Objects lie below $(BUILD)/obj. The products lie in $(OUT), which differs from
# $(BUILD) only while installing: there they are linked anew without the path
# of this source tree, so that what is installed never looks into it.
BUILD = build
OUT = $(BUILD)
SOURCE_TREE = $(CURDIR)/lua

OBJ := $(BUILD)/obj
OUT_OBJ := $(OUT)/obj

HEADERS := $(wildcard host/*.h modules/*.h host/command/*.h)
LIBRARY_SOURCES := $(sort $(filter-out $(if $(WITH_TLS),,modules/tls%), \
  $(wildcard host/*.c modules/*.c)))
COMMAND_SOURCES := $(sort $(wildcard host/command/*.c))
BENCH_SOURCES := $(sort $(filter-out $(if $(WITH_TLS),,bench/tls_%), \
  $(wildcard bench/*.c)))
EMBED_SOURCES := $(sort $(wildcard spec/embed/*.c))
LUA_FILES := $(sort $(shell find lua/moonloop -name '*.lua' 2>/dev/null))

LIBRARY_OBJECTS := $(LIBRARY_SOURCES:%.c=$(OBJ)/%.o) \
  $(OBJ)/lua_files.o $(OUT_OBJ)/source_tree.o
COMMAND_OBJECTS := $(COMMAND_SOURCES:%.c=$(OBJ)/%.o)
BENCH_PROGRAMS := $(BENCH_SOURCES:bench/%.c=$(BUILD)/bench/%)
EMBED_PROGRAMS := $(EMBED_SOURCES:spec/embed/%.c=$(BUILD)/embed/%)

PRODUCTS := $(OUT)/moonloop $(OUT)/moonloop.so $(OUT)/libmoonloop.so \
  $(OUT)/libmoonloop.a $(OUT)/moonloop.pc $(OUT)/include/moonloop.h

# MOONLOOP_VERSION_NUM is 10000 major + 100 minor + patch.
VERSION_NUM := $(shell sed -n \
  's/^.define MOONLOOP_VERSION_NUM *\([0-9]*\).*/\1/p' host/moonloop.h 2>/dev/null)
VERSION := $(shell n=$(or $(VERSION_NUM),0); \
  echo $$((n / 10000)).$$((n / 100 % 100)).$$((n % 100)))
# Changes with the binary interface.
SONAME = libmoonloop.so.0

# ---------------------------------------------------------------- the libraries

# Lua comes from pkg-config. Libraries that it knows too are named here, each
# with its Debian package (openssl:libssl-dev): this line is all that one needs.
PKG_LIBRARIES = libcares:libc-ares-dev $(if $(WITH_TLS),openssl:libssl-dev)
# libev has no .pc file in Debian; libresolv is libc's own.
PLAIN_LIBRARIES = -lev -lresolv -lpthread -lm

PKG_NAMES := $(foreach p,$(PKG_LIBRARIES),$(firstword $(subst :, ,$(p))))
PKG_CONFIG = pkg-config
LUA_CFLAGS := $(shell $(PKG_CONFIG) --cflags lua5.4 2>/dev/null)
LUA_LIBS := $(shell $(PKG_CONFIG) --libs lua5.4 2>/dev/null)
LUA_STATIC := $(shell $(PKG_CONFIG) --variable=libdir lua5.4 2>/dev/null)/liblua5.4.a
LIBS := $(if $(PKG_NAMES),$(shell $(PKG_CONFIG) --libs $(PKG_NAMES) 2>/dev/null)) \
  $(PLAIN_LIBRARIES)

# Headers are found by the quoted form alone, since some are called like the
# system's (error.h, signal.h).
SANITIZE_FLAGS := $(if $(SANITIZE),-fsanitize=$(SANITIZE) \
  -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
ALL_CFLAGS := $(OPTIMIZE) -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Wshadow \
  -Wmissing-prototypes $(if $(filter 1,$(WERROR)),-Werror) \
  -fvisibility=hidden -fPIC $(SANITIZE_FLAGS) \
  -iquote . -iquote host -iquote modules $(LUA_CFLAGS) \
  -DMOONLOOP_TLS=$(if $(WITH_TLS),1,0) \
  $(if $(PKG_NAMES),$(shell $(PKG_CONFIG) --cflags $(PKG_NAMES) 2>/dev/null)) \
  $(CPPFLAGS) $(CFLAGS)
# gcc's shared libubsan writes to no file when libasan is there too.
ALL_LDFLAGS := $(SANITIZE_FLAGS) $(if $(SANITIZE),-static-libubsan) \
  -Wl,--as-needed $(LDFLAGS)

# ---------------------------------------------------------------- helpers

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) '$(2)')
quote = '$(subst ','\'',$(1))'

# $(call changed,file,text): FORCE unless the file holds exactly the text. What
# depends on flags or on a list of names depends on a file that holds them.
changed = $(if $(subst x$(2),,x$(file <$(1)))$(subst x$(file <$(1)),,x$(2)),FORCE)
keep = @mkdir -p $(@D); printf '%s\n' $(call quote,$(1)) >$@

COMPILE_TEXT := $(CC) $(ALL_CFLAGS)
LINK_TEXT := $(CC) $(ALL_LDFLAGS) $(LIBS) $(LUA_STATIC) $(LIBRARY_OBJECTS) \
  $(COMMAND_OBJECTS)

# ---------------------------------------------------------------- what to call

.PHONY: all embed bench-programs demo test specs check lint asan fuzz valgrind soak \
  bench install uninstall format clean help FORCE
.DEFAULT_GOAL := all

all: $(PRODUCTS)

embed: $(EMBED_PROGRAMS)

bench-programs: $(BENCH_PROGRAMS)

help:
	@echo 'make             build everything into build/'
	@echo 'make demo        install what is missing, build, run examples/crawler.lua'
	@echo 'make test        install what is missing, build, run the specs'
	@echo 'make specs       run the specs (SPEC=file, BUSTED_ARGS=...)'
	@echo 'make check       lint, and the specs, which run the examples too'
	@echo 'make TLS=0       the same without TLS, and without OpenSSL'
	@echo 'make asan        the specs under address and undefined-behaviour sanitizer'
	@echo 'make fuzz        the reader of DNS answers, for a minute, under the sanitizers'
	@echo 'make valgrind    the specs that are not tagged #load or #bare under valgrind'
	@echo 'make soak        200,000 short connections, and 10,000 at once (a minute or so)'
	@echo 'make bench       the measured workloads'
	@echo 'make install     PREFIX=/usr/local DESTDIR='
	@echo 'make uninstall   lint   format   clean'

# demo and test build in a second make, which sees the packages just installed.
demo:
	@.ci/install-packages demo
	@$(MAKE) --no-print-directory all
	$(OUT)/moonloop examples/crawler.lua

test:
	@.ci/install-packages test
	@$(MAKE) --no-print-directory specs

check: lint
	@$(MAKE) --no-print-directory specs

# What a sanitizer or valgrind finds goes to files: so it counts in every child
# process, also in one whose status and words no spec looks at.
FOUND = $(CURDIR)/$(BUILD)/found
forget_found = @rm -rf $(FOUND) && mkdir -p $(FOUND)
# Ends a recipe that has its status in $$status.
look_at_found = for file in $(FOUND)/*; do \
    if test -s "$$file"; then cat "$$file"; status=1; fi; \
  done; exit $$status

asan: BUILD = build/asan
asan:
	$(forget_found)
	@status=0; ASAN_OPTIONS='$(ASAN_OPTIONS):log_path=$(FOUND)/asan' \
	  UBSAN_OPTIONS='$(UBSAN_OPTIONS):log_path=$(FOUND)/ubsan' \
	  $(MAKE) --no-print-directory BUILD=$(BUILD) SANITIZE=address,undefined \
	  specs || status=$$?; $(look_at_found)

# What reads the answers of name servers, for a minute, with whatever bytes.
fuzz:
	@MOONLOOP_FUZZ_SECONDS=60 $(MAKE) --no-print-directory asan \
	  SPEC=spec/dns_fuzz_spec.lua

# ---------------------------------------------------------------- the specs

# MOONLOOP tells specs which command is under test; what else was built lies
# beside it. The command runs busted itself, with no shell between, so that a
# crash shows in make's own words. MOONLOOP_TEST_REPORT: see .ci/report.lua.
BUSTED = $(shell command -v busted 2>/dev/null)
RUN_BUSTED = $(BUSTED) --ignore-lua \
  $(if $(MOONLOOP_TEST_REPORT),--output=.ci/report.lua) $(BUSTED_ARGS) $(SPEC)
SPEC_ENVIRONMENT = env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS \
  MOONLOOP=$(abspath $(OUT))/moonloop

# They mean something to sanitized programs alone.
ASAN_OPTIONS ?= detect_leaks=1:detect_stack_use_after_return=1
UBSAN_OPTIONS ?= print_stacktrace=1
export ASAN_OPTIONS UBSAN_OPTIONS

specs: all embed
	@test -n "$(BUSTED)" || \
	  { echo 'busted is missing: apt-get install lua-busted, or make test'; exit 1; }
	$(Q)$(SPEC_ENVIRONMENT) $(OUT)/moonloop $(RUN_BUSTED) </dev/null

# The children run under valgrind too, by programs of the same names that call it:
# tracing into every shell between would take four times as long. valgrind 3.19
# does not know pidfd_open. A spec tagged #bare looks at the command's own name.
VALGRIND = valgrind -q --log-file=$(FOUND)/%p --error-exitcode=99 \
  --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
  --num-callers=24
VALGRIND_OUT = $(abspath $(BUILD))/valgrind

valgrind: all embed
	$(forget_found)
	@rm -rf $(VALGRIND_OUT) && mkdir -p $(VALGRIND_OUT)/embed
	@ln -s $(filter-out %/moonloop,$(abspath $(PRODUCTS))) $(VALGRIND_OUT)
	@for program in moonloop $(EMBED_PROGRAMS:$(BUILD)/%=%); do \
	  printf '#!/bin/sh\nexec %s %s "$$@"\n' '$(VALGRIND)' \
	    $(abspath $(OUT))/$$program >$(VALGRIND_OUT)/$$program; \
	  chmod 755 $(VALGRIND_OUT)/$$program; \
	done
	@status=0; $(SPEC_ENVIRONMENT) MOONLOOP=$(VALGRIND_OUT)/moonloop \
	  MOONLOOP_NO_PIDFD=1 $(VALGRIND_OUT)/moonloop $(RUN_BUSTED) \
	  --exclude-tags=load,bare </dev/null || status=$$?; $(look_at_found)

# Each end of 10,000 connections takes a descriptor in a process of its own. The
# programs limit themselves; the time limit is for one that hangs.
SOAK = short_connections many_connections
SOAK_SECONDS = 280
soak: all
	@ulimit -n $$(ulimit -H -n); for program in $(SOAK); do \
	  $(SPEC_ENVIRONMENT) timeout -k 5 $(SOAK_SECONDS) $(OUT)/moonloop \
	    spec/soak/$$program.lua || exit 1; \
	done

bench: all bench-programs
	$(LUA) bench/run.lua

# ---------------------------------------------------------------- lint

C_FILES := $(HEADERS) $(wildcard host/*.c host/command/*.c modules/*.c \
  bench/*.[ch] spec/embed/*.[ch])
LUA_CHECKED = $(wildcard lua spec examples bench host/embed_lua.lua \
  .ci/report.lua .busted .luacheckrc)
SHELL_FILES = .ci/run .ci/install-packages bench/nginx.sh
CLANG_FORMAT = $(firstword $(shell command -v clang-format-14 2>/dev/null) \
  $(shell clang-format --version 2>/dev/null | grep -q 'version 14' && echo clang-format))
LUACHECK = $(shell command -v luacheck 2>/dev/null)

# The build is the first part: it fails on any warning.
lint: all embed bench-programs
ifneq ($(CLANG_FORMAT),)
	$(call say,FORMAT,$(words $(C_FILES)) C files)
	$(Q)$(if $(C_FILES),$(CLANG_FORMAT) --dry-run -Werror $(C_FILES))
else
	@echo '  clang-format 14 is missing (clang-format-14): not checked'
endif
ifneq ($(LUACHECK),)
	$(call say,LUA,luacheck)
	$(Q)$(LUACHECK) --quiet $(LUA_CHECKED)
else
	@echo '  luacheck is missing (lua-check): not checked'
endif
	$(call say,SHELL,$(SHELL_FILES))
	$(Q)for file in $(SHELL_FILES); do bash -n $$file || exit 1; done

format:
	$(Q)$(if $(C_FILES),$(or $(CLANG_FORMAT),clang-format-14) -i $(C_FILES))

# ---------------------------------------------------------------- compiling

# The first file that any object needs, and so the place to look for what is
# missing. It holds the compiler's flags.
$(OBJ)/flags: $(call changed,$(OBJ)/flags,$(COMPILE_TEXT))
	@missing=; \
	  $(CC) --version >/dev/null 2>&1 || missing="$$missing gcc"; \
	  $(PKG_CONFIG) --version >/dev/null 2>&1 || missing="$$missing pkg-config"; \
	  test -f $(LUA_STATIC) || missing="$$missing liblua5.4-dev"; \
	  $(LUA) -v >/dev/null 2>&1 || missing="$$missing lua5.4"; \
	  echo 'int main(void) { return ev_version_major() != 4; }' | \
	    $(CC) -include ev.h -x c - -o /dev/null -lev >/dev/null 2>&1 || \
	    missing="$$missing libev-dev"; \
	  for p in $(subst :,/,$(PKG_LIBRARIES)); do \
	    $(PKG_CONFIG) --exists "$${p%/*}" 2>/dev/null || \
	      missing="$$missing $${p#*/}"; \
	  done; \
	  if test -n "$$missing"; then \
	    echo "Moonloop cannot be built, Debian packages are missing:$$missing" >&2; \
	    echo "Install them (apt-get install$$missing) or call: make demo" >&2; \
	    exit 1; \
	  fi
	$(call keep,$(COMPILE_TEXT))

$(OUT_OBJ)/linked: $(call changed,$(OUT_OBJ)/linked,$(LINK_TEXT))
	$(call keep,$(LINK_TEXT))

$(OBJ)/%.o: %.c $(OBJ)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(OBJ)/lua_files: $(call changed,$(OBJ)/lua_files,$(LUA_FILES))
	$(call keep,$(LUA_FILES))

$(OBJ)/lua_files.c: host/embed_lua.lua $(LUA_FILES) $(OBJ)/lua_files $(OBJ)/flags
	$(call say,LUA,$(words $(LUA_FILES)) files of lua/moonloop)
	$(Q)$(LUA) host/embed_lua.lua lua $(LUA_FILES) >$@

$(OUT_OBJ)/source_tree: $(call changed,$(OUT_OBJ)/source_tree,$(SOURCE_TREE))
	$(call keep,$(SOURCE_TREE))

$(OUT_OBJ)/source_tree.c: $(OUT_OBJ)/source_tree
	@printf '#include "lua_files.h"\n\nconst char lua_source_tree[] = "%s";\n' \
	  $(call quote,$(subst ",\",$(subst \,\\,$(SOURCE_TREE)))) >$@

$(sort $(OBJ)/lua_files.o $(OUT_OBJ)/source_tree.o): %.o: %.c $(OBJ)/flags
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

-include $(patsubst %.o,%.d,$(LIBRARY_OBJECTS) $(COMMAND_OBJECTS))
-include $(BENCH_PROGRAMS:=.d) $(EMBED_PROGRAMS:=.d)

# ---------------------------------------------------------------- linking

# The whole of Lua, with its interface exported: C modules expect to find it in
# the program that loads them.
$(OUT)/moonloop: $(LIBRARY_OBJECTS) $(COMMAND_OBJECTS) $(wildcard $(LUA_STATIC)) \
    host/command/exports.list $(OUT_OBJ)/linked
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -Wl,--dynamic-list=host/command/exports.list -o $@ \
	  $(COMMAND_OBJECTS) $(LIBRARY_OBJECTS) \
	  -Wl,--whole-archive $(LUA_STATIC) -Wl,--no-whole-archive $(LIBS) -ldl

# Lua's symbols stay undefined in both: they are the loading program's, and a
# second Lua in one process would be a crash.
$(OUT)/moonloop.so: $(LIBRARY_OBJECTS) host/exports.map $(OUT_OBJ)/linked
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -Wl,--version-script=host/exports.map \
	  -o $@ $(LIBRARY_OBJECTS) $(LIBS)

$(OUT)/libmoonloop.so: $(LIBRARY_OBJECTS) host/exports.map $(OUT_OBJ)/linked
	$(call say,LINK,$@)
	$(Q)$(CC) -shared $(ALL_LDFLAGS) -Wl,--version-script=host/exports.map \
	  -Wl,-soname,$(SONAME) -o $@ $(LIBRARY_OBJECTS) $(LIBS)
	@ln -sf libmoonloop.so $(OUT)/$(SONAME)

# One object whose hidden symbols are local: an embedding program may have a
# timer_start of its own.
$(OUT)/libmoonloop.a: $(LIBRARY_OBJECTS) $(OUT_OBJ)/linked
	$(call say,AR,$@)
	$(Q)$(LD) -r -o $(OUT_OBJ)/libmoonloop.o $(LIBRARY_OBJECTS)
	$(Q)$(OBJCOPY) --localize-hidden $(OUT_OBJ)/libmoonloop.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(OUT_OBJ)/libmoonloop.o

# A folder of its own, since host/ has headers named like the system's.
$(OUT)/include/moonloop.h: host/moonloop.h
	@mkdir -p $(@D)
	@cp $< $@

$(addprefix $(BUILD)/bench/,tls_load tls_echo_libev): BENCH_LIBRARIES = -lssl -lcrypto

$(BUILD)/bench/%: bench/%.c $(OBJ)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -MF $@.d -MT $@ -o $@ $< \
	  $(PLAIN_LIBRARIES) $(BENCH_LIBRARIES)

$(BUILD)/embed/%: spec/embed/%.c $(OUT)/libmoonloop.a $(OUT)/include/moonloop.h
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) -MMD -MP -MF $@.d -MT $@ \
	  -I$(OUT)/include -o $@ $< $(OUT)/libmoonloop.a $(LUA_LIBS) $(LIBS)

# ---------------------------------------------------------------- moonloop.pc

# A program built with the one in build/ finds the library there when it runs.
PC_INCLUDEDIR = $(abspath $(OUT))/include
PC_LIBDIR = $(abspath $(OUT))
PC_RUNPATH = -Wl,-rpath,$${libdir}

PC_VALUES := $(PC_INCLUDEDIR) $(PC_LIBDIR) $(PC_RUNPATH) $(VERSION) $(PKG_NAMES) \
  $(LIBS)
$(OUT_OBJ)/pc: $(call changed,$(OUT_OBJ)/pc,$(PC_VALUES))
	$(call keep,$(PC_VALUES))

$(OUT)/moonloop.pc: host/moonloop.pc.in $(OUT_OBJ)/pc
	@sed -e 's|@INCLUDEDIR@|$(PC_INCLUDEDIR)|' -e 's|@LIBDIR@|$(PC_LIBDIR)|' \
	  -e 's|@RUNPATH@|$(PC_RUNPATH)|' -e 's|@VERSION@|$(VERSION)|' \
	  -e 's|@REQUIRES_PRIVATE@|$(PKG_NAMES)|' \
	  -e 's|@LIBS_PRIVATE@|$(PLAIN_LIBRARIES)|' $< >$@

# ---------------------------------------------------------------- installing

INSTALL = install
TO_INSTALL := $(BUILD)/install
SHARED = libmoonloop.so.$(VERSION)

install:
	@$(MAKE) --no-print-directory OUT=$(TO_INSTALL) SOURCE_TREE= \
	  PC_INCLUDEDIR=$(PREFIX)/include PC_LIBDIR=$(LIBDIR) PC_RUNPATH= all
	$(INSTALL) -d $(addprefix $(DESTDIR),$(PREFIX)/bin $(PREFIX)/include \
	  $(LIBDIR)/pkgconfig $(LUA_CMOD) $(PREFIX)/share/doc/moonloop)
	$(INSTALL) -m 755 $(TO_INSTALL)/moonloop $(DESTDIR)$(PREFIX)/bin/moonloop
	$(INSTALL) -m 644 $(TO_INSTALL)/moonloop.so $(DESTDIR)$(LUA_CMOD)/moonloop.so
	$(INSTALL) -m 644 $(TO_INSTALL)/libmoonloop.so $(DESTDIR)$(LIBDIR)/$(SHARED)
	ln -sf $(SHARED) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libmoonloop.so
	$(INSTALL) -m 644 $(TO_INSTALL)/libmoonloop.a $(DESTDIR)$(LIBDIR)/libmoonloop.a
	$(INSTALL) -m 644 host/moonloop.h $(DESTDIR)$(PREFIX)/include/moonloop.h
	$(INSTALL) -m 644 $(TO_INSTALL)/moonloop.pc $(DESTDIR)$(LIBDIR)/pkgconfig/moonloop.pc
	$(INSTALL) -m 644 LICENSE $(DESTDIR)$(PREFIX)/share/doc/moonloop/LICENSE
	@# The loader finds a library in /usr/local/lib by its cache only.
	@test -n '$(DESTDIR)' || ldconfig 2>/dev/null || true

uninstall:
	rm -f $(addprefix $(DESTDIR),$(PREFIX)/bin/moonloop $(LUA_CMOD)/moonloop.so \
	  $(LIBDIR)/$(SHARED) $(LIBDIR)/$(SONAME) $(LIBDIR)/libmoonloop.so \
	  $(LIBDIR)/libmoonloop.a $(LIBDIR)/pkgconfig/moonloop.pc \
	  $(PREFIX)/include/moonloop.h)
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/moonloop

clean:
	rm -rf $(BUILD)
