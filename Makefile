# SPDX-License-Identifier: Apache-2.0
# make help lists the targets. V=1 shows commands, SAN=address|thread|undefined builds under build/SAN.

SAN ?=
BUILD ?= build$(if $(SAN),/$(SAN))
PREFIX ?= /usr/local
DESTDIR ?=
TIME ?= 60
T ?=
ROW ?=
CC = gcc
FUZZ_CC ?= clang
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' '$(1)' '$(2)')

WARN = -Wall -Wextra -Wshadow -Wno-unused-parameter -Werror=implicit -Werror=incompatible-pointer-types
CFLAGS ?= -O2 -g
SANFLAGS = $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all)
ALL_CFLAGS = -std=gnu11 -D_GNU_SOURCE $(CFLAGS) -fPIC -fvisibility=hidden -fstack-usage $(WARN) $(SANFLAGS) -I. -I$(BUILD) -I$(BUILD)/proto
LIBS = -l:libssl.a -l:libcrypto.a -l:libprotobuf-c.a -l:libyaml.a -l:libnghttp2.a -l:libcares.a
# Test programs link the distribution's shared libraries: the same code, and a link takes a tenth of the time.
TEST_LIBS = $(LIBS) -lpthread

PACKAGES = gcc libc6-dev libssl-dev libprotobuf-c-dev protobuf-c-compiler libyaml-dev libnghttp2-dev libc-ares-dev
CHECK_PACKAGES = $(PACKAGES) libcriterion-dev binutils valgrind gdb python3 openssl iproute2 libjemalloc2 libfaketime libsocket-wrapper

ROOMS = shim shim/base resolver lb tls proto
SRC = $(sort $(wildcard $(addsuffix /*.c,$(ROOMS))))
CTL_SRC = $(sort $(wildcard shim/ctl/*.c))
PROTO_DIR = proto/mesh
PROTO = $(sort $(patsubst $(PROTO_DIR)/%,%,$(wildcard $(PROTO_DIR)/*.proto $(PROTO_DIR)/*/*.proto)))
PROTO_C = $(PROTO:%.proto=$(BUILD)/proto/%.pb-c.c)

SRC_OBJ = $(SRC:%.c=$(BUILD)/%.o)
PROTO_OBJ = $(PROTO_C:.c=.o)
LIB_OBJ = $(SRC_OBJ) $(PROTO_OBJ)
PRIVATE_OBJ = $(BUILD)/shim/link/private.o $(if $(filter thread,$(SAN)),$(BUILD)/tests/lib/tsan_first.o) # the library alone has these
PRIVATE_LIBS = $(BUILD)/libnghttp2.a $(BUILD)/libcares.a
ROOM_OBJ = $(filter-out $(BUILD)/shim/entry.o,$(LIB_OBJ)) # what tests and meshctl link: everything but the exports
CTL_OBJ = $(CTL_SRC:%.c=$(BUILD)/%.o)

CTL_TEST_OBJ = $(filter-out $(BUILD)/shim/ctl/main.o,$(CTL_OBJ))

LIB = $(BUILD)/libmeshshim.so
CTL = $(if $(CTL_SRC),$(BUILD)/meshctl)

