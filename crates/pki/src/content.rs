//! What is asked for beside names, key and life, where a door lets requesters ask for it.
//!
//! The object that a requester made says it (cert-manager's CertificateRequest, Kubernetes' CertificateSigningRequest);
//! the CSR in it only echoes, and an echo that differs is refused. Whether it is granted is the profile's to say
//! ([`Profile::check_content`](crate::profile::Profile::check_content)) and policy's.

use crate::{
    chain::NameConstraints,
    csr::Csr,
    distinguished_name::RequestedSubject,
    usage::{ExtendedKeyUsage, KeyUsage, Usages},
};

/// What is asked for; the default is "as the profile says".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The subject, as it stands in the CSR.
    pub subject: Option<RequestedSubject>,
    /// What it shall be used for.
    pub usages: Usages,
    /// Whether it shall be a CA's.
    pub is_ca: bool,
    /// The name constraints that the CA shall have; none is as the profile says.
    pub name_constraints: NameConstraints,
}

/// As the profile says in everything.
pub static AS_PROFILE: Content =
    Content { subject: None, usages: Usages::NONE, is_ca: false, name_constraints: NameConstraints::NONE };

/// A CSR says something else than the object that it is in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the CSR asks for {part} \"{csr}\", and the object that it is in for \"{object}\"; make them the same")]
pub struct EchoDiffers {
    /// Which part.
    pub part: &'static str,
    /// What the CSR says.
    pub csr: String,
    /// What the object says.
    pub object: String,
}

impl Content {
    /// What an object asks for whose own fields say usages and CA, with the subject of the CSR in it. A CSR that says
    /// nothing about a field echoes it.
    ///
    /// # Errors
    ///
    /// [`EchoDiffers`]. cert-manager's admission holds such CSRs off as well, where it runs.
    pub fn of_object(csr: &Csr, usages: Usages, is_ca: bool) -> Result<Self, EchoDiffers> {
        if let Some(asked) = csr.asks_for_ca()
            && asked != is_ca
        {
            let word = |ca: bool| (if ca { "CA:TRUE" } else { "CA:FALSE" }).to_owned();
            return Err(EchoDiffers { part: "basicConstraints", csr: word(asked), object: word(is_ca) });
        }
        let echoed = csr.requested_usages();
        if let Some(echoed) = &echoed.key_usages {
            // Where nothing is said, cert-manager and Kubernetes mean these two.
            const DEFAULT: [KeyUsage; 2] = [KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment];
            let nothing = usages.key_usages().is_empty() && usages.extended_key_usages().is_empty();
            let said = if nothing { DEFAULT.as_slice() } else { usages.key_usages() };
            let mut said: Vec<&str> = said.iter().map(|usage| usage.code()).collect();
            let mut echo = echoed.clone();
            if is_ca {
                // cert-manager adds keyCertSign to the CSR of a CA, whatever the object's usages are.
                let of_cas = |code: &&str| *code != KeyUsage::KeyCertSign.code();
                said.retain(of_cas);
                echo.retain(of_cas);
            }
            let sorted = |mut words: Vec<&'static str>| {
                words.sort_unstable();
                words.join(", ")
            };
            let (csr, object) = (sorted(echo), sorted(said));
            if csr != object {
                return Err(EchoDiffers { part: "keyUsage", csr, object });
            }
        }
        if !echoed.extended_key_usages.is_empty() {
            let sorted = |mut oids: Vec<String>| {
                oids.sort_unstable();
                oids.dedup();
                oids.join(", ")
            };
            let said = usages.extended_key_usages().iter().map(|usage: &ExtendedKeyUsage| usage.oid().to_string());
            let (csr, object) = (sorted(echoed.extended_key_usages.clone()), sorted(said.collect()));
            if csr != object {
                return Err(EchoDiffers { part: "extKeyUsage", csr, object });
            }
        }
        Ok(Self {
            subject: csr.requested_subject().cloned(),
            usages,
            is_ca,
            name_constraints: csr.requested_name_constraints().clone(),
        })
    }

    /// All of it as text, one line a part: the same for the same, whoever writes it.
    #[must_use]
    pub fn canonical(&self) -> String {
        let Self { subject, usages, is_ca, name_constraints } = self;
        let subject = subject.as_ref().map(|subject| hex::encode(subject.der())).unwrap_or_default();
        let usages: Vec<String> = usages.to_words().collect();
        let permitted = name_constraints.permitted().iter().map(|subtree| format!("+{subtree}"));
        let excluded = name_constraints.excluded().iter().map(|subtree| format!("-{subtree}"));
        let constraints: Vec<String> = permitted.chain(excluded).collect();
        format!("subject {subject}\nusages {}\nca {is_ca}\nconstraints {}\n", usages.join(","), constraints.join(","))
    }
}
