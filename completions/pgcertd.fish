# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pgcertd_global_optspecs
    string join \n config= json h/help V/version
end

function __fish_pgcertd_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pgcertd_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pgcertd_using_subcommand
    set -l cmd (__fish_pgcertd_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pgcertd -n "__fish_pgcertd_needs_command" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_needs_command" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -s h -l help -d 'Print help'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -s V -l version -d 'Print version'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "setup" -d 'Set up a server: certificate, config and settings in one step, which can be undone'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "run" -d 'Run the daemon: watch, install, reload, verify, until SIGTERM'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "sync" -d 'Reconcile once, for deploy hooks and cron'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "rollback" -d 'Go back to the previous bundle, and hold back the current one until the lineage changes'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "status" -d 'Show the source, installed and served certificate of every instance, live'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "check" -d 'Check the config and everything a deployment needs, without changing anything'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "sessions" -d 'Show who is connected, how it is encrypted, and which sessions predate the last deployment'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "probe" -d 'Show the certificate that a PostgreSQL server serves'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "notify" -d 'Run a command to notify people of problems, and of their end'
complete -c pgcertd -n "__fish_pgcertd_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l instance -d 'The instance: one that the config has, or the name of the new one' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l data-directory -d 'The data directory of the server' -r -f -a "(__fish_complete_directories)"
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l lineage -d 'The lineage, by name or directory' -r -f -a "(__fish_complete_directories)"
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l server-name -d 'What clients connect to; may be given more than once' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l undo -d 'Undo the set-up of this instance' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l require-tls -d 'Make pg_hba.conf require TLS of clients of other hosts'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l yes -d 'Do not ask'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l dry-run -d 'Show what would change, and change nothing, with `--yes` too'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l print -d 'Print the lines for a configuration that others keep, and change nothing, with `--yes` too'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand setup" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand run" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand run" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -l lineage -d 'Only the instances of this lineage, by name or directory, as deploy hooks get it: its renewal is complete. Can be given more than once. A lineage that no instance uses is not an error' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -l dry-run -d 'Only say what would be done'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -l force -d 'Install, reload and verify even if nothing changed; also a held bundle, or one that would lock out only some clients'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand rollback" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand rollback" -l dry-run -d 'Only say what would be done'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand rollback" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand status" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand status" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand check" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand check" -l config-only -d 'Only check the config, as a reload of the service does first; look at no lineage and no server'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand check" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -l user -d 'Log in as this role, instead of the one named like the server\'s operating-system user or postgres' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -l plaintext -d 'Only unencrypted sessions over TCP, including loopback; exit status 1 if there are any'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -l remote -d 'Only sessions from other hosts: none over a Unix socket or loopback'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l hostaddr -d 'Connect to this IP address, but verify for HOST, like libpq\'s hostaddr' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l ca -d 'Trust these roots (PEM) instead of the system\'s, like libpq\'s sslrootcert=FILE' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l timeout -d 'The time limit for each address' -r
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l direct -d 'Start TLS directly, like libpq\'s sslnegotiation=direct: PostgreSQL 17 and later'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand probe" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand notify" -l config -d 'The config file; the fragments in conf.d next to it belong to it' -r -F
complete -c pgcertd -n "__fish_pgcertd_using_subcommand notify" -l test -d 'Run the command once with a test notification, and say how it went'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand notify" -l json -d 'Print one JSON document instead of text'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand notify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "setup" -d 'Set up a server: certificate, config and settings in one step, which can be undone'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "run" -d 'Run the daemon: watch, install, reload, verify, until SIGTERM'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "sync" -d 'Reconcile once, for deploy hooks and cron'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "rollback" -d 'Go back to the previous bundle, and hold back the current one until the lineage changes'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "status" -d 'Show the source, installed and served certificate of every instance, live'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "check" -d 'Check the config and everything a deployment needs, without changing anything'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "sessions" -d 'Show who is connected, how it is encrypted, and which sessions predate the last deployment'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "probe" -d 'Show the certificate that a PostgreSQL server serves'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "notify" -d 'Run a command to notify people of problems, and of their end'
complete -c pgcertd -n "__fish_pgcertd_using_subcommand help; and not __fish_seen_subcommand_from setup run sync rollback status check sessions probe notify help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

function __fish_pgcertd_instances
    set -l file /etc/pgcertd/pgcertd.toml
    set -l before
    for word in (commandline -opc)
        if test "$before" = --config
            set file $word
        else if string match -q -- '--config=*' $word
            set file (string replace -- '--config=' '' $word)
        end
        set before $word
    end
    set -l files $file (dirname $file)/conf.d/*.toml
    sed -n 's/^[[:space:]]*name[[:space:]]*=[[:space:]]*"\([A-Za-z0-9._-]*\)".*/\1/p' $files 2>/dev/null
end

complete -c pgcertd -n "__fish_pgcertd_using_subcommand sync" -f -a "(__fish_pgcertd_instances)" -d 'Instance'

complete -c pgcertd -n "__fish_pgcertd_using_subcommand rollback" -f -a "(__fish_pgcertd_instances)" -d 'Instance'

complete -c pgcertd -n "__fish_pgcertd_using_subcommand sessions" -f -a "(__fish_pgcertd_instances)" -d 'Instance'
