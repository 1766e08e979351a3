//! What the certificates of CAs look like, and what a profile may say of it.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

use super::{ProfileError, check_list, check_purposes};
use crate::{
    chain::{NameConstraints, Subtree},
    name::{DnsName, EmailAddress},
    profile::ExtendedKeyUsage,
};

/// What the certificates of CAs look like (RFC 5280 §4.2.1.9, §4.2.1.10). No request has a say in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaSpec {
    /// How many CAs may follow below.
    pub path_length: u8,
    /// The hosts that it may name, with what lies below them; empty is no restriction. And those that it may not.
    pub permitted_dns: Vec<String>,
    /// See [`Self::permitted_dns`].
    pub excluded_dns: Vec<String>,
    /// The addresses that it may name, and those that it may not.
    pub permitted_ips: Vec<IpNet>,
    /// See [`Self::permitted_ips`].
    pub excluded_ips: Vec<IpNet>,
    /// The e-mail addresses that it may name, and those that it may not: one address, a host, or what lies below a host
    /// (`.example.com`).
    pub permitted_emails: Vec<String>,
    /// See [`Self::permitted_emails`].
    pub excluded_emails: Vec<String>,
    /// The hosts whose URIs it may name (of SPIFFE IDs the trust domain), or what lies below one (`.example.com`), and
    /// those that it may not.
    pub permitted_uris: Vec<String>,
    /// See [`Self::permitted_uris`].
    pub excluded_uris: Vec<String>,
    /// The kinds of which it may name none.
    pub forbidden: Vec<ConstrainedKind>,
    /// The kinds of which it may name all. Where any kind is constrained, a kind with no list of its own stands here or
    /// in `forbidden`: RFC 5280 leaves a kind without subtrees free.
    pub unconstrained: Vec<ConstrainedKind>,
    /// What the certificates below it may be used for, where nothing is asked for; empty is no restriction.
    pub extended_key_usages: Vec<ExtendedKeyUsage>,
}

impl CaSpec {
    /// The name constraints that its certificate holds.
    #[must_use]
    pub fn constraints(&self) -> NameConstraints {
        /// A host that nothing is below (RFC 6761 §6.4): no subtree holds every address or URI, so that a kind is
        /// forbidden by permitting what does not exist.
        const NOWHERE: &str = "invalid";
        let subtrees = |dns: &[String], ips: &[IpNet], emails: &[String], uris: &[String]| -> Vec<Subtree> {
            let hosts = dns.iter().cloned().map(Subtree::Dns);
            let networks =
                ips.iter().map(|net| Subtree::Ip { address: octets(net.network()), mask: octets(net.netmask()) });
            let emails = emails.iter().cloned().map(Subtree::Mail);
            hosts.chain(networks).chain(emails).chain(uris.iter().cloned().map(Subtree::Uri)).collect()
        };
        let mut permitted =
            subtrees(&self.permitted_dns, &self.permitted_ips, &self.permitted_emails, &self.permitted_uris);
        let mut excluded = subtrees(&self.excluded_dns, &self.excluded_ips, &self.excluded_emails, &self.excluded_uris);
        for kind in &self.forbidden {
            match kind {
                ConstrainedKind::Dns => excluded.push(Subtree::Dns(String::new())),
                ConstrainedKind::Ip => excluded
                    .extend([4, 16].map(|octets| Subtree::Ip { address: vec![0; octets], mask: vec![0; octets] })),
                ConstrainedKind::Email => permitted.push(Subtree::Mail(NOWHERE.to_owned())),
                ConstrainedKind::Uri => permitted.push(Subtree::Uri(NOWHERE.to_owned())),
            }
        }
        NameConstraints::new(permitted, excluded)
    }

