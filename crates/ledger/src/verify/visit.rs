//! What a walk hands on: the stream from which an inventory is rebuilt.

use crate::leaf::{
    Abandoned, AccountAgreed, AccountDeactivated, AccountKeyChanged, ApiToken, AuthorityInstalled, AuthorityRetired,
    CrlPublished, EabKey, Intent, PolicyActivated, Refusal, Restored, Revocation, Signature,
};

/// Hears every leaf that decodes and breaks no rule, in order, each once.
///
/// Every method does nothing unless it is written; an error ends the walk.
pub trait Visit {
    /// Why a walk is to end.
    type Error;

    /// A certificate was about to be signed.
    fn on_intent(&mut self, index: u64, intent: &Intent) -> Result<(), Self::Error> {
        let _ = (index, intent);
        Ok(())
    }

    /// It was signed; `certificate` is the whole of it in DER, its hash checked.
    fn on_signature(&mut self, index: u64, signature: &Signature, certificate: &[u8]) -> Result<(), Self::Error> {
        let _ = (index, signature, certificate);
        Ok(())
    }

    /// It was given up; its serial stays as possibly issued.
    fn on_abandoned(&mut self, index: u64, abandoned: &Abandoned) -> Result<(), Self::Error> {
        let _ = (index, abandoned);
        Ok(())
    }

    /// A request was refused.
    fn on_refusal(&mut self, index: u64, refusal: &Refusal) -> Result<(), Self::Error> {
        let _ = (index, refusal);
        Ok(())
    }

    /// A certificate was revoked, or the reason changed.
    fn on_revocation(&mut self, index: u64, revocation: &Revocation) -> Result<(), Self::Error> {
        let _ = (index, revocation);
        Ok(())
    }

    /// A CRL number was used.
    fn on_crl_published(&mut self, index: u64, crl: &CrlPublished) -> Result<(), Self::Error> {
        let _ = (index, crl);
        Ok(())
    }

    /// Something happened to an EAB key.
    fn on_eab_key(&mut self, index: u64, eab: &EabKey) -> Result<(), Self::Error> {
        let _ = (index, eab);
        Ok(())
    }

    /// Something happened to an API token.
    fn on_api_token(&mut self, index: u64, token: &ApiToken) -> Result<(), Self::Error> {
        let _ = (index, token);
        Ok(())
    }

    /// An account agreed to new terms of service.
    fn on_account_agreed(&mut self, index: u64, agreed: &AccountAgreed) -> Result<(), Self::Error> {
        let _ = (index, agreed);
        Ok(())
    }

    /// An account ended.
    fn on_account_deactivated(&mut self, index: u64, ended: &AccountDeactivated) -> Result<(), Self::Error> {
        let _ = (index, ended);
        Ok(())
    }

    /// An account has another key.
    fn on_account_key_changed(&mut self, index: u64, changed: &AccountKeyChanged) -> Result<(), Self::Error> {
        let _ = (index, changed);
        Ok(())
    }

    /// A policy took effect.
    fn on_policy_activated(&mut self, index: u64, policy: &PolicyActivated) -> Result<(), Self::Error> {
        let _ = (index, policy);
        Ok(())
    }

    /// An authority's certificate was installed.
    fn on_authority_installed(&mut self, index: u64, authority: &AuthorityInstalled) -> Result<(), Self::Error> {
        let _ = (index, authority);
        Ok(())
    }

    /// An authority's certificate was retired.
    fn on_authority_retired(&mut self, index: u64, authority: &AuthorityRetired) -> Result<(), Self::Error> {
        let _ = (index, authority);
        Ok(())
    }

    /// A backup was restored.
    fn on_restored(&mut self, index: u64, restored: &Restored) -> Result<(), Self::Error> {
        let _ = (index, restored);
        Ok(())
    }
}

/// Hears nothing: for a walk that only verifies.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unheard;

impl Visit for Unheard {
    type Error = std::convert::Infallible;
}
