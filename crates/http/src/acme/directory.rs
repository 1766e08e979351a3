//! The directory (RFC 8555 §7.1.1), written once for each configuration.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use chancery_acme::{account::DirectoryName, urls::Urls, wire};
use chancery_authority::{
    Office,
    settings::{Directory, ExternalAccountRule, Settings},
};

/// A directory as the routes need it.
pub(crate) struct Known {
    pub(crate) name: DirectoryName,
    pub(crate) urls: Urls,
    /// Its URL, for `Link: …;rel="index"`.
    pub(crate) index: String,
    /// The directory object.
    pub(crate) json: Bytes,
}

/// The directories of the settings in force.
#[derive(Default)]
pub(crate) struct Directories {
    rendered: ArcSwapOption<Rendered>,
}

struct Rendered {
    settings: Arc<Settings>,
    known: BTreeMap<DirectoryName, Arc<Known>>,
}

impl Directories {
    /// The directory of this name.
    pub(crate) fn find(&self, office: &Office, external: &str, name: &str) -> Option<Arc<Known>> {
        let settings = office.settings();
        match &*self.rendered.load() {
            Some(rendered) if Arc::ptr_eq(&rendered.settings, &settings) => rendered.known.get(name).cloned(),
            _ => {
                let known = settings.directories.iter();
                let known =
                    known.map(|(name, directory)| (name.clone(), Arc::new(render(directory, &settings, external))));
                let rendered = Rendered { known: known.collect(), settings };
                let found = rendered.known.get(name).cloned();
                self.rendered.store(Some(Arc::new(rendered)));
                found
            }
        }
    }
}

fn render(directory: &Directory, settings: &Settings, external: &str) -> Known {
    let urls = Urls::new(external, &directory.name);
    let profiles = directory.profiles.iter().filter_map(|name| {
        let profile = settings.profiles.get(name)?;
        Some((
            name.clone(),
            format!("{} unless asked otherwise, at most {}", profile.lifetime(), profile.lifetime_max()),
        ))
    });
    let meta = wire::Meta {
        terms_of_service: directory.terms_of_service.clone(),
        website: directory.website.clone(),
        caa_identities: directory.caa_identities.clone(),
        external_account_required: directory.external_account == ExternalAccountRule::Required,
        profiles: profiles.collect(),
    };
    let object = wire::Directory::at(&urls, meta);
    let json = serde_json::to_vec(&object).expect("strings, lists and objects").into();
    Known { name: directory.name.clone(), index: urls.directory(), urls, json }
}
