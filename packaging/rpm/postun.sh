# After the files are removed. /var/lib/pgcertd stays, because PostgreSQL doesn't start without the files it names there.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 0 ]; then
    journalctl --update-catalog || :
    # Directories that no other package owns.
    for unit in postgresql@ postgresql- patroni patroni@ pgbouncer; do
        rmdir /usr/lib/systemd/system/$unit.service.d 2>/dev/null || :
    done
    rmdir /usr/share/doc/pgcertd/packaging /usr/share/doc/pgcertd/docs/pictures /usr/share/doc/pgcertd/docs/performance /usr/share/doc/pgcertd/docs /usr/share/doc/pgcertd/examples /usr/share/doc/pgcertd \
        /usr/share/licenses/pgcertd /usr/lib/pgcertd /etc/pgcertd/conf.d /etc/pgcertd 2>/dev/null || :
    # The user pgcertd-notify stays, so that nobody else gets its number.
    rm -rf /var/lib/pgcertd-notify
    if [ -d /var/lib/pgcertd ]; then
        echo "/var/lib/pgcertd stays. Once no server names a file there: rm -r /var/lib/pgcertd"
    fi
fi
