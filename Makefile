# make test works from a fresh clone on Debian 12 with Rust and apt; everything else is installed.

CARGO ?= cargo
ROUNDS ?= 50
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Debian's packages have it in $(PREFIX)/share/zsh/vendor-completions.
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
BINARY ?= target/release/pgcertd
# The units that read certificates, and are ordered after pgcertd; "postgresql-" stands for each postgresql-NN.
ORDERED = postgresql@ postgresql- patroni patroni@ pgbouncer

.PHONY: build deps test reference fmt lint demo bench install uninstall clean

build: ## The release binary: target/release/pgcertd
	$(CARGO) build --release --locked

deps: ## What the tests, the demo and the bench need, by apt, where it is missing
	tests/install-deps

test: deps ## All tests and a short bench; the end-to-end ones start servers and need root
	$(CARGO) test --locked --features failpoints
	$(CARGO) test --locked --features failpoints --bench renewal -- --rounds 2

reference: ## Man pages, completions and schemas, from the definitions of commands and keys
	PGCERTD_REFERENCE=write $(CARGO) test --locked --features failpoints --lib reference::tests::man_pages

fmt: ## Formats the code
	$(CARGO) fmt

lint: ## Clippy on everything, warnings are errors
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings

demo: deps build ## A renewal from end to end, on a throw-away cluster
	demo/run.sh

bench: deps ## From a renewal to the first connection that sees it; ROUNDS=5 makes it short
	$(CARGO) bench --locked --bench renewal -- --rounds $(ROUNDS)

install: ## Installs what `make build` made; a config that is there is kept. DESTDIR is for packagers
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/pgcertd
	install -d $(DESTDIR)$(UNITDIR)
	sed 's|/usr/bin/pgcertd|$(PREFIX)/bin/pgcertd|' systemd/pgcertd.service \
		>$(DESTDIR)$(UNITDIR)/pgcertd.service
	chmod 0644 $(DESTDIR)$(UNITDIR)/pgcertd.service
	for unit in $(ORDERED); do \
		install -D -m 0644 systemd/after-pgcertd.conf $(DESTDIR)$(UNITDIR)/$$unit.service.d/pgcertd.conf; \
	done
	install -d $(DESTDIR)$(SYSCONFDIR)/pgcertd/conf.d
	test -e $(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml || \
		{ sed 's|/usr/share/pgcertd|$(PREFIX)/share/pgcertd|' config/pgcertd.toml \
			>$(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml && \
		chmod 0644 $(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml; }
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/pgcertd config/*.schema.json
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 man/*.8
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man5 man/*.5
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions completions/pgcertd
	install -D -m 0644 -t $(DESTDIR)$(ZSHDIR) completions/_pgcertd
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d completions/pgcertd.fish

uninstall: ## Removes what `make install` placed, but the config; what it wrote in /var/lib/pgcertd stays
	rm -f $(DESTDIR)$(PREFIX)/bin/pgcertd $(DESTDIR)$(UNITDIR)/pgcertd.service
	for unit in $(ORDERED); do \
		rm -f $(DESTDIR)$(UNITDIR)/$$unit.service.d/pgcertd.conf; \
		rmdir --ignore-fail-on-non-empty $(DESTDIR)$(UNITDIR)/$$unit.service.d; \
	done
	rm -rf $(DESTDIR)$(PREFIX)/share/pgcertd
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard man/*.8)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man5/,$(notdir $(wildcard man/*.5)))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pgcertd $(DESTDIR)$(ZSHDIR)/_pgcertd
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pgcertd.fish

clean:
	$(CARGO) clean
