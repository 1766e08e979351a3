//! 128-bit identifiers, as they stand in URLs: 22 characters of base64url (RFC 4648 §5).
//!
//! To clients all are opaque. An account's is random, a certificate's the bits of its serial number; an order's begins
//! with its account's, and an authorization's is its order's with its place.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

/// The text is no identifier of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier: 22 characters of base64url")]
pub struct NotAnId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $(#[$from:meta])* $from_octets:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            $(#[$from])*
            #[must_use]
            pub const fn $from_octets(octets: [u8; 16]) -> Self {
                Self(octets)
            }

            /// The 16 octets, as a store keeps them.
            #[must_use]
            pub const fn octets(&self) -> [u8; 16] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 22];
                let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
                f.write_str(std::str::from_utf8(text.get(..written).unwrap_or_default()).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotAnId)?;
                octets.try_into().map(Self).map_err(|_| NotAnId)
            }
        }
    };
}

id!(
    /// An account (RFC 8555 §7.1.2).
    AccountId,
    /// From 16 random octets.
    from_random
);
id!(
    /// An order (RFC 8555 §7.1.3). It begins with its account's first octets, so that the orders of an
    /// account are found without an index, and ends with two zero octets, the room for the places of
    /// its authorizations. The eight between are random: whoever is not its account is refused anyway.
    OrderId,
    /// From the 16 octets that a store kept.
    from_octets
);
id!(
    /// An authorization (RFC 8555 §7.1.4). It is its order's id with its place in its last two octets,
    /// so that whoever has the one finds the other without an index between them.
    AuthorizationId,
    /// From the 16 octets that a store kept.
    from_octets
);
impl AccountId {
    /// What the ids of its orders begin with. Another account's may begin so too.
    #[must_use]
    pub const fn order_prefix(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = self.0;
        [a, b, c, d, e, f]
    }
}

impl OrderId {
    /// A new order's, from random octets, of which eight are kept.
    #[must_use]
    pub const fn new(account: AccountId, random: [u8; 16]) -> Self {
        let [a, b, c, d, e, f] = account.order_prefix();
        let [g, h, i, j, k, l, m, n, ..] = random;
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, 0, 0])
    }

    /// The id of its authorization in this place, counted from zero.
    #[must_use]
    pub const fn authorization(self, place: u16) -> AuthorizationId {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, _, _] = self.0;
        let [y, z] = place.wrapping_add(1).to_be_bytes();
        AuthorizationId([a, b, c, d, e, f, g, h, i, j, k, l, m, n, y, z])
    }
}

impl AuthorizationId {
    /// The order that it belongs to.
    #[must_use]
    pub const fn order(self) -> OrderId {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, _, _] = self.0;
        OrderId([a, b, c, d, e, f, g, h, i, j, k, l, m, n, 0, 0])
    }
}

id!(
    /// A certificate. For one of our own authorities these are the 128 bits of its serial
    /// number, which makes the pair of authority and serial unique by construction.
    CertificateId,
    /// From 16 random octets.
    from_random
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_leads_to_its_order_and_no_two_of_an_order_are_the_same() {
        let account = AccountId::from_random([7; 16]);
        let order = OrderId::new(account, [0xff; 16]);
        assert!(order.octets().starts_with(&account.order_prefix()));
        let ids: std::collections::BTreeSet<_> = (0..100).map(|place| order.authorization(place)).collect();
        assert_eq!(ids.len(), 100);
        assert!(ids.iter().all(|id| id.order() == order && id.octets() != order.octets()));
    }
}
