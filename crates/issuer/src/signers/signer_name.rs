//! Signer names as cert-manager writes them: `<plural>.<group>/<name>`, and `<plural>.<group>/<namespace>.<name>` for an
//! issuer of a namespace.

use crate::board::IssuerKey;

/// The domain of every [`ChanceryClusterIssuer`](crate::resource::ChanceryClusterIssuer).
pub(crate) const CLUSTER_ISSUERS: &str = "chanceryclusterissuers.chancery.dev";
/// The domain of every [`ChanceryIssuer`](crate::resource::ChanceryIssuer).
pub(crate) const ISSUERS: &str = "chanceryissuers.chancery.dev";

/// Whom a signer name means, whether or not it exists; nothing for a name that is none of ours.
pub(crate) fn issuer_of(signer_name: &str) -> Option<IssuerKey> {
    let (domain, path) = signer_name.split_once('/')?;
    let (namespace, name) = match domain {
        CLUSTER_ISSUERS => (None, path),
        // A namespace has no dots.
        ISSUERS => path.split_once('.').map(|(namespace, name)| (Some(namespace), name))?,
        _ => return None,
    };
    let given = !name.is_empty() && namespace != Some("");
    given.then(|| IssuerKey { namespace: namespace.map(Into::into), name: name.into() })
}

/// The signer name of a cluster issuer.
pub(crate) fn of_cluster_issuer(name: &str) -> String {
    format!("{CLUSTER_ISSUERS}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_an_issuer_of_the_cluster_or_of_a_namespace_or_nothing_of_ours() {
        let key = |namespace: Option<&str>, name: &str| {
            Some(IssuerKey { namespace: namespace.map(Into::into), name: name.into() })
        };
        for (name, issuer) in [
            ("chanceryclusterissuers.chancery.dev/corp", key(None, "corp")),
            ("chanceryclusterissuers.chancery.dev/corp.eu", key(None, "corp.eu")),
            ("chanceryissuers.chancery.dev/shop.own", key(Some("shop"), "own")),
            ("chanceryissuers.chancery.dev/shop.own.eu", key(Some("shop"), "own.eu")),
            ("chanceryissuers.chancery.dev/own", None),
            ("chanceryissuers.chancery.dev/.own", None),
            ("chanceryissuers.chancery.dev/shop.", None),
            ("chanceryclusterissuers.chancery.dev/", None),
            ("chanceryclusterissuers.chancery.dev", None),
            ("clusterissuers.cert-manager.io/corp", None),
            ("evil.chanceryclusterissuers.chancery.dev/corp", None),
        ] {
            assert_eq!(issuer_of(name), issuer, "{name}");
        }
        assert_eq!(issuer_of(&of_cluster_issuer("corp")), key(None, "corp"));
    }
}
