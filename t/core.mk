# Copyright (C) the ngx_http_llm_budget_module authors
#
# The core on its own, with no nginx include path: its objects, the unit test
# programs, the fuzz targets, and the program that compares stores.  Run by
# scripts/unit, scripts/fuzz, scripts/check and t/430-store-agree.t with
#
#   ROOT    the project's folder       OUT   where to build
#   CC      gcc or clang               SAN   sanitizer options, may be empty

MODULE := $(ROOT)/ngx_http_llm_budget_module

CORE_SRCS := $(wildcard $(MODULE)/core/*.c)
UNIT_SRCS := $(wildcard $(ROOT)/t/unit/test_*.c $(ROOT)/t/unit/*_cat.c)
FUZZ_SRCS := $(wildcard $(ROOT)/t/fuzz/fuzz_*.c)
STORE_SRCS := $(wildcard $(ROOT)/t/store/*.c)

CORE_OBJS := $(CORE_SRCS:$(MODULE)/core/%.c=$(OUT)/core/%.o)
UNIT_BINS := $(UNIT_SRCS:$(ROOT)/t/unit/%.c=$(OUT)/%)
FUZZ_BINS := $(FUZZ_SRCS:$(ROOT)/t/fuzz/%.c=$(OUT)/%)
STORE_OBJS := $(STORE_SRCS:$(ROOT)/t/store/%.c=$(OUT)/store/%.o)
SCRIPTS := $(OUT)/store/ngx_http_llm_budget_scripts.h

GCC := $(if $(findstring clang,$(shell $(CC) --version)),,yes)

# every object

COMMON := -std=c99 -g -O2 -fno-omit-frame-pointer -Werror -Wall -Wextra \
          -Wno-unused-parameter -Wshadow -Wvla -Wpointer-arith \
          -Wimplicit-fallthrough -Wdeclaration-after-statement \
          -I$(MODULE) $(SAN) -MMD -MP

# the core: what nginx code could not pass

STRICT := -pedantic -Wmissing-prototypes -Wstrict-prototypes \
          -Wnull-dereference -Wconversion -Wsign-conversion -Wcast-qual \
          -Wwrite-strings -Wundef -Wswitch-enum -Wdouble-promotion \
          $(if $(GCC),-Wlogical-op -Wduplicated-cond -Wduplicated-branches)

.PHONY: core unit fuzz store FORCE
.SECONDARY:

core: $(CORE_OBJS)
unit: $(UNIT_BINS)
fuzz: $(FUZZ_BINS)
store: $(OUT)/agree

$(OUT)/core/%.o: $(MODULE)/core/%.c $(OUT)/options
	$(CC) $(COMMON) $(STRICT) -c -o $@ $<

$(OUT)/%.o: $(ROOT)/t/unit/%.c $(OUT)/options
	$(CC) $(COMMON) -I$(ROOT)/t/unit -c -o $@ $<

$(OUT)/%.o: $(ROOT)/t/fuzz/%.c $(OUT)/options
	$(CC) $(COMMON) -c -o $@ $<

$(OUT)/store/%.o: $(ROOT)/t/store/%.c $(SCRIPTS) $(OUT)/options
	$(CC) $(COMMON) -I$(ROOT)/t/unit -I$(ROOT)/t/store -I$(OUT)/store \
	    -c -o $@ $<

$(SCRIPTS): $(wildcard $(MODULE)/redis/*.lua) $(ROOT)/scripts/embed-lua
	@mkdir -p $(OUT)/store
	sh $(ROOT)/scripts/embed-lua $@ $(MODULE)/redis

# made anew, so that no object of a removed source stays in it

$(OUT)/core.a: $(CORE_OBJS) $(OUT)/options
	rm -f $@
	ar rc $@ $(CORE_OBJS)

$(UNIT_BINS): $(OUT)/%: $(OUT)/%.o $(OUT)/core.a
	$(CC) $(SAN) -o $@ $< $(OUT)/core.a -ljansson

$(FUZZ_BINS): $(OUT)/%: $(OUT)/%.o $(OUT)/core.a
	$(CC) $(subst fuzzer-no-link,fuzzer,$(SAN)) -o $@ $< $(OUT)/core.a -ljansson

$(OUT)/agree: $(STORE_OBJS) $(OUT)/core.a
	$(CC) $(SAN) -o $@ $(STORE_OBJS) $(OUT)/core.a -ljansson -lhiredis

# other options or other sources build everything, or the archive, again

$(OUT)/options: FORCE
	@mkdir -p $(OUT)/core
	@echo '$(CC) $(COMMON) $(STRICT) $(CORE_SRCS)' | cmp -s - $@ \
	    || echo '$(CC) $(COMMON) $(STRICT) $(CORE_SRCS)' > $@

FORCE:

-include $(wildcard $(OUT)/*.d $(OUT)/core/*.d $(OUT)/store/*.d)
