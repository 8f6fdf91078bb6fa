//! What people use: the scripts, each in the form that is quickest of those seen.
//!
//! A script has these variables: `RENEWED_LINEAGE` as certbot sets it, `NAME`, `CERT` and `KEY`, which are
//! one file for those that install one, `PGDATA`, `PORT`, `PG_CTL` and `AS_POSTGRES`. What certbot
//! would run starts at once when the renewal is done; certbot itself takes longer.

/// A deploy hook. `kill` in place of `pg_ctl reload` or psql, which take longer; no fsync.
pub const HOOK: &str = r#"
umask 077 &&
cat "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" > "$CERT.new" &&
chmod 600 "$CERT.new" &&
chown postgres: "$CERT.new" &&
mv -f "$CERT.new" "$CERT" &&
kill -HUP "$(head -n 1 "$PGDATA/postmaster.pid")"
"#;

/// The line of many articles, up to what makes the server load the files.
const COPY: &str = r#"
cp "$RENEWED_LINEAGE/fullchain.pem" "$CERT" &&
cp "$RENEWED_LINEAGE/privkey.pem" "$KEY" &&
chmod 600 "$CERT" "$KEY" &&
chown postgres:postgres "$CERT" "$KEY" &&
"#;

/// With `systemctl reload postgresql` at its end, or what that comes to without systemd.
pub fn article_with_reload() -> String {
    format!("{COPY} $AS_POSTGRES \"$PG_CTL\" reload -s -D \"$PGDATA\"")
}

/// With `systemctl restart postgresql` at its end, or what that comes to without systemd.
pub fn article_with_restart() -> String {
    format!("{COPY} $AS_POSTGRES \"$PG_CTL\" restart -s -m fast -D \"$PGDATA\"")
}

/// What getssl's `copy_file_to_location`, `reload_service` and its remote check do.
pub fn getssl() -> String {
    format!(
        r#"{} &&
remote=$(echo \
    | openssl s_client -servername "$NAME" -connect "127.0.0.1:$PORT" -starttls postgres 2>/dev/null \
    | openssl x509 -noout -fingerprint 2>/dev/null) &&
local=$(openssl x509 -noout -fingerprint <"$RENEWED_LINEAGE/cert.pem") &&
if [ "$local" = "$remote" ]; then echo {VERIFIED}; else echo "$remote is served"; exit 1; fi
"#,
        article_with_reload()
    )
}

/// `inotifywait` and the hook, without a pause for the renewal's other files.
pub fn inotifywait_loop() -> String {
    format!(
        r#"
setpriv --pdeathsig KILL inotifywait --monitor --event create --format %f "$RENEWED_LINEAGE" |
while read -r file; do
    [ "$file" = fullchain.pem ] || continue
    {{ {HOOK} }} && echo done
done
"#
    )
}

/// What `inotifywait` writes when it watches.
pub const WATCHES: &str = "Watches established";

/// A look every five seconds whether the lineage is newer than what is installed.
pub fn poll_loop() -> String {
    format!(
        r#"
echo "{POLLS}"
while setpriv --pdeathsig KILL sleep 5; do
    [ "$RENEWED_LINEAGE/fullchain.pem" -nt "$CERT" ] || continue
    {{ {HOOK} }} && echo done
done
"#
    )
}

/// What the loop above writes when it begins.
pub const POLLS: &str = "polls";

/// What getssl's part writes when the server shows the new certificate.
pub const VERIFIED: &str = "verified";
