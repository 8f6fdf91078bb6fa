//! What `pgcertd check` finds of a host: each fault is planted, read, mended as it is told, and gone.

use serde_json::Value;

use crate::{
    acme::DOMAIN,
    machine::Machine,
    postgres::MAIN,
    stand::{HOST, Stand},
    world::{SOON, eventually},
};

/// The files of a guide's reader, whom pgcertd follows.
const FILES: &str = "/etc/postgresql/tls";

/// What that guide has certbot run after each renewal.
fn guides_hook() -> String {
    let live = format!("/etc/letsencrypt/live/{DOMAIN}");
    format!(
        "cp {live}/fullchain.pem {FILES}/server.crt && cp {live}/privkey.pem {FILES}/server.key && \
         chmod 600 {FILES}/server.key && chown postgres:postgres {FILES}/server.crt {FILES}/server.key && \
         systemctl restart postgresql"
    )
}

impl Machine {
    /// The findings of the host with this id that are not good.
    #[track_caller]
    fn ill(&self, id: &str) -> Vec<Value> {
        let done = self.run(["pgcertd", "check", "--json"]);
        let document: Value =
            serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
        let host = document["host"].as_array().unwrap().iter();
        let own: Vec<&Value> = host.filter(|finding| finding["id"] == id).collect();
        assert!(!own.is_empty(), "no finding {id} in {document}");
        let ill = own
            .into_iter()
            .filter(|finding| finding["weight"] != "good");
        ill.cloned().collect()
    }

    /// The one finding with this id, which says all these words.
    #[track_caller]
    fn finds(&self, id: &str, words: &[&str]) -> Value {
        let ill = self.ill(id);
        let [one] = ill.as_slice() else {
            panic!("not one finding {id}: {ill:#?}");
        };
        let seen = one["seen"].as_str().unwrap();
        assert!(words.iter().all(|word| seen.contains(word)), "{one:#}");
        println!("{id}: {seen}\n  {}", one["mend"]);
        one.clone()
    }

    /// Finds it, runs what it says, and finds nothing any more.
    #[track_caller]
    fn finds_and_mends(&self, id: &str, words: &[&str]) {
        let found = self.finds(id, words);
        let command = found["mend"]["command"].as_str();
        self.sh(command.unwrap_or_else(|| panic!("no command: {found:#}")));
        assert_eq!(self.ill(id), Vec::<Value>::new(), "after {command:?}");
    }

    /// Finds it, and that a person has to mend it.
    #[track_caller]
    fn finds_for_a_person(&self, id: &str, words: &[&str]) {
        let found = self.finds(id, words);
        assert!(found["mend"]["sentence"].is_string(), "{found:#}");
    }
}

#[test]
fn the_hook_of_a_guide_is_found_where_cron_and_certbot_have_it_and_goes() {
    let machine = or_skip!(Machine::boot());
    machine.install_deb();
    a_guide_was_followed(&machine);
    the_set_up_takes_the_files_over(&machine);
    both_copies_of_the_hook_go_and_nothing_else(&machine);
    a_renewal_restarts_nothing_any_more(&machine);
    the_unit_is_opened_for_the_files(&machine);
    what_renews_is_looked_for(&machine);
    a_unit_whose_user_is_not_there_becomes_roots(&machine);
    a_kernel_without_landlock_is_named(&machine);
}

/// `certbot renew` saves the hook that it is given.
fn a_guide_was_followed(machine: &Machine) {
    machine.start_pebble();
    machine.certbot_issues();
    machine.ok(["install", "-d", FILES]);
    let line = format!(
        "17 3 * * * certbot renew -q --post-hook \"{}\"",
        guides_hook()
    );
    let crontab = format!("MAILTO=root\n5 4 * * * /usr/bin/true # kept\n{line}\n");
    machine.write("/srv/crontab", crontab);
    machine.ok(["crontab", "/srv/crontab"]);
    let now = ["--force-renewal", "--no-random-sleep-on-renew"];
    let hook = guides_hook();
    machine.certbot(&[&["renew", "--post-hook", &hook], &now[..]].concat());
    machine.configure(
        "main",
        &format!(
            "ssl = on\nssl_cert_file = '{FILES}/server.crt'\nssl_key_file = '{FILES}/server.key'\n"
        ),
    );
    machine.reload_server(5432);
    machine.wait_served(5432, &machine.live_leaf());
}

