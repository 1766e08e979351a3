//! Revocation (RFC 8555 §7.6): state, inventory and ledger in one commit.

use chancery_acme::{
    account::Account,
    authorization::AuthorizationStatus,
    id::{AccountId, CertificateId, OrderId},
};
use chancery_pki::{NameSet, PublicKey, SerialNumber, Timestamp, certificate::Certificate};

use crate::{
    changes::{Change, Changes, Put},
    failure::{Failure, Refusal},
    issue::certificate_id,
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{AuthorityId, CertificateRecord, CertificateState, Revocation, RevocationReason, Versioned},
};

/// Most orders of an account that are looked through for its authorizations.
const ORDERS_LOOKED_THROUGH: usize = 5_000;

/// Who wants a certificate revoked, proven.
#[derive(Debug, Clone)]
pub enum Revoker {
    /// An account: its own certificates, and those whose every name it has a valid authorization for.
    Account(Account),
    /// Whoever holds the certificate's own key.
    CertificateKey(PublicKey),
    /// The controller of the cluster that asked for it.
    Cluster {
        /// The cluster.
        name: String,
        /// The credential, in a few words.
        credential: String,
    },
    /// An operator at the local socket.
    Operator {
        /// Who, for the ledger.
        name: String,
    },
}

/// Why a certificate is not revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRejection {
    /// Not a certificate.
    #[error("the certificate cannot be read: {why}")]
    Unreadable {
        /// What is wrong with it.
        why: String,
    },
    /// None of ours.
    #[error("no authority of this server issued that certificate")]
    Unknown,
    /// Revoked already.
    #[error("the certificate was revoked at {at}")]
    AlreadyRevoked {
        /// When.
        at: Timestamp,
    },
    /// A reason that is not permitted.
    #[error("the revocation reason {given} is not permitted; permitted are {}", permitted_reasons())]
    BadReason {
        /// What was given.
        given: u64,
    },
    /// Not by this requester.
    #[error(
        "this key may not revoke that certificate: it takes the account that ordered it, an account that has proved control of all of its names, or the certificate's own key"
    )]
    NotPermitted,
    /// Its end has come already.
    #[error("the certificate ended at {at}, so there is nothing left to revoke")]
    Expired {
        /// When.
        at: Timestamp,
    },
}

fn permitted_reasons() -> String {
    RevocationReason::ALL.map(|reason| format!("{} ({})", reason.code(), reason.as_str())).join(", ")
}

impl Office {
    /// Revokes a certificate that was handed in whole.
    ///
    /// # Errors
    ///
    /// A [`RevokeRejection`], or [`Failure`].
    pub async fn revoke(
        &self,
        by: Revoker,
        certificate_der: &[u8],
        reason: Option<u64>,
    ) -> Result<(), Refusal<RevokeRejection>> {
        use RevokeRejection as R;
        let reason = check_reason(reason).map_err(Refusal::Rejected)?;
        let certificate = Certificate::from_der(certificate_der)
            .map_err(|error| Refusal::Rejected(R::Unreadable { why: error.to_string() }))?;
        let Some(serial) = certificate.serial_number() else {
            return Err(Refusal::Rejected(R::Unknown));
        };
        let found = self.store().certificate(certificate_id(serial)).await?.ok_or(Refusal::Rejected(R::Unknown))?;
        // The very bytes that we issued, not merely their serial number: else a forged certificate
        // with a key of the forger's would let him revoke ours.
        match self.issued(&found.value).await? {
            Some(ours) if ours == certificate_der => {}
            _ => return Err(Refusal::Rejected(R::Unknown)),
        }
        if !self.may_revoke(&by, &found.value).await? {
            return Err(Refusal::Rejected(R::NotPermitted));
        }
        self.revoke_record(found.value.id, reason, &by).await
    }

    /// Revokes by authority and serial number, an operator's way; what was only possibly issued can be revoked too.
    ///
    /// # Errors
    ///
    /// A [`RevokeRejection`], or [`Failure`].
    pub async fn revoke_serial(
        &self,
        authority: &AuthorityId,
        serial: SerialNumber,
        reason: Option<u64>,
        operator: String,
    ) -> Result<(), Refusal<RevokeRejection>> {
        let reason = check_reason(reason).map_err(Refusal::Rejected)?;
        let found = self.store().certificate(certificate_id(serial)).await?;
        match found {
            Some(found) if found.value.authority == *authority => {
                self.revoke_record(found.value.id, reason, &Revoker::Operator { name: operator }).await
            }
            _ => Err(Refusal::Rejected(RevokeRejection::Unknown)),
        }
    }

