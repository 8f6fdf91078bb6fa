# After unpacking; $1 is 1 at the first installation, 2 or more at an upgrade. Enabling and starting the unit is up
# to the administrator.
# The user of pgcertd-notify.service.
if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers pgcertd-notify.conf || :
fi
if command -v systemd-tmpfiles >/dev/null; then
    systemd-tmpfiles --create pgcertd.conf || :
fi
# What journalctl -x explains.
journalctl --update-catalog || :
if command -v selinuxenabled >/dev/null && selinuxenabled; then
    # PostgreSQL may read files labelled as its own, but not ordinary ones in /var/lib.
    label=postgresql_db_t
    if command -v semanage >/dev/null; then
        semanage fcontext -a -t $label '/var/lib/pgcertd(/.*)?' 2>/dev/null ||
            semanage fcontext -m -t $label '/var/lib/pgcertd(/.*)?' || :
        restorecon -R /var/lib/pgcertd || :
    else
        # Lasts until the file system is relabelled: install policycoreutils-python-utils.
        chcon -R -t $label /var/lib/pgcertd || :
    fi
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 2 ]; then
        # Only those that are running: the old process has worked until now.
        systemctl try-restart pgcertd.service pgcertd-notify.service || :
    fi
fi
