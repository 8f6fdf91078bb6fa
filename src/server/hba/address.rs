//! Whom a line of `pg_hba.conf` is for, and sets of addresses to reckon with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::words::HbaWord;

/// The address of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HbaAddress {
    /// `all`: every address.
    All,
    /// `samehost`: the server's own addresses.
    SameHost,
    /// `samenet`: the networks that the server is in.
    SameNet,
    /// An address with its mask, of the same family.
    Net {
        ip: IpAddr,
        /// Which of its bits count; not always the leading ones.
        mask: IpAddr,
    },
    /// A host's name, or, with a leading dot, the names below a domain.
    Name(Vec<u8>),
}

impl HbaAddress {
    /// Whether clients that come from `client`, an address of the loopback interface, are meant
    /// for certain; of a name that is for the resolver to say.
    pub(super) fn surely_takes(&self, client: IpAddr) -> bool {
        match self {
            // The loopback interface has a network as well (`check_same_host_or_net`).
            HbaAddress::All | HbaAddress::SameNet | HbaAddress::SameHost => true,
            HbaAddress::Net { ip, mask } => match (client, ip, mask) {
                (IpAddr::V4(client), IpAddr::V4(ip), IpAddr::V4(mask)) => {
                    (u32::from(client) ^ u32::from(*ip)) & u32::from(*mask) == 0
                }
                (IpAddr::V6(client), IpAddr::V6(ip), IpAddr::V6(mask)) => {
                    (u128::from(client) ^ u128::from(*ip)) & u128::from(*mask) == 0
                }
                _ => false,
            },
            HbaAddress::Name(_) => false,
        }
    }
}

/// What the address field began with: a mask may have to follow.
pub(super) enum AddressStart {
    Whole(HbaAddress),
    WantsMask(IpAddr),
}

/// Reads the address field.
///
/// # Errors
/// The server's own words on what is wrong.
pub(super) fn begun(word: &HbaWord) -> Result<AddressStart, String> {
    for (keyword, address) in [
        ("all", HbaAddress::All),
        ("samehost", HbaAddress::SameHost),
        ("samenet", HbaAddress::SameNet),
    ] {
        if word.is_keyword(keyword) {
            return Ok(AddressStart::Whole(address));
        }
    }
    let text = word.text();
    let Some((host, bits)) = text.split_once('/') else {
        return Ok(match ip(&text) {
            Some(ip) => AddressStart::WantsMask(ip),
            None => AddressStart::Whole(HbaAddress::Name(word.bytes.clone())),
        });
    };
    let Some(ip) = ip(host) else {
        return Err(format!(
            "specifying both host name and CIDR mask is invalid: \"{text}\""
        ));
    };
    let mask =
        cidr_mask(ip, bits).ok_or_else(|| format!("invalid CIDR mask in address \"{text}\""))?;
    Ok(AddressStart::Whole(HbaAddress::Net { ip, mask }))
}

/// Reads the mask that follows an address.
///
/// # Errors
/// The server's own words on what is wrong.
pub(super) fn masked(address: IpAddr, word: &HbaWord) -> Result<HbaAddress, String> {
    let text = word.text();
    let mask = ip(&text).ok_or_else(|| format!("invalid IP mask \"{text}\""))?;
    if mask.is_ipv4() != address.is_ipv4() {
        return Err("IP address and mask do not match".into());
    }
    Ok(HbaAddress::Net { ip: address, mask })
}

/// A numeric address, as getaddrinfo(3) takes it.
fn ip(text: &str) -> Option<IpAddr> {
    if let Some(v4) = inet_aton(text) {
        return Some(v4.into());
    }
    // What follows a percent sign names an interface.
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let v6: Ipv6Addr = address.parse().ok()?;
    (!zone.is_empty()).then_some(v6.into())
}

/// One to four numbers, decimal, octal or hexadecimal, the last of which fills what is left
/// (inet_aton(3)).
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<&str> = text.split('.').collect();
    let (last, leading) = parts.split_last()?;
    if leading.len() > 3 {
        return None;
    }
    let mut value: u64 = 0;
    for part in leading {
        let number = number(part).filter(|n| *n <= 0xff)?;
        value = value << 8 | number;
    }
    let left = 8 * (4 - u32::try_from(leading.len()).ok()?);
    let last = number(last).filter(|n| *n < 1 << left)?;
    u32::try_from(value << left | last).ok().map(Ipv4Addr::from)
}

fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if lower.len() > 1 && lower.starts_with('0') => (&lower[1..], 8),
        None => (lower.as_str(), 10),
    };
    let only_digits = digits.chars().all(|digit| digit.is_digit(radix));
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| only_digits)
}

/// A number of leading bits, as strtol(3) takes it.
fn cidr_mask(ip: IpAddr, bits: &str) -> Option<IpAddr> {
    let bits: u32 = bits.trim_start().parse().ok()?;
    Some(match ip {
        IpAddr::V4(_) if bits <= 32 => Ipv4Addr::from(leading(bits, 32) as u32).into(),
        IpAddr::V6(_) if bits <= 128 => Ipv6Addr::from(leading(bits, 128)).into(),
        _ => return None,
    })
}

/// The number of `width` bits whose first `bits` are set.
fn leading(bits: u32, width: u32) -> u128 {
    let all = u128::MAX >> (128 - width);
    all & !all.checked_shr(bits).unwrap_or(0)
}

/// A set of addresses of both families, as ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses(Vec<Range>);

/// From the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    v6: bool,
    first: u128,
    last: u128,
}

impl Range {
    fn bits(ip: IpAddr) -> (bool, u128) {
        match ip {
            IpAddr::V4(v4) => (false, u32::from(v4).into()),
            IpAddr::V6(v6) => (true, v6.into()),
        }
    }

    /// The addresses whose first `length` bits are those of `ip`.
    fn prefix(ip: IpAddr, length: u32) -> Range {
        let (v6, value) = Range::bits(ip);
        let width = if v6 { 128 } else { 32 };
        let mask = leading(length, width);
        let all = u128::MAX >> (128 - width);
        Range {
            v6,
            first: value & mask,
            last: value & mask | all & !mask,
        }
    }

    fn without(self, gone: Range) -> impl Iterator<Item = Range> {
        let apart = self.v6 != gone.v6 || gone.last < self.first || self.last < gone.first;
        let below = (!apart && self.first < gone.first).then(|| Range {
            last: gone.first - 1,
            ..self
        });
        let above = (!apart && gone.last < self.last).then(|| Range {
            first: gone.last + 1,
            ..self
        });
        apart.then_some(self).into_iter().chain(below).chain(above)
    }
}

impl Addresses {
    pub(super) fn all() -> Addresses {
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        Addresses(vec![
            Range::prefix(v4.into(), 0),
            Range::prefix(v6.into(), 0),
        ])
    }

    pub(super) fn none() -> Addresses {
        Addresses(Vec::new())
    }

    /// What never leaves the host.
    pub(super) fn loopback() -> Addresses {
        let (v4, v6) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        Addresses(vec![
            Range::prefix(v4.into(), 8),
            Range::prefix(v6.into(), 128),
        ])
    }

    pub(super) fn from_ip(ip: IpAddr) -> Addresses {
        Addresses(vec![Range::prefix(ip, if ip.is_ipv4() { 32 } else { 128 })])
    }

    /// At least those that the mask lets through: one with holes counts as its leading bits.
    pub(super) fn at_least(ip: IpAddr, mask: IpAddr) -> Addresses {
        Addresses(vec![Range::prefix(ip, leading_ones(mask))])
    }

    /// At most those that the mask lets through: one with holes counts as nobody.
    pub(super) fn at_most(ip: IpAddr, mask: IpAddr) -> Addresses {
        let (v6, value) = Range::bits(mask);
        let width = if v6 { 128 } else { 32 };
        if leading(leading_ones(mask), width) == value {
            Addresses::at_least(ip, mask)
        } else {
            Addresses::none()
        }
    }

    pub(super) fn without(self, gone: &Addresses) -> Addresses {
        let start = self.0;
        Addresses(gone.0.iter().fold(start, |left, gone| {
            left.into_iter()
                .flat_map(|range| range.without(*gone))
                .collect()
        }))
    }

    pub(super) fn and(self, other: &Addresses) -> Addresses {
        let outside = Addresses::all().without(other);
        self.without(&outside)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn leading_ones(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(v4) => u32::from(v4).leading_ones(),
        IpAddr::V6(v6) => u128::from(v6).leading_ones(),
    }
}
