# The version that binaries print and that the demo's images are tagged with.
VERSION := 0.1.0

# The race detector needs cgo, and cgo a C compiler. Expanded by the recipes that use it alone.
RACE = $(if $(filter 1,$(shell go env CGO_ENABLED)),-race,$(warning \
	no C compiler, so no race detector: on Debian install gcc and libc6-dev))
# A program with the race detector waits a second before it ends, unless told otherwise; tests start hundreds of them.
export GORACE := atexit_sleep_ms=0 $(GORACE)

# Executions, not seconds: Go reports a target as failed now and then when a deadline ends it (golang.org/issue/75804).
FUZZTIME := 50000x
# What `skep deploy` does over its life, what docker deployed taken over, secrets by driver.
ENGINE29TESTS := '^(TestDeployOnASwarm|TestAdoptOnASwarm|TestSecretsOfADriverOnASwarm)$$'
TESTFLAGS :=
OUT := build
TOOL := go tool -modfile=.ci/tools/go.mod

.DEFAULT_GOAL := help
.PHONY: help build images generate test engine29 test-engine29 control-plane-swarm cover fuzz soak bench performance lint queries docs docs-check demo demo-stop clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-19s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build every binary into bin/, static
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ ./cmd/...

images: ## Make the container images on the engine that DOCKER_HOST names
	VERSION=$(VERSION) .demo/images.sh

generate: ## Compile stacks/ into build/ (OUT=folder)
	go run ./cmd/skep generate -o $(OUT)

test: ## Run every test; installs Docker and the like where they are missing
	.demo/install.sh test
	go test $(RACE) -timeout 60m -parallel 3 $(TESTFLAGS) ./...

engine29: ## Build a current Docker engine for tests, once, into the user's cache
	@.ci/engine29/build

# Without the race detector: what it can find here, it finds in `make test`.
test-engine29: ## Run the core deploy tests on a current Docker engine
	.demo/install.sh test
	dir=$$(.ci/engine29/build) && SKEP_ENGINE="$$dir" go test -timeout 20m -parallel 3 $(TESTFLAGS) -run $(ENGINE29TESTS) ./cmd/skep

control-plane-swarm: ## Run the catalogue's control plane on a private Swarm of two nodes, push to it, kill a server
	.demo/install.sh test
	SKEP_NO_SKIP=1 go test -tags stack -run '^TestControlPlaneStack$$' -count=1 -timeout 30m -v ./cmd/skep-server

cover: ## Print the test coverage of each package
	go test -timeout 20m -cover ./...

fuzz: ## Run every fuzz target for FUZZTIME=50000x
	@grep -ro --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | \
	while IFS=: read -r file target; do \
		go test -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname "$$file")" || exit 1; \
	done

soak: ## Send the control plane 200,000 deliveries
	.demo/install.sh test
	SKEP_SOAK=1 go test -run TestDeliveryFlood -timeout 60m -v ./cmd/skep-server

bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

performance: ## Measure again what docs/performance.md states; takes a quarter of an hour
	.demo/install.sh test
	{ go run ./generator/bench/report && echo && \
	go run ./services/deploy/bench/report && \
	printf '\n## Ingress\n\nBoth as processes of their own over the same stand-in for the Docker API; caddy-docker-proxy up to 200 services.\n\n' && \
	go test -run '^$$' -bench . -benchtime 3x -timeout 60m ./services/ingress/bench > docs/ingress.new && \
	sed -n 's/^Benchmark/    /p' docs/ingress.new && echo && \
	go run ./services/dockerproxy/bench/report -time 1s && echo && \
	go run ./services/dns/bench/report && echo && \
	go run ./services/controlplane/bench/report; } > docs/performance.md.new
	mv docs/performance.md.new docs/performance.md
	rm docs/ingress.new

lint: ## Check format, vet, staticcheck and the import rules
	@files=$$(gofmt -l .); test -z "$$files" || { echo "Not formatted, run gofmt -w:"; echo "$$files"; exit 1; }
	go vet ./...
	$(TOOL) staticcheck ./...
	$(TOOL) depguard ./...

queries: ## Write the control plane's queries from its SQL, by sqlc
	CGO_ENABLED=0 go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.30.0 generate -f services/controlplane/store/sqlc.yaml

docs: ## Write docs/reference from the code
	go run ./cmd/skep docs -o docs/reference
	go run ./cmd/skep-server openapi > docs/reference/openapi.json

docs-check: ## Fail if docs/reference is not what the code says
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	go run ./cmd/skep docs -o "$$dir" && go run ./cmd/skep-server openapi > "$$dir/openapi.json" && diff -r docs/reference "$$dir" || { echo "docs/reference is stale, run make docs"; exit 1; }

demo: ## Start a Swarm on this machine and deploy stacks to it
	.demo/run.sh

demo-stop: ## Stop the demo and remove what it left
	.demo/stop.sh

clean: ## Remove what the other targets wrote
	rm -rf bin build dist
