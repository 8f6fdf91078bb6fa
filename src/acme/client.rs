//! The ACME clients that pgcertd knows, by the names of their programs.

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    Certbot,
    AcmeSh,
    Dehydrated,
    Lego,
}

impl Client {
    /// The name of its program.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Client::Certbot => "certbot",
            Client::AcmeSh => "acme.sh",
            Client::Dehydrated => "dehydrated",
            Client::Lego => "lego",
        }
    }

    /// The client that a program is.
    pub(super) fn of_program(program: &str) -> Option<Client> {
        match program {
            "certbot" | "certbot-3" | "certbot-auto" | "letsencrypt" | "letsencrypt-auto"
            | "certbot.renew" => Some(Client::Certbot),
            "acme.sh" => Some(Client::AcmeSh),
            "dehydrated" => Some(Client::Dehydrated),
            "lego" => Some(Client::Lego),
            _ => None,
        }
    }
}
