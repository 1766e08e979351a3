//! Which resource a path names. One closed list, so that no resource is served that is not in it.

use chancery_acme::{
    challenge::ChallengeKind,
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
};
use http::Method;

/// A resource of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Directory,
    NewNonce,
    NewAccount,
    Account(AccountId),
    Orders(AccountId, Option<OrderId>),
    NewOrder,
    Order(OrderId),
    Finalize(OrderId),
    Authorization(AuthorizationId),
    Challenge(AuthorizationId, ChallengeKind),
    /// With the number of its chain; 0 is the default one.
    Certificate(CertificateId, usize),
    RevokeCert,
    KeyChange,
    /// With what stands for its certificate, as it was sent: what cannot be read is malformed, not unknown.
    RenewalInfo(&'a str),
}

/// Whose signature a resource takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    /// An account's, by `kid`.
    Account,
    /// A key's that comes along, by `jwk`.
    Key,
    /// Either.
    Either,
}

impl<'a> Resource<'a> {
    /// Reads what stands behind `/acme/{directory}/`, with its query.
    pub(crate) fn parse(path: &'a str, query: Option<&str>) -> Option<Self> {
        let mut segments = path.split('/');
        let mut next = || segments.next();
        let resource = match (next()?, next(), next()) {
            ("directory", None, None) => Self::Directory,
            ("new-nonce", None, None) => Self::NewNonce,
            ("new-account", None, None) => Self::NewAccount,
            ("new-order", None, None) => Self::NewOrder,
            ("revoke-cert", None, None) => Self::RevokeCert,
            ("key-change", None, None) => Self::KeyChange,
            ("account", Some(id), None) => Self::Account(id.parse().ok()?),
            ("account", Some(id), Some("orders")) => {
                let after = query.map(|query| query.strip_prefix("after=").and_then(|after| after.parse().ok()));
                Self::Orders(id.parse().ok()?, after.map_or(Some(None), |after| after.map(Some))?)
            }
            ("order", Some(id), None) => Self::Order(id.parse().ok()?),
            ("order", Some(id), Some("finalize")) => Self::Finalize(id.parse().ok()?),
            ("authorization", Some(id), None) => Self::Authorization(id.parse().ok()?),
            ("challenge", Some(id), Some(kind)) => Self::Challenge(id.parse().ok()?, kind.parse().ok()?),
            ("renewal-info", Some(certificate), None) => Self::RenewalInfo(certificate),
            ("certificate", Some(id), None) => Self::Certificate(id.parse().ok()?, 0),
            ("certificate", Some(id), Some(chain)) => Self::Certificate(id.parse().ok()?, alternate(chain)?),
            _ => return None,
        };
        let takes_query = matches!(resource, Self::Orders(..));
        if segments.next().is_some() || (query.is_some() && !takes_query) {
            return None;
        }
        Some(resource)
    }

    /// The word for it in metrics and logs.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::NewNonce => "new-nonce",
            Self::NewAccount => "new-account",
            Self::Account(_) => "account",
            Self::Orders(..) => "orders",
            Self::NewOrder => "new-order",
            Self::Order(_) => "order",
            Self::Finalize(_) => "finalize",
            Self::Authorization(_) => "authorization",
            Self::Challenge(..) => "challenge",
            Self::Certificate(..) => "certificate",
            Self::RevokeCert => "revoke-cert",
            Self::KeyChange => "key-change",
            Self::RenewalInfo(_) => "renewal-info",
        }
    }

    /// The methods it answers, as `Allow` lists them.
    pub(crate) const fn methods(self) -> &'static str {
        match self {
            Self::Directory | Self::NewNonce => "GET, HEAD, OPTIONS, POST",
            Self::RenewalInfo(_) => "GET, HEAD, OPTIONS",
            _ => "OPTIONS, POST",
        }
    }

    /// Whether it answers unsigned requests of this method.
    pub(crate) fn is_public(self, method: &Method) -> bool {
        let is_public = matches!(self, Self::Directory | Self::NewNonce | Self::RenewalInfo(_));
        is_public && (method == Method::GET || method == Method::HEAD)
    }

    /// Whether it answers signed requests.
    pub(crate) fn is_signed(self, method: &Method) -> bool {
        method == Method::POST && !matches!(self, Self::RenewalInfo(_))
    }

    /// Whose signature it takes (RFC 8555 §6.2).
    pub(crate) const fn accepts(self) -> Accepts {
        match self {
            Self::NewAccount => Accepts::Key,
            Self::RevokeCert => Accepts::Either,
            Self::Directory
            | Self::NewNonce
            | Self::Account(_)
            | Self::Orders(..)
            | Self::NewOrder
            | Self::Order(_)
            | Self::Finalize(_)
            | Self::Authorization(_)
            | Self::Challenge(..)
            | Self::Certificate(..)
            | Self::KeyChange
            // It takes none.
            | Self::RenewalInfo(_) => Accepts::Account,
        }
    }
}

