//! What is given of what is asked for: subject, usages, CA. Given as asked, or refused in words; one thing alone is left
//! out: keyEncipherment for keys that cannot encipher, since cert-manager asks for it whatever the key is.

use super::{CaSpec, ExtendedKeyUsage, KeyUsage, Profile, ProfileRejection, RequestedAttribute, SubjectPolicy};
use crate::{
    content::Content,
    distinguished_name::{self, AttributeType, RequestedSubject},
    key::KeyKind,
    name::{Name, NameSet},
};

/// Why what is asked for beside names and key is not given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentRejection {
    /// The profile has a subject of its own.
    #[error(
        "the subject \"{asked}\" is asked for, and certificates of profile \"{profile}\" have the subject \"{given}\"; ask for that one, or for none"
    )]
    Subject {
        /// The profile.
        profile: String,
        /// What is asked for.
        asked: String,
        /// What would be given.
        given: String,
    },
    /// An attribute that the profile does not list.
    #[error(
        "profile \"{profile}\" gives no {asked} in a subject; it gives {} beside common names and e-mail addresses that are among the names",
        if given.is_empty() { "nothing".to_owned() } else { given.join(", ") }
    )]
    Attribute {
        /// The profile.
        profile: String,
        /// The attribute with its value.
        asked: String,
        /// What may be asked for.
        given: Vec<String>,
    },
    /// A common name that policy would not see.
    #[error(
        "the common name \"{common_name}\" is not among the names that are asked for, so policy could not judge it"
    )]
    CommonName {
        /// The common name.
        common_name: String,
    },
    /// An e-mail address in the subject that policy would not see.
    #[error(
        "the e-mail address \"{address}\" in the subject is not among the names that are asked for, so policy could not judge it"
    )]
    EmailAddress {
        /// The address.
        address: String,
    },
    /// A common name among the names that the subject does not hold.
    #[error("the name {name} is asked for, and the subject does not hold it")]
    NotInSubject {
        /// The name.
        name: Name,
    },
    /// Usages that the profile does not give.
    #[error(
        "profile \"{profile}\" does not give: {}; it gives: {}",
        refused.join(", "),
        given.join(", ")
    )]
    Usages {
        /// The profile.
        profile: String,
        /// Those that it does not give, in Kubernetes' words.
        refused: Vec<String>,
        /// Those that may be asked for.
        given: Vec<String>,
    },
    /// A usage that keys of that kind do not have.
    #[error("a key of kind {kind} cannot be used for {}", usage.word())]
    UnfitKey {
        /// Which usage.
        usage: KeyUsage,
        /// The kind of key.
        kind: KeyKind,
    },
    /// `encipherOnly` or `decipherOnly` without `keyAgreement`.
    #[error("{} says nothing without key agreement (RFC 5280 §4.2.1.3)", usage.word())]
    WithoutAgreement {
        /// Which usage.
        usage: KeyUsage,
    },
    /// Nothing would be left of the usages.
    #[error(
        "a key of kind {kind} cannot be used for key encipherment, and nothing else is asked for; ask for digital signature"
    )]
    NothingLeft {
        /// The kind of key.
        kind: KeyKind,
    },
    /// A usage of CAs in a certificate that is none.
    #[error("{} is for CAs alone, and this is not asked for as a CA's certificate (isCA)", usage.word())]
    UsageOfCas {
        /// Which usage.
        usage: KeyUsage,
    },
    /// The profile makes no CAs.
    #[error("profile \"{profile}\" makes no certificates of CAs; a profile with \"ca\" does")]
    NoCa {
        /// The profile.
        profile: String,
    },
    /// A CA without any name in its subject.
    #[error(
        "a CA's subject is never empty (RFC 5280 §4.1.2.6); ask for a common name, or for a DNS name of at most 64 characters"
    )]
    CaWithoutSubject,
    /// Name constraints for a certificate that is no CA's.
    #[error(
        "name constraints are for CAs alone (RFC 5280 §4.2.1.10), and this is not asked for as a CA's certificate (isCA)"
    )]
    ConstraintsWithoutCa,
    /// Name constraints that the profile does not set.
    #[error(
        "name constraints are set by profile \"{profile}\" ({given}), and {asked} are asked for; ask for the same, or for none"
    )]
    NameConstraints {
        /// The profile.
        profile: String,
        /// What is asked for.
        asked: String,
        /// What would be given.
        given: String,
    },
}

/// Whether a common name of this text is covered by the name: it is that name, in whatever case where that says nothing.
pub(crate) fn is_common_name(name: &Name, text: &str) -> bool {
    match name {
        Name::CommonName(name) => name.as_str() == text,
        Name::Dns(_) | Name::Wildcard(_) | Name::Ip(_) => name.to_string().eq_ignore_ascii_case(text),
        // Of a mailbox the host has no case alone: software that reads the common name may tell ALICE from alice.
        Name::Email(address) => text
            .rsplit_once('@')
            .is_some_and(|(local, host)| local == address.local_part() && host.eq_ignore_ascii_case(address.host())),
        Name::Spiffe(_) | Name::Uri(_) | Name::Other(_) => false,
    }
}

