//! An issuer for unit tests: it is ready, and its server is never reached.

use std::{sync::Arc, time::Duration};

use chancery_api::{Credential, RemoteClient, RemoteSettings, Roots, SignerInfo};
use chancery_egress::{DialSettings, Dialer, ZoneSpec, ZoneTable};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::signer::Signer;

/// One that has these settings beside the usual ones, and whose server tells this of itself.
pub(crate) fn signer(more: &Value, told: &Value) -> Arc<Signer> {
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut spec = json!({ "urls": ["https://ca.example"], "credentials": {} });
    json_patch::merge(&mut spec, more);
    let settings = RemoteSettings {
        servers: vec!["https://ca.example".parse().expect("a URL")],
        roots: Roots::Platform,
        credential: Credential::Token("token".to_owned().into()),
        connect_timeout: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let zones = ZoneTable::new([ZoneSpec { name: "default".to_owned(), ..ZoneSpec::default() }]).expect("a zone");
    let client = RemoteClient::new(&settings, Dialer::new(zones, DialSettings::default())).expect("a client");
    let mut info = json!({ "cluster": "tests", "profiles": [], "roots": "", "now": "" });
    json_patch::merge(&mut info, told);
    let info: SignerInfo = serde_json::from_value(info).expect("an info");
    Arc::new(Signer {
        client: Arc::new(client),
        spec: Arc::new(serde_json::from_value(spec).expect("a spec")),
        info: Arc::new(info),
        trouble: Arc::new(Notify::new()),
    })
}
