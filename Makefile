# Everything that a developer or CI runs. `make test` needs Go and nothing else: it fetches the rest itself.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

GO       ?= go
CACHE    := $(CURDIR)/.cache
TOOLS    := $(CACHE)/bin
LOG      := $(CACHE)/log
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null)
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS  := -s -w -X main.Version=$(VERSION) -X main.Commit=$(COMMIT)
BUILD    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"
FUZZTIME ?= 20s

# The tests that need other programs fail instead of skipping.
export LIVEREC_NEED_TOOLS = 1
export LIVEREC_TOOLS      = $(TOOLS)
export LIVEREC_BIN        = $(CACHE)/liverec
export LIVEREC_VERSITYGW  = $(TOOLS)/versitygw

# Packages that start no goroutine and share nothing (pkg/archtest looks): the race detector has nothing to find in them
# and makes them eight times slower.
PURE := pkg/archtest pkg/bilibili/qr pkg/config pkg/media/codec pkg/media/flv pkg/media/hls pkg/media/mp4 pkg/media/mpegts \
	pkg/media/probe recorder/hlspull/plan recorder/mend recorder/repair recorder/retime

# Shows what went wrong and one line per package; the whole story is in .cache/log. After a failure: what the failed tests
# said, and once more whether they fail (e2e/again.sh).
BRIEF = tee $(1) | { grep --line-buffered -Ev '^(=== |PASS$$| *--- (PASS|SKIP)|\?  )' || true; } || { $(CURDIR)/e2e/failures.sh $(1); $(CURDIR)/e2e/again.sh $(1) $(2); }

.PHONY: build install setup lint test test-root test-race test-plain test-alloc test-e2e test-image bench faults soak fuzz clean

build: ## the program, into ./liverec
	$(BUILD) -o liverec ./cmd/liverec
	@ls -l liverec

setup: ## what the tests need, into .cache/bin; as root also missing Debian packages
	@TOOLS=$(TOOLS) e2e/setup.sh

lint:
	@out=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	if [ -n "$$out" ]; then echo "gofmt would change: $$out"; exit 1; fi
	$(GO) vet ./...
	cd e2e && $(GO) vet -tags image ./...

test: setup lint test-root test-e2e test-image ## everything
	@e2e/summary.sh $(LOG)/root.log $(LOG)/crash.log $(LOG)/alloc.log $(LOG)/e2e.log $(LOG)/image.log

test-root: test-race test-plain test-alloc ## all packages

test-race:
	@mkdir -p $(LOG)
	$(GO) test -race -count=1 -timeout 8m -v $$($(GO) list -f '{{.Dir}}' ./... | sed 's,^$(CURDIR),.,' | grep -vxF "$$(printf './%s\n' $(PURE))") \
		2>&1 | $(call BRIEF,$(LOG)/root.log,$(GO) test -race -count=1 -timeout 8m -v)

test-plain:
	@mkdir -p $(LOG)
	@# The crash schedules again with all their samples: the race detector sees only some of them.
	$(GO) test -count=1 -timeout 8m -v $(addprefix ./,$(PURE)) ./pipeline/pipelinetest ./recorder 2>&1 | $(call BRIEF,$(LOG)/crash.log,$(GO) test -count=1 -timeout 8m -v)

test-alloc:
	@mkdir -p $(LOG)
	@# Allocations are counted without it.
	$(GO) test -count=1 -timeout 2m -v -run Alloc ./recorder/... ./pkg/media/... 2>&1 | $(call BRIEF,$(LOG)/alloc.log,$(GO) test -count=1 -timeout 2m -v)

$(LIVEREC_BIN): FORCE
	@mkdir -p $(CACHE)
	$(BUILD) -o $@ ./cmd/liverec
FORCE:

test-e2e: $(LIVEREC_BIN) ## the built program as a user sees it
	@mkdir -p $(LOG)
	cd e2e && $(GO) test -count=1 -timeout 15m -parallel 18 -v ./... 2>&1 | $(call BRIEF,$(LOG)/e2e.log,$(GO) test -count=1 -timeout 15m -v)

test-image: $(LIVEREC_BIN) ## builds the Dockerfile and runs what comes out, without any engine
	@mkdir -p $(LOG)
	cd e2e && $(GO) test -tags image -count=1 -timeout 10m -v -run '^TestImage$$' . 2>&1 | $(call BRIEF,$(LOG)/image.log,$(GO) test -tags image -count=1 -timeout 10m -v)

bench: setup $(LIVEREC_BIN) ## one table, ratios to curl; then twenty rooms in one process
	cd e2e && $(GO) run ./bench
	$(GO) test -run '^$$' -bench TwentyRooms -benchtime 1x ./cmd/liverec

faults: setup $(LIVEREC_BIN) ## what liverec, ffmpeg, streamlink and yt-dlp make of the same faulty streams
	cd e2e && $(GO) run ./faults

soak: setup $(LIVEREC_BIN) ## a thousand kills
	cd e2e && LIVEREC_KILLS=1000 $(GO) test -count=1 -timeout 4h -v -run '^TestKill' .

fuzz: ## every fuzz target for FUZZTIME
	@$(GO) list -f '{{.ImportPath}} {{.Dir}}' ./... | while read -r pkg dir; do \
	  for target in $$(grep -hoE '^func (Fuzz[A-Za-z0-9_]+)' "$$dir"/*_test.go 2>/dev/null | awk '{print $$2}'); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
	  done; \
	done

clean:
	rm -rf $(CACHE) liverec liverec-data liverec-archive