UNIT_SRC = $(sort $(wildcard tests/unit/*/*_test.c tests/unit/*/*/*_test.c))
UNIT = $(UNIT_SRC:%.c=$(BUILD)/%)
WIRE = $(patsubst tests/%.c,%,$(sort $(wildcard tests/wire/*.c)))
MESH = $(patsubst tests/%_test.py,%,$(sort $(wildcard tests/mesh/*_test.py)))
FUZZ_SRC = $(sort $(wildcard tests/fuzz/*_fuzz.c))
FUZZ = $(FUZZ_SRC:tests/fuzz/%_fuzz.c=%)

.PHONY: format all check check-unit check-wire check-mesh check-fuzz check-fault check-valgrind fuzz demo apps suites interop bench bypass install clean lint help setup setup-check
.DELETE_ON_ERROR:
.SECONDARY:

all: $(LIB) $(CTL)

# ---- packages: before anything is compiled, once a build directory ----
$(BUILD)/.setup:
	$(Q)mkdir -p $(@D)
	$(Q)sh tests/setup.sh $(PACKAGES)
	$(Q)touch $@
$(BUILD)/.setup-check: | $(BUILD)/.setup
	$(Q)sh tests/setup.sh $(CHECK_PACKAGES)
	$(Q)touch $@

# ---- generated ----
$(BUILD)/shim/symbols.hash: shim/symbols.def shim/symbols.sh | $(BUILD)/.setup
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D) && sh shim/symbols.sh "$(CC)" hash >$@
$(BUILD)/shim/exports.map: shim/symbols.def shim/symbols.sh | $(BUILD)/.setup
	$(call say,GEN,$@)
	$(Q)mkdir -p $(@D) && sh shim/symbols.sh "$(CC)" map >$@
$(BUILD)/proto/%.pb-c.c $(BUILD)/proto/%.pb-c.h: $(PROTO_DIR)/%.proto | $(BUILD)/.setup
	$(call say,PROTO,$<)
	$(Q)mkdir -p $(@D) && protoc-c -I$(PROTO_DIR) --c_out=$(BUILD)/proto $*.proto

# ---- objects ----
GENERATED = $(BUILD)/shim/symbols.hash $(PROTO_C)
$(BUILD)/%.o: %.c | $(GENERATED) $(BUILD)/.setup
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) $(OBJ_CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/proto/%.o: $(BUILD)/proto/%.c | $(PROTO_C)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -w -MMD -MP -c $< -o $@
# The entries define what gcc knows by heart (execl, _exit): as ordinary functions, never as themselves. They are
# on every call's path: optimised and uninstrumented in every build.
$(BUILD)/tests/lib/tsan_first.o: OBJ_CFLAGS = -fno-sanitize=all
$(BUILD)/shim/link/private.o: OBJ_CFLAGS = -fno-builtin
$(BUILD)/shim/entry.o: OBJ_CFLAGS = -O2 -fno-builtin -fno-sanitize=all
# The sanitizers' own start calls dlvsym, which the look-up serves before there is a shadow.
$(BUILD)/shim/real.o: OBJ_CFLAGS = -fno-sanitize=all

# ---- the library ----
# No start files and no constructors: DT_INIT is ours. No RELRO: it would be a system call for every program, to protect
# nothing but the loader's own table; mesh_heavy_load protects what it relocates. One text segment: two mappings less.
INIT = $(if $(filter thread,$(SAN)),mesh_tsan_init,mesh_init)
LINK = -shared -nostartfiles -Wl,-soname,libmeshshim.so -Wl,--version-script=$(BUILD)/shim/exports.map -Wl,-Bsymbolic \
	-Wl,--exclude-libs,ALL -Wl,--gc-sections -Wl,-init=$(INIT) -Wl,-u,mesh_heavy_load -Wl,-z,norelro -Wl,-z,noseparate-code -Wl,-z,lazy \
	-Wl,-z,nodelete -Wl,-z,noexecstack -Wl,--hash-style=gnu -Wl,--build-id -Wl,-T,shim/link/layout.ld \
	-Wl,--wrap=ossl_safe_getenv -Wl,--wrap=getenv -Wl,--wrap=atexit $(if $(SAN),,-Wl,-z,defs)
$(LIB): $(LIB_OBJ) $(PRIVATE_OBJ) $(PRIVATE_LIBS) $(BUILD)/shim/exports.map shim/link/layout.ld $(BUILD)/defer
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) $(LINK) -o $@.new $(filter %.o,$^) $(filter-out -l:libnghttp2.a -l:libcares.a,$(LIBS)) $(PRIVATE_LIBS)
	$(Q)$(if $(SAN),,$(BUILD)/defer $@.new >$(BUILD)/defer.log) # sanitizers read their tables at load
	$(Q)mv $@.new $@
# In the library c-ares calls what shim/link/private.c has instead of libc, and neither it nor nghttp2 aborts.
PRIVATE_CARES = bind close connect fclose fcntl fopen free getsockname malloc rand realloc recv recvfrom send setsockopt socket writev
$(BUILD)/libcares.a: REDEFINED = $(foreach f,$(PRIVATE_CARES),--redefine-sym $(f)=mesh_private_$(f))
$(PRIVATE_LIBS): Makefile | $(BUILD)/.setup
	$(call say,COPY,$@)
	$(Q)objcopy $(REDEFINED) --redefine-sym __assert_fail=mesh_private_assert_fail "$$($(CC) -print-file-name=$(@F))" $@
$(BUILD)/defer: shim/link/defer.c shim/link/deferred.h | $(BUILD)/.setup
	$(call say,CC,$<)
	$(Q)$(CC) -std=gnu11 -D_GNU_SOURCE -O2 $(WARN) -I. -o $@ $<

$(BUILD)/meshctl: $(CTL_OBJ) $(ROOM_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(SANFLAGS) -Wl,--gc-sections -o $@ $^ $(LIBS) -lpthread

# ---- tests ----
check: all
	$(Q)$(MAKE) --no-print-directory -k check-unit check-wire check-mesh check-fuzz $(if $(T)$(SAN),,check-fault lint)

$(BUILD)/tests/unit/%: tests/unit/%.c $(ROOM_OBJ) | $(BUILD)/.setup-check
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(UNIT_DRIVER) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $< $(filter %.o,$^) $(TEST_LIBS)
$(filter $(BUILD)/tests/unit/shim/ctl/%,$(UNIT)): $(CTL_TEST_OBJ)
UNIT_RUN = $(if $(T),$(filter $(BUILD)/tests/unit/$(T)_test,$(UNIT)),$(UNIT))
# Criterion does not start under ThreadSanitizer and hides leaks from AddressSanitizer: tests/unit/plain runs the same files.
UNIT_DRIVER = $(if $(filter address thread,$(SAN)),-Itests/unit/plain -lm,-lcriterion)
check-unit: $(UNIT_RUN)
	$(Q)SAN=$(SAN) sh tests/unit/run.sh $(UNIT_RUN)

WIRE_RUN = $(if $(T),$(filter $(T),$(WIRE)),$(WIRE))
check-wire: all | $(BUILD)/.setup-check
	$(Q)$(if $(WIRE_RUN),BUILD=$(abspath $(BUILD)) SAN=$(SAN) bash tests/wire/run.sh $(notdir $(WIRE_RUN)))

# memcheck: nothing invalid, nothing read before it is written, nothing lost. What a case leaves to the process is not lost.
VALGRIND_RUN = accept close connect dup duplex echo fork names options sendfile sizes stdio truthful
MEMCHECK = valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
	--suppressions=$(abspath tests/valgrind.supp)
check-valgrind: all | $(BUILD)/.setup-check
	$(Q)BUILD=$(abspath $(BUILD)) WIRE_SLOW=8 WIRE_UNDER='$(MEMCHECK)' bash tests/wire/run.sh --mode mtls $(or $(T:wire/%=%),$(VALGRIND_RUN))

MESH_RUN = $(if $(T),$(filter $(T),$(MESH)),$(MESH))
check-mesh: all | $(BUILD)/.setup-check
	$(Q)$(if $(MESH_RUN),BUILD=$(abspath $(BUILD)) SAN=$(SAN) bash tests/mesh/run.sh $(notdir $(MESH_RUN)))

# The library as it is shipped, so not under a sanitizer, with each of its requests refused in turn.
check-fault: all | $(BUILD)/.setup-check
	$(Q)BUILD=$(abspath $(BUILD)) bash tests/fault/run.sh

# Each target twice: linked with a plain driver that replays its corpus, and under clang's libFuzzer.
$(BUILD)/tests/fuzz/%_replay: tests/fuzz/%_fuzz.c tests/fuzz/replay.c $(ROOM_OBJ) | $(BUILD)/.setup-check
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter tests/fuzz/%.c,$^) $(ROOM_OBJ) $(TEST_LIBS)
FUZZ_RUN = $(if $(T),$(filter $(T:fuzz/%=%),$(FUZZ)),$(FUZZ))
check-fuzz: $(FUZZ_RUN:%=$(BUILD)/tests/fuzz/%_replay)
	$(Q)for f in $(FUZZ_RUN); do $(BUILD)/tests/fuzz/$${f}_replay tests/fuzz/corpus/$$f || exit 1; done

FUZZ_BUILD = build/fuzz
FUZZ_FLAGS = -std=gnu11 -D_GNU_SOURCE -O1 -g -w -fsanitize=address,undefined -I. -I$(BUILD) -I$(BUILD)/proto
FUZZ_OBJ = $(patsubst %.c,$(FUZZ_BUILD)/%.o,$(filter-out shim/entry.c,$(SRC))) $(PROTO:%.proto=$(FUZZ_BUILD)/proto/%.pb-c.o)
$(FUZZ_BUILD)/.setup: | $(BUILD)/.setup
	$(Q)sh tests/setup.sh clang libclang-rt-14-dev && mkdir -p $(@D) && touch $@
$(FUZZ_BUILD)/%.o: %.c | $(GENERATED) $(FUZZ_BUILD)/.setup
	$(call say,FUZZ,$<)
	$(Q)mkdir -p $(@D) && $(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c $< -o $@
$(FUZZ_BUILD)/proto/%.o: $(BUILD)/proto/%.c | $(PROTO_C) $(FUZZ_BUILD)/.setup
	$(call say,FUZZ,$<)
	$(Q)mkdir -p $(@D) && $(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -c $< -o $@
$(FUZZ_BUILD)/%_fuzz: tests/fuzz/%_fuzz.c $(FUZZ_OBJ)
	$(call say,FUZZ,$<)
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_OBJ) $(TEST_LIBS)
fuzz: $(FUZZ_RUN:%=$(FUZZ_BUILD)/%_fuzz)
	$(Q)for f in $(FUZZ_RUN); do mkdir -p $(FUZZ_BUILD)/found/$$f tests/fuzz/corpus/$$f && \
		$(FUZZ_BUILD)/$${f}_fuzz -max_total_time=$(TIME) -print_final_stats=1 -artifact_prefix=$(FUZZ_BUILD)/$$f- \
		$(FUZZ_BUILD)/found/$$f tests/fuzz/corpus/$$f || exit 1; done

# ---- benchmarks: every tests/bench/NAME.c is a program that may use the rooms ----
BENCH = $(patsubst %.c,$(BUILD)/%,$(sort $(wildcard tests/bench/*.c)))
$(BUILD)/tests/bench/rooms.a: $(ROOM_OBJ)
	$(Q)mkdir -p $(@D) && rm -f $@ && $(AR) rcs $@ $^
$(BENCH): $(BUILD)/tests/bench/%: tests/bench/%.c $(BUILD)/tests/bench/rooms.a
	$(call say,BENCH,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -Wl,--as-needed -MMD -MP -MF $@.d -o $@ $< $(BUILD)/tests/bench/rooms.a $(TEST_LIBS)
bench: $(BENCH)

# ---- what has a folder of its own ----
XDS_PROBE = $(BUILD)/tests/interop/xds/probe
$(XDS_PROBE): tests/interop/xds/probe.c $(ROOM_OBJ)
	$(call say,TEST,$<)
	$(Q)mkdir -p $(@D) && $(CC) $(ALL_CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c %.o,$^) $(TEST_LIBS)
interop: $(XDS_PROBE)
demo apps suites interop bench bypass: all
	$(Q)if [ -f tests/$@/run.sh ]; then BUILD=$(abspath $(BUILD)) T=$(T) ROW=$(ROW) bash tests/$@/run.sh; else echo "tests/$@/run.sh is missing" >&2; exit 1; fi

format:
	$(Q)git ls-files -co --exclude-standard "*.c" | xargs clang-format -i

lint: $(LIB)
	$(Q)BUILD=$(BUILD) CC=$(CC) sh tests/lint/run.sh

# Replaced by rename: a running program keeps the file that it has mapped.
install: all
	$(Q)set -e; put() { mkdir -p "$$(dirname "$$3")"; install -m "$$1" "$$2" "$$3.new"; mv -f "$$3.new" "$$3"; }; \
	put 755 $(LIB) $(DESTDIR)$(PREFIX)/lib/libmeshshim.so; \
	$(if $(CTL),put 755 $(CTL) $(DESTDIR)$(PREFIX)/bin/meshctl;) \
	for m in $(wildcard shim/*.[1-8] shim/ctl/*.[1-8]); do put 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done

clean:
	rm -rf build

help:
	@echo 'all      build/libmeshshim.so, build/meshctl'
	@echo 'check    all tests that fit a laptop; T=lb/ring_hash one of them, SAN=address|thread|undefined instrumented'
	@echo 'check-valgrind  wire tests under memcheck'
	@echo 'fuzz     fuzz each parser for TIME= seconds (T= one of them)'
	@echo 'demo     the main job on real programs'
	@echo 'apps     real programs;  suites  third-party test suites;  interop  real control planes and proxies'
	@echo 'bypass   the ways past the library, each by mode, recorded on the wire: build/bypass.txt'
	@echo 'bench    the table of ratios, build/bench.json; ROW=6 one of them, PAIRS=n'
	@echo 'lint     symbols, style, instructions on the pass-through path'
	@echo 'format   lay every .c file out as .clang-format says'
	@echo 'install  PREFIX=/usr/local DESTDIR='
	@echo 'clean    remove build/'

-include $(LIB_OBJ:.o=.d) $(FUZZ_OBJ:.o=.d) $(PRIVATE_OBJ:.o=.d) $(CTL_OBJ:.o=.d) $(UNIT:%=%.d) $(BENCH:%=%.d) $(XDS_PROBE).d