/// The number of an alternate chain: written in one way only, counted from 1.
fn alternate(text: &str) -> Option<usize> {
    let number: u8 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(usize::from(number))
}

#[cfg(test)]
mod tests {
    use chancery_acme::urls::Urls;

    use super::*;

    #[test]
    fn every_url_we_write_is_one_we_read() {
        let urls = Urls::new("https://ca.example", "default");
        let octets = [0xA5; 16];
        let (account, order) = (AccountId::from_random(octets), OrderId::from_octets(octets));
        let (authorization, certificate) = (AuthorizationId::from_octets(octets), CertificateId::from_random(octets));
        for (url, expected) in [
            (urls.directory(), Resource::Directory),
            (urls.new_nonce(), Resource::NewNonce),
            (urls.new_account(), Resource::NewAccount),
            (urls.new_order(), Resource::NewOrder),
            (urls.revoke_cert(), Resource::RevokeCert),
            (urls.key_change(), Resource::KeyChange),
            (format!("{}/AQI.AP8", urls.renewal_info()), Resource::RenewalInfo("AQI.AP8")),
            (format!("{}/", urls.renewal_info()), Resource::RenewalInfo("")),
            (urls.account(account), Resource::Account(account)),
            (urls.orders(account), Resource::Orders(account, None)),
            (urls.orders_after(account, order), Resource::Orders(account, Some(order))),
            (urls.order(order), Resource::Order(order)),
            (urls.finalize(order), Resource::Finalize(order)),
            (urls.authorization(authorization), Resource::Authorization(authorization)),
            (
                urls.challenge(authorization, ChallengeKind::TlsAlpn01),
                Resource::Challenge(authorization, ChallengeKind::TlsAlpn01),
            ),
            (urls.certificate(certificate), Resource::Certificate(certificate, 0)),
            (urls.alternate(certificate, 2), Resource::Certificate(certificate, 2)),
        ] {
            let path = url.strip_prefix("https://ca.example/acme/default/").expect("under the external URL");
            let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
            assert_eq!(Resource::parse(path, query), Some(expected), "{url}");
        }
    }

    #[test]
    fn a_path_with_anything_more_or_less_names_nothing() {
        let id = OrderId::from_octets([0; 16]);
        for path in [
            String::new(),
            "directory/".into(),
            "directory/x".into(),
            "/directory".into(),
            "order".into(),
            "order/".into(),
            "order/x".into(),
            format!("order/{id}="),
            format!("order/{id}/finalise"),
            format!("order/{id}/finalize/"),
            format!("certificate/{id}/0"),
            format!("certificate/{id}/01"),
            format!("certificate/{id}/+1"),
            format!("challenge/{id}/http-02"),
            "key-change/".into(),
            "renewal-info".into(),
            "renewal-info/AQI.AP8/".into(),
            "new-authz".into(),
        ] {
            assert_eq!(Resource::parse(&path, None), None, "{path}");
        }
        assert_eq!(Resource::parse("directory", Some("")), None);
        assert_eq!(Resource::parse(&format!("account/{id}/orders"), Some("after=x")), None);
    }
}