/// The set-up goes on with the two files, and changes no setting.
fn the_set_up_takes_the_files_over(machine: &Machine) {
    machine.ok(["chown", "postgres:", FILES]);
    let alone =
        "sha256sum /var/lib/postgresql/15/main/postgresql.auto.conf /etc/postgresql/15/main/*.conf";
    let (before, served) = (machine.sh(alone), machine.served(5432));
    println!("{}", machine.ok(["pgcertd", "setup", "--yes"]));
    assert_eq!(machine.sh(alone), before);
    assert_eq!(machine.served(5432), served);
    let instance = machine.read("/etc/pgcertd/conf.d/15-main.toml");
    for file in ["server.crt", "server.key"] {
        assert!(
            instance.contains(&format!("\"{FILES}/{file}\"")),
            "{instance}"
        );
    }
}

fn both_copies_of_the_hook_go_and_nothing_else(machine: &Machine) {
    let renewal = format!("/etc/letsencrypt/renewal/{DOMAIN}.conf");
    let before = machine.read(&renewal);
    let saved = format!("post_hook = {}", guides_hook());
    assert!(before.lines().any(|line| line == saved), "{before}");
    machine.finds_and_mends(
        "old_hook",
        &[
            "/var/spool/cron/crontabs/root",
            "restarts PostgreSQL",
            &renewal,
            FILES,
        ],
    );
    let kept: Vec<&str> = before.lines().filter(|line| *line != saved).collect();
    assert_eq!(machine.read(&renewal).lines().collect::<Vec<_>>(), kept);
    assert_eq!(
        machine.ok(["crontab", "-l"]),
        "MAILTO=root\n5 4 * * * /usr/bin/true # kept\n17 3 * * * certbot renew -q"
    );
}

fn a_renewal_restarts_nothing_any_more(machine: &Machine) {
    let postmaster = machine.number(MAIN, "MainPID");
    let old = machine.leaf(&format!("{FILES}/server.crt"));
    let new = machine.certbot_renews();
    assert_ne!(old, new);
    assert_eq!(
        machine.leaf(&format!("{FILES}/server.crt")),
        old,
        "no hook copied"
    );
    assert_eq!(machine.number(MAIN, "MainPID"), postmaster);
}

/// What the set-up did for that, and what mends it where that is gone.
fn the_unit_is_opened_for_the_files(machine: &Machine) {
    let drop_in = "/etc/systemd/system/pgcertd.service.d/setup-15-main.conf";
    machine.sh(&format!("rm {drop_in}; systemctl daemon-reload"));
    machine.ok(["systemctl", "enable", "--now", "pgcertd"]);
    machine.finds_and_mends(
        "sandbox",
        &[FILES, "cannot be written", "ProtectSystem=strict"],
    );
    let new = machine.live_leaf();
    machine.wait_served(5432, &new);
    assert_eq!(machine.leaf(&format!("{FILES}/server.crt")), new);
    machine.wait_well();
}

