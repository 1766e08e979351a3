//! The roots of each issuer, as its server told them last, and whether they are to be published.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chancery_pki::certificate::{Certificate, from_pem, to_pem};

use crate::{board::IssuerKey, book::Known, decide::IssuerState};

/// Most roots of one issuer.
const ROOTS_MAX: usize = 32;

/// What is known of an issuer's roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// These are to be published, in PEM.
    Published(Arc<str>),
    /// None are.
    Off,
    /// Its server has not been asked yet by this process, or gave nothing that can be read: what there is stays.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Roots {
    /// Of issuers that have been ready: none, where they publish nothing.
    known: BTreeMap<String, Option<Arc<str>>>,
    /// All cluster issuers that there are.
    there: BTreeSet<String>,
    /// Whether those are all.
    listed: bool,
}

impl Roots {
    /// Takes the issuers as they are; those whose standing has changed.
    pub(super) fn take(&mut self, issuers: &[(IssuerKey, Known)], listed: bool) -> BTreeSet<String> {
        let of_cluster = issuers.iter().filter(|(key, _)| key.namespace.is_none());
        let of_cluster: Vec<(String, &Known)> = of_cluster.map(|(key, known)| (key.name.to_string(), known)).collect();
        let there: BTreeSet<String> = of_cluster.iter().map(|(name, _)| name.clone()).collect();
        let mut changed: BTreeSet<String> = self.there.symmetric_difference(&there).cloned().collect();
        if listed && !self.listed {
            changed.extend(there.iter().cloned());
        }
        (self.there, self.listed) = (there, listed || self.listed);
        let there = &self.there;
        self.known.retain(|name, _| there.contains(name));
        for (name, known) in of_cluster {
            let (IssuerState::Ready, Some(signer)) = (&known.state, &known.signer) else { continue };
            let told = if signer.spec.publish_roots {
                match read(&signer.info.roots) {
                    Ok(pem) => Some(Arc::from(pem)),
                    Err(why) => {
                        tracing::warn!(issuer = %name, "the roots that the server tells are not published: {why}");
                        continue;
                    }
                }
            } else {
                None
            };
            if self.known.get(&name) != Some(&told) {
                self.known.insert(name.clone(), told);
                changed.insert(name);
            }
        }
        changed
    }

    /// How an issuer stands.
    pub(super) fn of(&self, name: &str) -> Standing {
        match self.known.get(name) {
            Some(Some(pem)) => Standing::Published(Arc::clone(pem)),
            Some(None) => Standing::Off,
            None if self.listed && !self.there.contains(name) => Standing::Off,
            None => Standing::Unknown,
        }
    }
}

/// Certificates in PEM, each once, in an order of their own: the same roots are the same text, whoever tells them.
fn read(pem: &str) -> Result<String, String> {
    let ders: BTreeSet<Vec<u8>> = from_pem(pem.as_bytes()).map_err(|fault| fault.to_string())?.into_iter().collect();
    if ders.is_empty() || ders.len() > ROOTS_MAX {
        return Err(format!("there are {} of them; 1 to {ROOTS_MAX} are taken", ders.len()));
    }
    for der in &ders {
        Certificate::from_der(der).map_err(|fault| fault.to_string())?;
    }
    Ok(to_pem(ders.iter().map(Vec::as_slice)))
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

    use super::*;

    fn root(name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root").pem()
    }

    #[test]
    fn the_same_roots_are_the_same_text_in_whatever_order_and_however_often() {
        let (one, other) = (root("One"), root("Other"));
        let both = read(&format!("{one}{other}")).expect("two roots");
        assert_eq!(read(&format!("{other}{one}{other}")), Ok(both.clone()));
        assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    }

    #[test]
    fn what_is_no_root_is_not_published() {
        for garbage in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"] {
            assert!(read(garbage).is_err(), "{garbage}");
        }
    }

    #[test]
    fn an_issuer_is_gone_only_if_the_listing_is_complete() {
        let mut roots = Roots::default();
        assert_eq!(roots.of("corp"), Standing::Unknown);
        roots.take(&[], false);
        assert_eq!(roots.of("corp"), Standing::Unknown);
        let key = IssuerKey { namespace: None, name: "corp".into() };
        let unready = Known { state: IssuerState::Unchecked, signer: None };
        roots.take(&[(key, unready)], true);
        assert_eq!((roots.of("corp"), roots.of("other")), (Standing::Unknown, Standing::Off));
        assert!(roots.take(&[], true).contains("corp"));
        assert_eq!(roots.of("corp"), Standing::Off);
    }
}
