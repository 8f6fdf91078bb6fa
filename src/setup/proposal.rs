//! Which server, which lineage, which names: what is proposed where the operator has not said. Pure functions.

use std::path::{Component, Path};

use rustls::pki_types::ServerName;

use crate::bundle::Certificate;
use crate::lineage::Surveyed;

/// The lineages for a server: those for the names of the leaf that it serves already; else those for a name
/// of this host; else all that have a leaf.
pub(crate) fn lineages<'a>(
    found: &'a [Surveyed],
    served: Option<&Certificate>,
    host_names: &[String],
) -> Vec<&'a Surveyed> {
    let fitting = |fits: &dyn Fn(&Certificate) -> bool| -> Vec<&Surveyed> {
        let fits = |surveyed: &&Surveyed| surveyed.leaf.as_ref().is_ok_and(fits);
        found.iter().filter(fits).collect()
    };
    let choices = [
        fitting(&|leaf| served.is_some_and(|served| same_names(served, leaf))),
        fitting(&|leaf| host_names.iter().any(|name| covers(leaf, name))),
        fitting(&|_| true),
    ];
    let mut some = choices.into_iter().filter(|fitting| !fitting.is_empty());
    some.next().unwrap_or_default()
}

fn same_names(one: &Certificate, other: &Certificate) -> bool {
    let sorted = |certificate: &Certificate| {
        let mut names = certificate.names().to_vec();
        names.sort();
        names
    };
    !one.names().is_empty() && sorted(one) == sorted(other)
}

fn covers(leaf: &Certificate, name: &str) -> bool {
    ServerName::try_from(name).is_ok() && leaf.facts().covers(name).is_some()
}

/// What clients connect to: the names of this host that the leaf covers; where there are none, all names of
/// the leaf that a client can ask for.
pub(crate) fn server_names(leaf: &Certificate, host_names: &[String]) -> Vec<String> {
    let own: Vec<String> = host_names
        .iter()
        .filter(|name| covers(leaf, name))
        .cloned()
        .collect();
    if !own.is_empty() {
        return own;
    }
    let names = leaf.names().iter();
    names
        .filter(|name| !name.starts_with("*.") && covers(leaf, name))
        .cloned()
        .collect()
}

/// A name for the instance in this data directory that none of `taken` has: `16-main` for Debian's
/// `/var/lib/postgresql/16/main`, `16-data` for Red Hat's `/var/lib/pgsql/16/data`.
pub(crate) fn instance_name(data_directory: &Path, taken: &[&str]) -> String {
    let parts: Vec<String> = data_directory
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(plain(&name.to_string_lossy())),
            _ => None,
        })
        .filter(|name| !name.is_empty())
        .collect();
    let last = &parts[parts.len().saturating_sub(2)..];
    let name = match last {
        [] => "postgres".to_owned(),
        parts => parts.join("-"),
    };
    let unused = |name: &String| !taken.contains(&name.as_str());
    std::iter::once(name.clone())
        .chain((2..).map(|number| format!("{name}-{number}")))
        .find(unused)
        .unwrap_or(name)
}

/// What of a name may be in an instance's.
fn plain(name: &str) -> String {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let kept: String = name.chars().filter(allowed).collect();
    kept.trim_start_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
    use std::path::PathBuf;

    use super::*;

    fn leaf(names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|text| (*text).to_owned()).collect();
        let signed = rcgen::generate_simple_self_signed(names).unwrap();
        Certificate::from_der(signed.cert.der().to_vec()).unwrap()
    }

    fn lineage(names: &[&str]) -> Surveyed {
        Surveyed {
            name: names[0].into(),
            directory: PathBuf::from("/live").join(names[0]),
            leaf: Ok(leaf(names)),
        }
    }

    fn proposed(found: &[Surveyed], served: Option<&Certificate>, host: &[&str]) -> Vec<String> {
        let host: Vec<String> = host.iter().map(|text| (*text).to_owned()).collect();
        let fitting = lineages(found, served, &host);
        fitting
            .iter()
            .map(|surveyed| surveyed.name.clone())
            .collect()
    }

    #[test]
    fn what_is_served_goes_before_the_hosts_names_and_those_before_the_only_one() {
        let found = [
            lineage(&["pg.example.com"]),
            lineage(&["db7.example.com", "db.example.com"]),
            lineage(&["billing.example.com"]),
        ];
        let served = leaf(&["billing.example.com"]);
        let host = ["db7", "db7.example.com"];
        assert_eq!(
            proposed(&found, Some(&served), &host),
            ["billing.example.com"]
        );
        let snakeoil = leaf(&["db7"]);
        assert_eq!(
            proposed(&found, Some(&snakeoil), &host),
            ["db7.example.com"]
        );
        assert_eq!(proposed(&found, None, &["other"]).len(), 3);
        assert_eq!(proposed(&found[..1], None, &["other"]), ["pg.example.com"]);
        assert!(proposed(&[], None, &host).is_empty());
    }

    #[test]
    fn clients_connect_to_the_hosts_own_names_or_to_all_that_are_no_wildcards() {
        let host = ["db7".to_owned(), "db7.example.com".to_owned()];
        let wild = leaf(&["*.example.com", "example.com"]);
        assert_eq!(server_names(&wild, &host), ["db7.example.com"]);
        assert_eq!(server_names(&wild, &[]), ["example.com"]);
        let other = leaf(&["pg.example.com", "www.example.com"]);
        assert_eq!(
            server_names(&other, &host),
            ["pg.example.com", "www.example.com"]
        );
    }

    #[test]
    fn an_instance_is_named_as_its_cluster_is_and_never_as_another() {
        let name = |path: &str, taken: &[&str]| instance_name(Path::new(path), taken);
        assert_eq!(name("/var/lib/postgresql/16/main", &[]), "16-main");
        assert_eq!(name("/var/lib/pgsql/16/data", &[]), "16-data");
        assert_eq!(name("/data", &[]), "data");
        assert_eq!(name("/", &[]), "postgres");
        assert_eq!(name("/srv/.a b/-c", &[]), "ab-c");
        let taken = ["16-main", "16-main-2"];
        assert_eq!(name("/var/lib/postgresql/16/main", &taken), "16-main-3");
    }
}
