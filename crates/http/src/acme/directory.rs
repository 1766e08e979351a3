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
        let lives = || format!("{} unless asked otherwise, at most {}", profile.lifetime(), profile.lifetime_max());
        Some((name.clone(), profile.description().map_or_else(lives, str::to_owned)))
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

#[cfg(test)]
mod tests {
    use chancery_testkit::office::TestOffice;

    use super::*;

    #[test]
    fn a_profile_is_told_with_the_words_that_its_configuration_has_and_else_with_its_lives() {
        let settings = TestOffice::default().with_teams().office.settings();
        let known = render(&settings.directories["teams"], &settings, "https://ca.example");
        let object: wire::Directory = serde_json::from_slice(&known.json).expect("a directory");
        assert_eq!(object.meta.profiles["minutes"], "for whoever renews all the time");
        assert_eq!(object.meta.profiles["server"], "90d unless asked otherwise, at most 2161h");
    }
}