impl Profile {
    /// Whether the profile gives what is asked for beside names and key. Where a common name or an e-mail address stands
    /// in the subject, it must be among the names.
    ///
    /// # Errors
    ///
    /// [`ProfileRejection::Content`].
    pub fn check_content(&self, content: &Content, names: &NameSet, kind: KeyKind) -> Result<(), ProfileRejection> {
        self.check_subject(content, names)?;
        if content.is_ca {
            self.check_ca(content, names)?;
        } else if !content.name_constraints.is_empty() {
            return Err(ContentRejection::ConstraintsWithoutCa.into());
        }
        self.check_usages(content, kind)?;
        Ok(())
    }

    fn check_subject(&self, content: &Content, names: &NameSet) -> Result<(), ContentRejection> {
        use ContentRejection as R;
        let asked = content.subject.as_ref().filter(|subject| !subject.is_empty());
        let common_name = asked.and_then(RequestedSubject::common_name);
        for name in names.iter() {
            if let Name::CommonName(own) = name
                && common_name != Some(own.as_str())
            {
                return Err(R::NotInSubject { name: name.clone() });
            }
        }
        let Some(asked) = asked else { return Ok(()) };
        if self.spec.subject != SubjectPolicy::Requested {
            let given = self.subject(names, content);
            // In whatever kind of string the name is written (RFC 5280 §7.1).
            if distinguished_name::same(&given, asked.der()) {
                return Ok(());
            }
            let (asked, given) = (asked.to_string(), distinguished_name::show(&given));
            return Err(R::Subject { profile: self.spec.name.clone(), asked, given });
        }
        if let Some(text) = common_name
            && !names.iter().any(|name| is_common_name(name, text))
        {
            return Err(R::CommonName { common_name: text.to_owned() });
        }
        let mut beside = asked.attributes_beside_names();
        if let Some((kind, value)) = beside.find(|(kind, value)| self.attribute(kind, value).is_none()) {
            let asked = format!("{kind}={}", distinguished_name::Escaped(value));
            let given = self.spec.requested_attributes.iter().map(ToString::to_string).collect();
            return Err(R::Attribute { profile: self.spec.name.clone(), asked, given });
        }
        let among =
            |address: &str| names.iter().any(|name| matches!(name, Name::Email(known) if known.as_str() == address));
        match asked.email_addresses().find(|address| !among(address)) {
            Some(address) => Err(R::EmailAddress { address: address.to_owned() }),
            None => Ok(()),
        }
    }

    /// What the profile says about an attribute with that value: the entry with the value before the one without.
    fn attribute(&self, kind: &AttributeType, value: &str) -> Option<&RequestedAttribute> {
        let listed = self.spec.requested_attributes.iter().filter(|listed| listed.kind == *kind);
        let mut fitting = listed.filter(|listed| listed.value.as_deref().is_none_or(|own| own == value));
        fitting.clone().find(|listed| listed.value.is_some()).or_else(|| fitting.next())
    }

    /// Whether an attribute of a subject needs no leave of the policy's rules: the profile gives that value, or it
    /// stands for one of the names.
    #[must_use]
    pub fn gives_attribute(&self, kind: &AttributeType, value: &str) -> bool {
        self.spec.subject != SubjectPolicy::Requested
            || kind.stands_for_a_name()
            || self.attribute(kind, value).is_some_and(|listed| listed.value.is_some())
    }

    fn check_ca(&self, content: &Content, names: &NameSet) -> Result<(), ContentRejection> {
        use ContentRejection as R;
        let profile = || self.spec.name.clone();
        let Some(ca) = &self.spec.ca else { return Err(R::NoCa { profile: profile() }) };
        if distinguished_name::attributes(&self.subject(names, content)).is_none_or(|attributes| attributes.is_empty())
        {
            return Err(R::CaWithoutSubject);
        }
        let given = ca.constraints();
        if !content.name_constraints.is_empty() && !content.name_constraints.says_the_same_as(&given) {
            let (asked, given) = (content.name_constraints.to_string(), given.to_string());
            return Err(R::NameConstraints { profile: profile(), asked, given });
        }
        Ok(())
    }

