#!/bin/bash
# A renewal from end to end, on a cluster, a CA and a lineage in a temporary directory.
#
# `make demo` calls it; PGCERTD_BIN names another binary. Each step checks what it shows: the first
# that does not show what it should ends the demo with status 1.

set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=demo/parts.sh
source "$here/parts.sh"

make_world "${PGCERTD_BIN:-${CARGO_TARGET_DIR:-$here/../target}/release/pgcertd}"
echo "pgcertd on a throw-away PostgreSQL, in $world"

title "A lineage as certbot keeps it; Postgres starts on its certificate"
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

title "The certificate is renewed, and served; nobody is disconnected"
issue 1002 90 "${ec[@]}"
renew 1002
daemon_says "deployed and served"
client_accepts 1002
session_lives

title "A broken renewal, with the key of another certificate, is refused"
issue 1003 90 "${ec[@]}"
renew 1003 1002
daemon_says "source_invalid"
shown_state source_invalid
client_accepts 1002

title "What Postgres will not load (RSA-2048 here) is rolled back"
issue 1004 90 "${rsa[@]}"
renew 1004
daemon_says "rolled back"
shown_state rejected
grep -q 'SSL configuration was not reloaded' data/log || fail "Postgres did not refuse it"
client_accepts 1002

title "The next good renewal ends that"
issue 1005 90 "${ec[@]}"
renew 1005
daemon_says "deployed and served"
shown_state in_sync
client_accepts 1005
session_lives

printf '\nAll as it should be, in %d s. Nothing of it stays.\n' "$SECONDS"