    /// Revokes a certificate that is known by its id, if whoever asks may.
    pub(crate) async fn revoke_by(
        &self,
        id: CertificateId,
        reason: Option<u64>,
        by: &Revoker,
    ) -> Result<(), Refusal<RevokeRejection>> {
        let reason = check_reason(reason).map_err(Refusal::Rejected)?;
        let found = self.store().certificate(id).await?.ok_or(Refusal::Rejected(RevokeRejection::Unknown))?;
        if !self.may_revoke(by, &found.value).await? {
            return Err(Refusal::Rejected(RevokeRejection::NotPermitted));
        }
        self.revoke_record(id, reason, by).await
    }

    async fn may_revoke(&self, by: &Revoker, record: &CertificateRecord) -> Result<bool, Failure> {
        match by {
            Revoker::Operator { .. } => Ok(true),
            Revoker::Cluster { name, .. } => Ok(record.origin.as_ref().is_some_and(|origin| origin.cluster == *name)),
            Revoker::CertificateKey(key) => Ok(key.digest() == record.key),
            Revoker::Account(account) if record.account == Some(account.id) => Ok(true),
            Revoker::Account(account) => self.is_authorized_for_all(account.id, &record.names).await,
        }
    }

    /// Whether an account has a valid authorization for every one of these names.
    async fn is_authorized_for_all(&self, account: AccountId, names: &NameSet) -> Result<bool, Failure> {
        let now = self.now();
        let mut missing: Vec<_> = names.iter().cloned().collect();
        let mut after: Option<OrderId> = None;
        let mut looked_through = 0;
        while looked_through < ORDERS_LOOKED_THROUGH {
            let page = self.store().orders_of(account, after, 100).await?;
            let Some(last) = page.last().copied() else { break };
            looked_through += page.len();
            for id in page {
                let Some(order) = self.store().order(id).await? else { continue };
                if !order.value.names.iter().any(|name| missing.contains(name)) {
                    continue;
                }
                for authorization in self.authorizations_of(&order.value).await? {
                    // Where a key stood in for a proof, nobody showed control of the name: enough for certificates of
                    // its own, and not to end somebody else's.
                    if authorization.value.status(now) == AuthorizationStatus::Valid
                        && !authorization.value.is_preauthorized()
                    {
                        missing.retain(|name| *name != authorization.value.name);
                    }
                }
                if missing.is_empty() {
                    return Ok(true);
                }
            }
            after = Some(last);
        }
        Ok(false)
    }

    async fn revoke_record(
        &self,
        id: CertificateId,
        reason: Option<RevocationReason>,
        by: &Revoker,
    ) -> Result<(), Refusal<RevokeRejection>> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().certificate(id).await? else {
                return Err(Refusal::Rejected(RevokeRejection::Unknown));
            };
            let now = self.now();
            if let Some(revocation) = loaded.value.revocation {
                return Err(Refusal::Rejected(RevokeRejection::AlreadyRevoked { at: revocation.at }));
            }
            let end = loaded.value.validity.not_after();
            if now.whole_seconds() > end {
                return Err(Refusal::Rejected(RevokeRejection::Expired { at: end }));
            }
            let revocation = Revocation { at: now, reason };
            match self.commit(revocation_changes(&loaded, revocation, by)).await {
                Ok(_) => {
                    tracing::info!(certificate.serial = %loaded.value.serial, certificate.names = %loaded.value.names,
                        reason = reason.map_or("none", RevocationReason::as_str), by = %revoked_by(by), "revoked");
                    return Ok(());
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// The bytes of a certificate that was issued, put together from its two leaves. `None` for
    /// one that has no durable signature.
    ///
    /// # Errors
    ///
    /// [`Failure`], for leaves that are damaged or gone too.
    pub async fn issued(&self, record: &CertificateRecord) -> Result<Option<Vec<u8>>, Failure> {
        let CertificateState::Issued { intent, signature } = record.state else {
            return Ok(None);
        };
        let intent = self.leaf_at(intent).await?;
        let signature = self.leaf_at(signature).await?;
        leaves::certificate(record.id, &intent, &signature).map(Some)
    }
}

fn check_reason(reason: Option<u64>) -> Result<Option<RevocationReason>, RevokeRejection> {
    match reason {
        None => Ok(None),
        Some(given) => RevocationReason::from_code(given).map(Some).ok_or(RevokeRejection::BadReason { given }),
    }
}

/// What stands in the ledger as the one who revoked.
fn revoked_by(by: &Revoker) -> String {
    match by {
        Revoker::Account(account) => format!("account {}", account.id),
        Revoker::CertificateKey(_) => "the certificate's key".to_owned(),
        Revoker::Cluster { name, credential } => format!("cluster {name}, {credential}"),
        Revoker::Operator { name } => format!("operator {name}"),
    }
}

fn revocation_changes(loaded: &Versioned<CertificateRecord>, revocation: Revocation, by: &Revoker) -> Changes {
    let revoked = CertificateRecord { revocation: Some(revocation), ..loaded.value.clone() };
    Changes::new()
        .with(Change::Certificate(Put::over(loaded, revoked)))
        .leaf(leaves::revocation(&loaded.value, revocation, &revoked_by(by)))
        .urgently()
}