    fn check_usages(&self, content: &Content, kind: KeyKind) -> Result<(), ContentRejection> {
        use ContentRejection as R;
        let asked = content.usages.key_usages();
        let of_cas = [KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment, KeyUsage::KeyCertSign, KeyUsage::CrlSign];
        let keys: Vec<KeyUsage> = self.spec.key_usages.iter().chain(&self.spec.requested_key_usages).copied().collect();
        let keys = if content.is_ca { of_cas.to_vec() } else { keys };
        let purposes = self.spec.extended_key_usages.iter().chain(&self.spec.requested_extended_key_usages);
        let of_ca = self.spec.ca.iter().filter(|_| content.is_ca).flat_map(|ca| &ca.extended_key_usages);
        let purposes: Vec<ExtendedKeyUsage> = purposes.chain(of_ca).copied().collect();
        if let Some(usage) = asked.iter().find(|usage| usage.is_for_cas() && !content.is_ca) {
            return Err(R::UsageOfCas { usage: *usage });
        }
        let refused_keys = asked.iter().filter(|usage| !keys.contains(usage)).map(|usage| usage.word().to_owned());
        let refused_purposes = content.usages.extended_key_usages().iter();
        let refused_purposes = refused_purposes.filter(|purpose| !purposes.contains(purpose)).map(|usage| usage.word());
        let refused: Vec<String> = refused_keys.chain(refused_purposes).collect();
        if !refused.is_empty() {
            let mut given: Vec<String> = keys.iter().map(|usage| usage.word().to_owned()).collect();
            for purpose in purposes {
                let word = purpose.word();
                if !given.contains(&word) {
                    given.push(word);
                }
            }
            return Err(R::Usages { profile: self.spec.name.clone(), refused, given });
        }
        for usage in asked {
            let left_out = *usage == KeyUsage::KeyEncipherment;
            if !usage.fits(kind) && !left_out {
                return Err(R::UnfitKey { usage: *usage, kind });
            }
            let needs_agreement = matches!(usage, KeyUsage::EncipherOnly | KeyUsage::DecipherOnly);
            if needs_agreement && !asked.contains(&KeyUsage::KeyAgreement) {
                return Err(R::WithoutAgreement { usage: *usage });
            }
        }
        if self.granted_key_usages(content, kind).is_empty() {
            return Err(R::NothingLeft { kind });
        }
        Ok(())
    }

    /// The key usages of the certificate, in order.
    #[must_use]
    pub fn granted_key_usages(&self, content: &Content, kind: KeyKind) -> Vec<KeyUsage> {
        let asked = content.usages.key_usages();
        if content.is_ca {
            // CA/B BR 7.1.2.10.7: of the others a CA has digitalSignature alone.
            let signs = asked.is_empty() || asked.contains(&KeyUsage::DigitalSignature);
            let own = Some(KeyUsage::DigitalSignature).filter(|usage| signs && self.spec.key_usages.contains(usage));
            return own.into_iter().chain([KeyUsage::KeyCertSign, KeyUsage::CrlSign]).collect();
        }
        let from = if asked.is_empty() { &self.spec.key_usages } else { asked };
        from.iter().copied().filter(|usage| usage.fits(kind)).collect()
    }

    /// The extended key usages of the certificate, in order; a CA may have none.
    #[must_use]
    pub fn granted_purposes<'a>(&'a self, content: &'a Content) -> &'a [ExtendedKeyUsage] {
        let asked = content.usages.extended_key_usages();
        let own = match &self.spec.ca {
            Some(CaSpec { extended_key_usages, .. }) if content.is_ca => extended_key_usages,
            Some(_) | None => &self.spec.extended_key_usages,
        };
        if asked.is_empty() { own } else { asked }
    }

    /// What was asked for and is left out, since the key, or a CA, cannot be used so.
    #[must_use]
    pub fn left_out(&self, content: &Content, kind: KeyKind) -> Vec<KeyUsage> {
        let granted = self.granted_key_usages(content, kind);
        content.usages.key_usages().iter().copied().filter(|usage| !granted.contains(usage)).collect()
    }

    /// What the certificate may be used for, in Kubernetes' words, whatever its key: what conditions of the policy see.
    #[must_use]
    pub fn usages_in_words(&self, content: &Content) -> Vec<String> {
        let asked = content.usages.key_usages();
        let keys = match (content.is_ca, asked.is_empty()) {
            // The kind of key decides nothing about a CA's.
            (true, _) => self.granted_key_usages(content, KeyKind::P256),
            (false, true) => self.spec.key_usages.clone(),
            (false, false) => asked.to_vec(),
        };
        let keys = keys.into_iter().map(|usage| usage.word().to_owned());
        keys.chain(self.granted_purposes(content).iter().map(|usage| usage.word())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_common_name_is_a_name_in_whatever_case_but_a_mailbox_is_told_letter_for_letter() {
        for (name, text, covered) in [
            ("a.example.com", "A.Example.com", true),
            ("alice@example.com", "alice@EXAMPLE.com", true),
            ("alice@example.com", "ALICE@example.com", false),
            ("alice@example.com", "alice", false),
            ("cn:Payments CA", "payments ca", false),
            ("https://example.com/a", "https://example.com/a", false),
        ] {
            assert_eq!(is_common_name(&name.parse().expect("a name"), text), covered, "{name} {text}");
        }
    }
}