    fn constrains(&self, kind: ConstrainedKind) -> bool {
        match kind {
            ConstrainedKind::Dns => !self.permitted_dns.is_empty() || !self.excluded_dns.is_empty(),
            ConstrainedKind::Ip => !self.permitted_ips.is_empty() || !self.excluded_ips.is_empty(),
            ConstrainedKind::Email => !self.permitted_emails.is_empty() || !self.excluded_emails.is_empty(),
            ConstrainedKind::Uri => !self.permitted_uris.is_empty() || !self.excluded_uris.is_empty(),
        }
    }
}

/// The kinds of name that name constraints are about here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConstrainedKind {
    /// Host names, wildcards among them.
    Dns,
    /// IP addresses.
    Ip,
    /// E-mail addresses.
    Email,
    /// URIs, SPIFFE IDs among them.
    Uri,
}

impl ConstrainedKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Dns, Self::Ip, Self::Email, Self::Uri];

    /// As configuration writes it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Ip => "ip",
            Self::Email => "email",
            Self::Uri => "uri",
        }
    }
}

impl fmt::Display for ConstrainedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn check(ca: &mut CaSpec) -> Result<(), ProfileError> {
    let said = |kind: ConstrainedKind| {
        let each = [ca.constrains(kind), ca.forbidden.contains(&kind), ca.unconstrained.contains(&kind)];
        each.into_iter().filter(|said| *said).count()
    };
    check_list("ca.forbidden", &ca.forbidden, 0, ConstrainedKind::to_string)?;
    check_list("ca.unconstrained", &ca.unconstrained, 0, ConstrainedKind::to_string)?;
    let constrained = !ca.constraints().is_empty();
    for kind in ConstrainedKind::ALL {
        match said(kind) {
            0 if constrained => return Err(ProfileError::Unsaid { kind }),
            0 | 1 => {}
            _ => return Err(ProfileError::SaidTwice { kind }),
        }
    }
    ca.forbidden.sort_unstable();
    ca.unconstrained.sort_unstable();
    let CaSpec {
        path_length: _,
        permitted_dns,
        excluded_dns,
        permitted_ips,
        excluded_ips,
        permitted_emails,
        excluded_emails,
        permitted_uris,
        excluded_uris,
        forbidden: _,
        unconstrained: _,
        extended_key_usages,
    } = ca;
    check_list("ca.extended_key_usages", extended_key_usages, 0, ExtendedKeyUsage::to_string)?;
    check_purposes(extended_key_usages)?;
    let is_host = |text: &str| text.parse::<DnsName>().is_ok_and(|name| name.as_str() == text);
    let is_mail = |text: &str| text.parse::<EmailAddress>().is_ok() || is_host(text.strip_prefix('.').unwrap_or(text));
    let no = |list, value: &str, expected| {
        Err(ProfileError::Constraint { list, value: value.escape_debug().collect(), expected })
    };
    for (list, values) in [("permitted_dns", permitted_dns), ("excluded_dns", excluded_dns)] {
        check_list(list, values, 0, String::clone)?;
        if let Some(value) = values.iter().find(|value| !is_host(value)) {
            return no(list, value, "host name in lower case; what lies below it is meant too");
        }
    }
    for (list, values) in [("permitted_emails", permitted_emails), ("excluded_emails", excluded_emails)] {
        check_list(list, values, 0, String::clone)?;
        if let Some(value) = values.iter().find(|value| !is_mail(value)) {
            return no(list, value, "e-mail address, host, or .host");
        }
    }
    for (list, values) in [("permitted_uris", permitted_uris), ("excluded_uris", excluded_uris)] {
        check_list(list, values, 0, String::clone)?;
        if let Some(value) = values.iter().find(|value| !is_host(value.strip_prefix('.').unwrap_or(value))) {
            return no(list, value, "host or trust domain in lower case, or .host");
        }
    }
    for (list, values) in [("permitted_ips", permitted_ips), ("excluded_ips", excluded_ips)] {
        check_list(list, values, 0, IpNet::to_string)?;
        if let Some(value) = values.iter().find(|net| net.addr() != net.network()) {
            return no(list, &value.to_string(), "network: there are bits behind its prefix");
        }
    }
    Ok(())
}
