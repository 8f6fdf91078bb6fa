//! What a server's configuration says of ciphers, for a person whose certificate fits none of them.
//!
//! Only OpenSSL knows what its cipher strings mean, so that nothing is decided by them here.

/// The settings that decide with which keys a server can shake hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ciphers {
    /// What the server calls the setting: `ssl_ciphers`.
    pub(crate) setting: &'static str,
    /// What it is set to.
    pub(crate) value: String,
    /// The setting of protocols, and what it is set to, where that leaves out TLS 1.3, to which the
    /// ciphers above do not apply.
    pub(crate) limit: Option<String>,
}

impl Ciphers {
    /// Those of PostgreSQL: `ssl_ciphers` and `ssl_max_protocol_version`.
    pub(crate) fn of_postgres(ciphers: &str, newest: &str) -> Ciphers {
        Ciphers {
            setting: "ssl_ciphers",
            value: ciphers.to_owned(),
            limit: (!["", "TLSv1.3"].contains(&newest))
                .then(|| format!("ssl_max_protocol_version = '{newest}'")),
        }
    }

    /// Those of a PgBouncer: `client_tls_ciphers` and `client_tls_protocols`.
    pub(crate) fn of_pgbouncer(ciphers: &str, protocols: &str) -> Ciphers {
        let all = ["", "all", "secure"].contains(&protocols) || protocols.contains("1.3");
        Ciphers {
            setting: "client_tls_ciphers",
            value: ciphers.to_owned(),
            limit: (!all).then(|| format!("client_tls_protocols = {protocols}")),
        }
    }

    /// Why they may leave no cipher for a key such as `ECDSA P-256`, where one such as `RSA 2048`
    /// had some, and what to do: a sentence.
    pub(crate) fn against(&self, key: &str, before: Option<&str>) -> String {
        let family = |key: &str| key.split(' ').next().unwrap_or_default().to_owned();
        let (new, old) = (family(key), before.map(family));
        let (setting, value) = (self.setting, &self.value);
        let limit = self.limit.as_ref();
        let limit = limit.map_or_else(String::new, |text| format!(" with {text}"));
        if value.contains("@SECLEVEL=") && old.as_ref() == Some(&new) {
            return format!(
                "{setting} = '{value}' may ask for a stronger key than {key}: renew with a stronger one, or lower the level"
            );
        }
        let has_none = match new.as_str() {
            "RSA" => self.only(&["ECDHE-ECDSA-"]),
            _ => self.only(&["ECDHE-RSA-", "DHE-RSA-"]),
        };
        let verdict = if has_none {
            "has no cipher for"
        } else {
            "may have no cipher for"
        };
        let another = match old.filter(|old| *old != new) {
            Some(old) => format!("renew with an {old} key, as before"),
            None => "renew with a key of another kind".to_owned(),
        };
        format!(
            "{setting} = '{value}'{limit} {verdict} an {new} key: add one and reload, or {another} (certbot: --key-type)"
        )
    }

    /// Whether only names of ciphers are listed, which all begin in one of these ways.
    fn only(&self, beginnings: &[&str]) -> bool {
        let begins = |name: &str| beginnings.iter().any(|text| name.starts_with(text));
        let separators = [':', ',', ' '];
        self.limit.is_some() && self.value.split(separators).all(begins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_names_ciphers_of_the_other_kind_alone_has_none() {
        let told =
            Ciphers::of_postgres("ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-SHA", "TLSv1.2")
                .against("ECDSA P-256", Some("RSA 2048"));
        assert_eq!(
            told,
            "ssl_ciphers = 'ECDHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES256-SHA' with ssl_max_protocol_version = 'TLSv1.2' has no cipher for an ECDSA key: \
             add one and reload, or renew with an RSA key, as before (certbot: --key-type)"
        );
    }

    #[test]
    fn what_only_openssl_could_tell_is_not_claimed() {
        let words = "may have no cipher for";
        for (ciphers, newest) in [
            ("HIGH:!aECDSA", "TLSv1.2"),
            ("ECDHE-RSA-AES256-GCM-SHA384", ""),
            ("ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.3"),
        ] {
            let told = Ciphers::of_postgres(ciphers, newest).against("Ed25519", None);
            assert!(told.contains(words), "{told}");
        }
        let told = Ciphers::of_pgbouncer("ECDHE-RSA-AES256-GCM-SHA384", "secure");
        assert!(
            told.against("ECDSA P-256", Some("RSA 2048"))
                .contains(words)
        );
    }

    #[test]
    fn a_level_that_asks_for_stronger_keys_is_named() {
        let told =
            Ciphers::of_postgres("HIGH@SECLEVEL=3", "").against("RSA 2048", Some("RSA 3072"));
        assert!(told.contains("stronger key than RSA 2048"), "{told}");
    }
}
