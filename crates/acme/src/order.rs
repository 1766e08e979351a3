//! Orders (RFC 8555 §7.1.3) and the moves between their states (§7.1.6).
//!
//! Pure: no clock, no store, no network. A caller brings `now` and keeps the result.
//! An order never checks policy; see `policy` for who may have which names.

use chancery_pki::{NameSet, Timestamp};

use crate::{
    account::{DirectoryName, TenantName},
    authorization::{Authorization, AuthorizationStatus},
    id::{AccountId, AuthorizationId, CertificateId, OrderId},
    problem::Problem,
    renewal_info::UniqueIdentifier,
};

/// The name of a certificate profile (draft-ietf-acme-profiles).
pub type ProfileName = String;

/// What an account asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its identity, in its URL.
    pub id: OrderId,
    /// Whose it is.
    pub account: AccountId,
    /// The directory at which it was placed.
    pub directory: DirectoryName,
    /// The tenant whose directory it was, when it was placed.
    pub tenant: Option<TenantName>,
    /// The names; never change (§7.1.3).
    pub names: NameSet,
    /// The profile by which the certificate will be made.
    pub profile: ProfileName,
    /// The `notBefore` that was asked for.
    pub not_before: Option<Timestamp>,
    /// The `notAfter` that was asked for.
    pub not_after: Option<Timestamp>,
    /// The certificate that it replaces (RFC 9773 §5).
    pub replaces: Option<UniqueIdentifier>,
    /// Its authorizations, one a name; never change (§7.1.3).
    pub authorizations: Vec<AuthorizationId>,
    /// Where it stands.
    pub state: OrderState,
    /// When it was placed.
    pub created: Timestamp,
    /// When it ends unless it is valid by then.
    pub expires: Timestamp,
}

/// Where an order stands (RFC 8555 §7.1.6), with the facts that exist only there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderState {
    /// Not all authorizations are valid.
    Pending,
    /// All authorizations are valid; a CSR is awaited.
    Ready,
    /// The intent to issue is recorded.
    Processing {
        /// The certificate that is being issued.
        certificate: CertificateId,
    },
    /// The certificate is issued.
    Valid {
        /// The certificate.
        certificate: CertificateId,
    },
    /// It will never be issued.
    Invalid {
        /// Why.
        error: Problem,
    },
}

/// What `status` says on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// `pending`
    Pending,
    /// `ready`
    Ready,
    /// `processing`
    Processing,
    /// `valid`
    Valid,
    /// `invalid`
    Invalid,
}

/// Why a CSR is not taken (RFC 8555 §7.4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FinalizeRejection {
    /// The order is not `ready`.
    #[error("the order is {status}, and only a ready order can be finalized", status = status.as_str())]
    NotReady {
        /// Where it stands.
        status: OrderStatus,
    },
    /// The order has expired.
    #[error("the order expired at {expired}; place a new one")]
    Expired {
        /// When.
        expired: Timestamp,
    },
    /// CSR and order name different hosts.
    #[error("the CSR names {csr}, the order {order}")]
    NamesDiffer {
        /// What the CSR says.
        csr: String,
        /// What the order says.
        order: String,
    },
}

impl OrderStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ready => "ready",
            Self::Processing => "processing",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl Order {
    /// What the wire says at `now`: an order that expired before its certificate was on the way is invalid.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> OrderStatus {
        match &self.state {
            OrderState::Pending | OrderState::Ready if now >= self.expires => OrderStatus::Invalid,
            OrderState::Pending => OrderStatus::Pending,
            OrderState::Ready => OrderStatus::Ready,
            OrderState::Processing { .. } => OrderStatus::Processing,
            OrderState::Valid { .. } => OrderStatus::Valid,
            OrderState::Invalid { .. } => OrderStatus::Invalid,
        }
    }

    /// Follows its authorizations (§7.1.6): invalid as soon as one of them is, ready once all are valid.
    /// `authorizations` are all of this order's. Orders past `ready` stay as they are.
    #[must_use]
    pub fn follow<'a>(mut self, authorizations: impl IntoIterator<Item = &'a Authorization>, now: Timestamp) -> Self {
        if !matches!(self.status(now), OrderStatus::Pending | OrderStatus::Ready) {
            return self;
        }
        let mut all_valid = true;
        for authorization in authorizations {
            match authorization.status(now) {
                AuthorizationStatus::Valid => {}
                AuthorizationStatus::Pending => all_valid = false,
                ended @ (AuthorizationStatus::Invalid
                | AuthorizationStatus::Deactivated
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Revoked) => {
                    self.state = OrderState::Invalid { error: Problem::authorization_ended(authorization, ended) };
                    return self;
                }
            }
        }
        self.state = if all_valid { OrderState::Ready } else { OrderState::Pending };
        self
    }

    /// Accepts the names of a finalize request's CSR (RFC 8555 §7.4).
    ///
    /// # Errors
    ///
    /// [`FinalizeRejection`]; the order itself stays as it was.
    pub fn finalize(
        self,
        csr_names: &NameSet,
        certificate: CertificateId,
        now: Timestamp,
    ) -> Result<Self, FinalizeRejection> {
        if matches!(self.state, OrderState::Pending | OrderState::Ready) && now >= self.expires {
            return Err(FinalizeRejection::Expired { expired: self.expires });
        }
        let OrderState::Ready = self.state else {
            return Err(FinalizeRejection::NotReady { status: self.status(now) });
        };
        if *csr_names != self.names {
            return Err(FinalizeRejection::NamesDiffer { csr: csr_names.to_string(), order: self.names.to_string() });
        }
        Ok(Self { state: OrderState::Processing { certificate }, ..self })
    }

    /// The certificate is out.
    #[must_use]
    pub fn issued(self, certificate: CertificateId) -> Self {
        Self { state: OrderState::Valid { certificate }, ..self }
    }

    /// It will never be issued.
    #[must_use]
    pub fn failed(self, error: Problem) -> Self {
        Self { state: OrderState::Invalid { error }, ..self }
    }
}
