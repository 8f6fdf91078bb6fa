# Before the files go; $1 is 0 at a removal, and 1 or more at an upgrade, which stops nothing.
if [ "$1" -eq 0 ]; then
    # What each server is left with, while there is a program that can tell.
    timeout 60 /usr/bin/pgcertd removal || :
    if [ -d /run/systemd/system ]; then
        # First the one that would tell that the other has stopped.
        systemctl --no-reload disable --now pgcertd-notify.service || :
        systemctl --no-reload disable --now pgcertd.service || :
    fi
fi