fn what_renews_is_looked_for(machine: &Machine) {
    // Debian's line for cron leaves it to the timer, the guide's renews.
    machine.ok(["systemctl", "disable", "--now", "certbot.timer"]);
    assert_eq!(machine.ill("renewal"), Vec::<Value>::new());
    machine.ok(["crontab", "-r"]);
    machine.finds_and_mends("renewal", &[DOMAIN, "certbot.timer is not active"]);
    assert!(machine.is_active("certbot.timer"));

    let renewal = format!("/etc/letsencrypt/renewal/{DOMAIN}.conf");
    let before = machine.read(&renewal);
    machine.append(&renewal, "autorenew = False");
    machine.finds_and_mends("renewal", &["autorenew = False"]);
    assert_eq!(machine.read(&renewal).trim_end(), before.trim_end());

    // Another distribution has no timer, and cron was stopped.
    machine.sh("systemctl disable --now certbot.timer
        rm /lib/systemd/system/certbot.timer
        systemctl daemon-reload
        systemctl disable --now cron
        echo '17 3 * * * root certbot -q renew' >/etc/cron.d/renewal");
    machine.finds_and_mends("renewal", &["/etc/cron.d/renewal", "cron does not run"]);
    machine.ok(["rm", "/etc/cron.d/renewal"]);
    machine.finds_for_a_person("renewal", &["no timer", "no crontab runs certbot"]);
}

fn a_unit_whose_user_is_not_there_becomes_roots(machine: &Machine) {
    machine.write(
        "/etc/systemd/system/pgcertd.service.d/a-user.conf",
        "[Service]\nUser=nobody-of-that-name\n",
    );
    machine.ok(["systemctl", "daemon-reload"]);
    machine.finds_and_mends("unit_user", &["nobody-of-that-name", "cannot start"]);
    machine.ok(["systemctl", "restart", "pgcertd"]);
    machine.wait_well();
}

/// A filter that answers as a kernel does which does not have the call.
fn a_kernel_without_landlock_is_named(machine: &Machine) {
    let check = |filter: &str| {
        let words = [
            "systemd-run",
            "--quiet",
            "--pipe",
            "--wait",
            filter,
            "pgcertd",
            "check",
            "--json",
        ];
        let done = machine.run(words);
        let document: Value = serde_json::from_str(&done.stdout).unwrap();
        let host = document["host"].as_array().unwrap().clone();
        host.into_iter()
            .find(|finding| finding["id"] == "landlock")
            .unwrap()
    };
    let found = check("--property=SystemCallFilter=~landlock_create_ruleset:ENOSYS");
    assert_eq!(found["weight"], "notice", "{found:#}");
    assert!(found["mend"]["sentence"].is_string(), "{found:#}");
    assert_eq!(check("--property=SystemCallFilter=")["weight"], "good");
}

#[test]
fn each_place_of_an_old_hook_is_found_and_mended() {
    let mut stand = or_skip!(Stand::boot());
    let machine = &stand.machine;
    assert_eq!(machine.ill("old_hook"), Vec::<Value>::new());
    an_executable_of_certbots_is_switched_off(machine);
    a_link_of_certbots_is_removed(machine);
    a_line_of_cli_ini_goes(machine);
    a_line_of_cron_d_goes(machine);
    a_hook_that_does_more_is_for_a_person(machine);
    pgcertds_own_hook_is_none(machine);
    what_acme_sh_keeps_is_found_in_the_home_of_root(&mut stand);
}

/// Also with a hook of nobody's beside it.
fn an_executable_of_certbots_is_switched_off(machine: &Machine) {
    let hooks = "/etc/letsencrypt/renewal-hooks/deploy";
    machine.write(
        &format!("{hooks}/postgres"),
        "#!/bin/sh\nset -e\ncp \"$RENEWED_LINEAGE/privkey.pem\" /var/lib/postgresql/15/main/server.key\n\
         systemctl reload postgresql\n",
    );
    machine.write(
        &format!("{hooks}/nginx"),
        "#!/bin/sh\nsystemctl reload nginx\n",
    );
    machine.sh(&format!("chmod 755 {hooks}/*"));
    machine.finds_and_mends("old_hook", &["deploy/postgres", "reloads PostgreSQL"]);
    assert!(
        machine.exists(&format!("{hooks}/postgres")),
        "it may be wanted"
    );
    machine.ok(["test", "-x", &format!("{hooks}/nginx")]);
}

fn a_link_of_certbots_is_removed(machine: &Machine) {
    let script = "/usr/local/bin/restart-postgres";
    machine.write(script, "#!/bin/sh\nservice postgresql restart\n");
    machine.sh(&format!(
        "chmod 755 {script}; mkdir -p /etc/letsencrypt/renewal-hooks/post
        ln -s {script} /etc/letsencrypt/renewal-hooks/post/50-restart"
    ));
    machine.finds_and_mends("old_hook", &["post/50-restart", "restarts PostgreSQL"]);
    machine.ok(["test", "-x", script]);
}

fn a_line_of_cli_ini_goes(machine: &Machine) {
    let file = "/etc/letsencrypt/cli.ini";
    let before = machine.read(file);
    machine.append(
        file,
        "post-hook = /bin/systemctl restart 'postgresql@15-main'",
    );
    machine.finds_and_mends("old_hook", &["post-hook in", file]);
    assert_eq!(machine.read(file).trim_end(), before.trim_end());
}

fn a_line_of_cron_d_goes(machine: &Machine) {
    let copy = format!(
        "cp /etc/letsencrypt/live/{HOST}/privkey.pem /var/lib/postgresql/15/main/server.key"
    );
    machine.write(
        "/etc/cron.d/tls",
        format!("PATH=/usr/bin:/bin\n@daily root {copy}; systemctl reload postgresql\n@daily root true\n"),
    );
    machine.finds_and_mends("old_hook", &["a line in /etc/cron.d/tls", "copies to"]);
    assert_eq!(
        machine.read("/etc/cron.d/tls"),
        "PATH=/usr/bin:/bin\n@daily root true"
    );
}

fn a_hook_that_does_more_is_for_a_person(machine: &Machine) {
    let file = format!("/etc/letsencrypt/renewal/{HOST}.conf");
    machine.write(
        &file,
        "[renewalparams]\npost_hook = systemctl restart postgresql; systemctl reload nginx\n",
    );
    machine.finds_for_a_person("old_hook", &[&file, "restarts PostgreSQL"]);
    machine.ok(["rm", &file]);
    assert_eq!(machine.ill("old_hook"), Vec::<Value>::new());
}

fn pgcertds_own_hook_is_none(machine: &Machine) {
    let hook = "/etc/letsencrypt/renewal-hooks/deploy/pgcertd";
    machine.ok(["ln", "-s", "/usr/lib/pgcertd/certbot-deploy-hook", hook]);
    assert_eq!(machine.ill("old_hook"), Vec::<Value>::new());
    machine.ok(["rm", hook]);
}

/// A stand-in for what acme.sh writes, which Debian does not have: its configuration of a certificate.
fn what_acme_sh_keeps_is_found_in_the_home_of_root(stand: &mut Stand) {
    let home = format!("/root/.acme.sh/{HOST}_ecc");
    let issued = stand.ca.issue(&[HOST]);
    let machine = &stand.machine;
    machine.write(&format!("{home}/{HOST}.key"), &issued.key_pem);
    machine.write(&format!("{home}/fullchain.cer"), issued.fullchain_pem());
    let conf = format!("{home}/{HOST}.conf");
    // `printf 'systemctl restart postgresql' | openssl base64 -e`
    let reload = "Le_ReloadCmd='__ACME_BASE64__START_c3lzdGVtY3RsIHJlc3RhcnQgcG9zdGdyZXNxbA==__ACME_BASE64__END_'";
    machine.write(
        &conf,
        format!("Le_Domain='{HOST}'\n{reload}\nLe_Webroot='no'\n"),
    );
    machine.finds_and_mends(
        "old_hook",
        &["Le_ReloadCmd in", &conf, "restarts PostgreSQL"],
    );
    assert_eq!(
        machine.read(&conf),
        format!("Le_Domain='{HOST}'\nLe_Webroot='no'")
    );

    // Its copy goes to what pgcertd installs.
    let copy = "Le_RealKeyPath='/var/lib/pgcertd/15-main/server.pem'";
    machine.append(&conf, copy);
    machine.finds_and_mends("old_hook", &["Le_RealKeyPath in", "copies to"]);

    let files = format!("files = {{ chain = \"fullchain.cer\", key = \"{HOST}.key\" }}");
    let instance = stand.instance(&files);
    let lineage = format!("lineage = \"{HOST}\"");
    stand.config(&instance.replace(&lineage, &format!("lineage = \"{home}\"")));
    stand.machine.ok(["systemctl", "reload", "pgcertd"]);
    stand
        .machine
        .finds_and_mends("sandbox", &[&home, "is hidden", "ProtectHome=yes"]);
    stand.serves(&issued);
    stand
        .machine
        .finds_for_a_person("renewal", &[&home, "no crontab runs acme.sh"]);
    let line = "5 4 * * * \"/root/.acme.sh\"/acme.sh --cron --home \"/root/.acme.sh\" > /dev/null";
    stand.machine.write("/srv/crontab", format!("{line}\n"));
    stand.machine.ok(["crontab", "/srv/crontab"]);
    assert_eq!(stand.machine.ill("renewal"), Vec::<Value>::new());
    eventually(SOON, "the daemon is well", || {
        stand.machine.run(["pgcertd", "status"]).result()
    });
}
