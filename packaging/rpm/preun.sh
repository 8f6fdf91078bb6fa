# Before the files are removed; $1 is 0 at a removal, and 1 or more at an upgrade, which stops nothing.
if [ "$1" -eq 0 ]; then
    # Lists what each server is left with, while the program is still there.
    timeout 60 /usr/bin/pgcertd removal || :
    if [ -d /run/systemd/system ]; then
        # The notifier first, since it would report that the daemon has stopped.
        systemctl --no-reload disable --now pgcertd-notify.service || :
        systemctl --no-reload disable --now pgcertd.service || :
    fi
fi
