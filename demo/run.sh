#!/bin/bash
# A renewal from end to end, on a cluster, a CA and a lineage in a temporary directory.
#
# `make demo` calls it; PGCERTD_BIN names another binary. Each step checks what it shows, and the demo
# ends with status 1 at the first that fails. Without root everything runs as the caller.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=demo/parts.sh
source "$here/parts.sh"

make_world "${PGCERTD_BIN:-${CARGO_TARGET_DIR:-$here/../target}/release/pgcertd}"
echo "pgcertd on a throw-away PostgreSQL ${instance%-main}, in $world"
if ! is_root; then
    say "Without root this leaves out one thing: a daemon that runs as user"
    say "postgres and uses one capability to read what only root may read."
fi

title "A certbot lineage; Postgres starts with its certificate"
make_ca
issue 1001 25 "${ec[@]}"
renew 1001
make_cluster
configure
shown 0 sync
start_postgres
client_accepts 1001
open_session

title "The daemon starts"
start_daemon
daemon_says "in_sync"
shown_state in_sync

title "The certificate is renewed and served; nobody is disconnected"
issue 1002 90 "${ec[@]}"
renew 1002
daemon_says "deployed and served"
client_accepts 1002
session_lives

title "A broken renewal, with the wrong key, is not installed"
issue 1003 90 "${ec[@]}"
renew 1003 1002
daemon_says "source_invalid"
shown_state source_invalid
client_accepts 1002

title "Postgres rejects a certificate (RSA-2048 here); pgcertd rolls back"
issue 1004 90 "${rsa[@]}"
renew 1004
daemon_says "rolled back"
shown_state rejected
grep -q 'SSL configuration was not reloaded' data/log || fail "Postgres did not reject it"
client_accepts 1002

title "The next good renewal is served again"
issue 1005 90 "${ec[@]}"
renew 1005
daemon_says "deployed and served"
shown_state in_sync
client_accepts 1005
session_lives

printf '\nEverything worked, in %d s. Nothing is left behind.\n' "$SECONDS"
