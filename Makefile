# make demo and make test work from a fresh clone on Debian 12 and 13 with Rust and apt; they install everything else.

CARGO ?= cargo
ROUNDS ?= 100
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Debian has vendor-completions in its place.
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
CATALOGDIR ?= $(PREFIX)/lib/systemd/catalog
# Where cargo builds, also by CARGO_TARGET_DIR or its configuration. `sudo make install` may have no cargo.
CARGO_BUILDS = $(or $(CARGO_TARGET_DIR),$(shell $(CARGO) metadata --no-deps --offline --format-version 1 2>/dev/null \
	| sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'),target)
BINARY ?= $(CARGO_BUILDS)/release/pgcertd
# The units that read certificates, and are ordered after pgcertd; "postgresql-" stands for each postgresql-NN.
ORDERED = postgresql@ postgresql- patroni patroni@ pgbouncer
DOCDIR ?= $(PREFIX)/share/doc/pgcertd
# Debian's and PGDG's pg_upgradecluster looks here alone.
UPGRADEDIR ?= $(SYSCONFDIR)/postgresql-common/pg_upgradecluster.d
# The version of a package where it is not the crate's: make deb DEB_VERSION=0.1.1
DEB_VERSION ?=
RPM_VERSION ?=
# Builds the rpm's program for an older C library than this host's, with zig as the C compiler: make rpm GLIBC=2.28
GLIBC ?=
GNU := $(shell uname -m)-unknown-linux-gnu

.PHONY: build deps test versions trixie image reference fmt lint demo pictures bench bench-scale deb lint-deb zigbuild rpm install uninstall clean

build: ## The release binary: target/release/pgcertd, or where CARGO_TARGET_DIR has it
	$(CARGO) build --release --locked

deps: ## What the tests, the demo and the bench need, by apt, where it is missing
	tests/install-deps

# They wait more than they compute.
test: export RUST_TEST_THREADS ?= $(shell echo $$(( $$(nproc) + 1 )))
test: export PGCERTD_TEST_SKIPPED = $(abspath $(CARGO_BUILDS))/tmp/skipped
test: deps ## All tests and two short benches; those that start servers or boot a machine need root
	rm -f "$$PGCERTD_TEST_SKIPPED"
	$(CARGO) test --locked --features failpoints && \
		$(CARGO) test --locked --features failpoints --bench renewal -- --rounds 2 && \
		$(CARGO) test --locked --features failpoints --bench scale -- --instances 1,3 --rounds 1 --lineages 100 --idle 3; \
		status=$$?; tests/count-skipped "$$PGCERTD_TEST_SKIPPED"; exit $$status

# What needs Debian's build is skipped, also in CI; packages, writers, clients and the rest left out are about other things.
VERSIONS ?= 13 14 16 17 18 19
PATRONI ?= 4.1.5
versions: export PGCERTD_TEST_NO_SKIPS =
versions: deps ## The end-to-end tests of deployments on each other major version of PostgreSQL, a newer Patroni and PgBouncer; takes an hour
	for major in $(VERSIONS); do \
		PGCERTD_TEST_POSTGRES=$$major $(CARGO) test --locked --features failpoints --test e2e -- \
			--skip clients:: --skip packaged:: --skip writers:: --skip layouts:: --skip probes:: || exit 1; \
	done
	# Some of these tests are in a network of their own, from where nothing can be fetched.
	tests/patroni/fetch $(PATRONI) "$(CARGO_BUILDS)/tmp/patroni" && tests/pgbouncer/fetch "$(CARGO_BUILDS)/tmp/pgbouncer"
	PGCERTD_TEST_PATRONI=$(PATRONI) $(CARGO) test --locked --features failpoints --test e2e -- patroni::
	PGCERTD_TEST_PGBOUNCER=sid $(CARGO) test --locked --features failpoints --test e2e -- neighbours::

trixie: deps ## Debian 13 with its PostgreSQL 17 and Miniflux, through three renewals; as root, some five minutes
	$(CARGO) test --locked --features failpoints --test machine -- --ignored trixie

image: deps ## Builds packaging/container and runs it by a container engine of its own; as root, ten minutes, 6 GB
	tests/image/run

reference: ## Man pages, completions and schemas, from the definitions of commands and keys
	PGCERTD_REFERENCE=write $(CARGO) test --locked --features failpoints --lib reference::tests::man_pages

fmt: ## Formats the code
	$(CARGO) fmt

lint: ## Clippy on everything, warnings are errors
	$(CARGO) clippy --locked --all-targets --all-features -- -D warnings

demo: ## A renewal from end to end, on a throw-away cluster; as root or as you
	tests/install-deps --demo
	$(MAKE) --no-print-directory build
	PGCERTD_BIN="$(BINARY)" demo/run.sh

pictures: deps build ## docs/pictures, from what pgcertd and the demo print; as root
	docs/pictures/make "$(BINARY)"

bench: deps ## From a renewal to the server, its clients and the proof, beside what people use; ROUNDS=5 makes it short
	$(CARGO) bench --locked --bench renewal -- --rounds $(ROUNDS) --machine --write docs/performance

bench-scale: deps ## The same for a hundred servers and ten thousand lineages, start, status and rest; as root, 20 minutes
	$(CARGO) bench --locked --bench scale -- --write docs/performance

deb: build ## A package for Debian and Ubuntu, target/debian/pgcertd_VERSION_ARCH.deb, in place of the one there
	cargo deb --version >/dev/null 2>&1 || $(CARGO) install cargo-deb --locked --version '^3.8'
	gzip -9nc CHANGELOG.md >"$(CARGO_BUILDS)/release/changelog.gz"
	$(CARGO) deb --no-build --no-strip $(if $(DEB_VERSION),--deb-version $(DEB_VERSION))

lint-deb: deb deps ## What Debian's lintian finds amiss in the package; warnings are errors
	lintian --fail-on error,warning --allow-root "$(CARGO_BUILDS)"/debian/pgcertd_*.deb

zigbuild:
	test -x "$(CARGO_BUILDS)/zig/bin/cargo-zigbuild" || \
		{ python3 -m venv "$(CARGO_BUILDS)/zig" && "$(CARGO_BUILDS)/zig/bin/pip" install --quiet cargo-zigbuild; }
	PATH="$(abspath $(CARGO_BUILDS))/zig/bin:$$PATH" $(CARGO) zigbuild --release --locked --target $(GNU).$(GLIBC)

rpm: $(if $(GLIBC),zigbuild,build) ## A package for Fedora, RHEL and the like: target/generate-rpm/pgcertd-VERSION-1.ARCH.rpm
	cargo generate-rpm --version >/dev/null 2>&1 || \
		$(CARGO) install cargo-generate-rpm --locked --version '^0.21'
	mkdir -p "$(CARGO_BUILDS)/generate-rpm"
	$(CARGO) generate-rpm --target-dir "$(CARGO_BUILDS)" --output "$(CARGO_BUILDS)/generate-rpm/" $(if $(GLIBC),--target $(GNU)) \
		$(if $(RPM_VERSION),-s 'version = "$(RPM_VERSION)"')

install: ## Installs what `make build` made; a config that is there is kept. DESTDIR is for packagers
	install -D -m 0755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/pgcertd
	install -d $(DESTDIR)$(UNITDIR)
	for unit in pgcertd pgcertd-notify; do \
		sed 's|/usr/bin/pgcertd|$(PREFIX)/bin/pgcertd|' systemd/$$unit.service \
			>$(DESTDIR)$(UNITDIR)/$$unit.service && \
		chmod 0644 $(DESTDIR)$(UNITDIR)/$$unit.service; \
	done
	for unit in $(ORDERED); do \
		install -D -m 0644 systemd/after-pgcertd.conf $(DESTDIR)$(UNITDIR)/$$unit.service.d/pgcertd.conf; \
	done
	install -D -m 0644 systemd/pgcertd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/pgcertd.conf
	install -D -m 0644 systemd/pgcertd-notify.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/pgcertd-notify.conf
	install -d $(DESTDIR)$(DOCDIR)/examples
	install -m 0644 README.md CHANGELOG.md SECURITY.md $(DESTDIR)$(DOCDIR)
	install -D -m 0644 -t $(DESTDIR)$(DOCDIR)/docs docs/*.md
	install -D -m 0644 -t $(DESTDIR)$(DOCDIR)/docs/pictures docs/pictures/*.svg
	install -D -m 0644 -t $(DESTDIR)$(DOCDIR)/docs/performance docs/performance/*.svg
	install -D -m 0644 packaging/README.md $(DESTDIR)$(DOCDIR)/packaging/README.md
	install -m 0644 systemd/examples/*.conf $(DESTDIR)$(DOCDIR)/examples
	install -D -m 0755 packaging/certbot-deploy-hook $(DESTDIR)$(PREFIX)/lib/pgcertd/certbot-deploy-hook
	install -m 0755 packaging/notify-mail $(DESTDIR)$(PREFIX)/lib/pgcertd
	install -D -m 0755 packaging/pg_upgradecluster-hook $(DESTDIR)$(UPGRADEDIR)/pgcertd
	install -D -m 0644 systemd/pgcertd.catalog $(DESTDIR)$(CATALOGDIR)/pgcertd.catalog
	install -d $(DESTDIR)$(SYSCONFDIR)/pgcertd/conf.d
	install -m 0644 config/conf.d/README $(DESTDIR)$(SYSCONFDIR)/pgcertd/conf.d
	test -e $(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml || \
		{ sed 's|/usr/\(share\|lib\)/pgcertd|$(PREFIX)/\1/pgcertd|' config/pgcertd.toml \
			>$(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml && \
		chmod 0644 $(DESTDIR)$(SYSCONFDIR)/pgcertd/pgcertd.toml; }
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/pgcertd config/*.schema.json
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/pgcertd/prometheus packaging/prometheus/*.yml
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/pgcertd/grafana packaging/grafana/pgcertd.json
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man8 man/*.8
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/man/man5 man/*.5
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/bash-completion/completions completions/pgcertd
	install -D -m 0644 -t $(DESTDIR)$(ZSHDIR) completions/_pgcertd
	install -D -m 0644 -t $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d completions/pgcertd.fish

uninstall: ## Removes what `make install` placed, but the config; what it wrote in /var/lib/pgcertd stays
	rm -f $(DESTDIR)$(PREFIX)/bin/pgcertd $(DESTDIR)$(UNITDIR)/pgcertd.service $(DESTDIR)$(UNITDIR)/pgcertd-notify.service
	rm -f $(DESTDIR)$(CATALOGDIR)/pgcertd.catalog $(DESTDIR)$(UPGRADEDIR)/pgcertd
	for unit in $(ORDERED); do \
		rm -f $(DESTDIR)$(UNITDIR)/$$unit.service.d/pgcertd.conf; \
		rmdir --ignore-fail-on-non-empty $(DESTDIR)$(UNITDIR)/$$unit.service.d; \
	done
	rm -rf $(DESTDIR)$(PREFIX)/share/pgcertd
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard man/*.8)))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man5/,$(notdir $(wildcard man/*.5)))
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pgcertd $(DESTDIR)$(ZSHDIR)/_pgcertd
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pgcertd.fish
	rm -f $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/pgcertd.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/pgcertd-notify.conf
	rm -rf $(DESTDIR)$(DOCDIR) $(DESTDIR)$(PREFIX)/lib/pgcertd

clean:
	$(CARGO) clean
