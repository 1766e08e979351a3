//! Renewal information (RFC 9773): when the certificates of ACME directories are best replaced, and what an order may say
//! that it replaces.
//!
//! A certificate is told about at every directory of this server, to whoever can name it: with its serial number one
//! learns from CRL and ledger as much. Those of other doors are not: nobody could order their replacement here.

use chancery_acme::{
    account::Account,
    order::{Order, OrderStatus},
    renewal_info::{RenewalInfo, SuggestedWindow, UniqueIdentifier},
};
use chancery_pki::{Timestamp, certificate::Certificate};

use crate::{
    changes::{Change, Put},
    failure::{Failure, Refusal},
    issue::{certificate_id, is_above},
    office::Office,
    place_order::PlaceOrderRejection,
    records::{CertificateRecord, Versioned},
    settings::Settings,
};

/// A certificate that was ordered at a directory of this server, found by its unique identifier.
struct Named {
    record: Versioned<CertificateRecord>,
    /// Until when the longest chain above it lasts; none where its issuer is configured no more.
    chain_until: Option<Timestamp>,
}

impl Office {
    /// When a certificate is best replaced; `None` for one that was not ordered at a directory of this server.
    ///
    /// The usual window lies around two thirds of its life. It is over at once where waiting would be wrong: the
    /// certificate is revoked; its issuer was taken out of the configuration; or it ends with its issuer, earlier than it
    /// would have to, and what is ordered now is issued by one that lasts longer.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn renewal_info(&self, asked: &UniqueIdentifier) -> Result<Option<RenewalInfo>, Failure> {
        let settings = self.settings();
        let Some(Named { record, chain_until }) = self.named(&settings, asked).await? else { return Ok(None) };
        let record = record.value;
        let (first, last) = (record.validity.not_before(), record.validity.not_after());
        let window = match chain_until {
            Some(until) if record.revocation.is_none() && !self.cut_needlessly(&settings, &record, until).await? => {
                // What is dated back was of no use to anybody before it was made.
                SuggestedWindow::usual(first.max(record.recorded), last.min(until))
            }
            Some(_) | None => SuggestedWindow::over(first),
        };
        Ok(Some(RenewalInfo::new(window, last.since(first))))
    }

    /// The certificate of this identifier: its record is found by its serial number, and what the ledger has of it says
    /// who issued it.
    async fn named(&self, settings: &Settings, asked: &UniqueIdentifier) -> Result<Option<Named>, Failure> {
        let Some(serial) = asked.serial() else { return Ok(None) };
        let found = self.store().certificate(certificate_id(serial)).await?;
        let ordered = |record: &CertificateRecord| record.order.is_some() && record.serial == serial;
        let Some(record) = found.filter(|found| ordered(&found.value)) else { return Ok(None) };
        let Some(der) = self.issued(&record.value).await? else { return Ok(None) };
        let certificate = Certificate::from_der(&der)
            .map_err(|error| Failure::Internal(format!("certificate {serial} cannot be read: {error}")))?;
        if certificate.authority_key_identifier() != Some(asked.key_identifier()) {
            return Ok(None);
        }
        // Of any authority: one may have got another name since, or its certificate have gone to another one.
        let all = settings.authorities.iter().flat_map(|authority| &authority.chains);
        let above = all.filter(|chain| is_above(chain.issuing(), &certificate));
        let chain_until = above.map(|chain| chain.not_after()).max();
        Ok(Some(Named { record, chain_until }))
    }

    /// Whether a certificate ends with the chain above it, and what its directory issues now would last longer.
    async fn cut_needlessly(
        &self,
        settings: &Settings,
        record: &CertificateRecord,
        chain_until: Timestamp,
    ) -> Result<bool, Failure> {
        let end = record.validity.not_after();
        if chain_until > end {
            return Ok(false);
        }
        let Some(order) = record.order else { return Ok(false) };
        let Some(order) = self.store().order(order).await? else { return Ok(false) };
        let directory = settings.directories.get(&order.value.directory);
        let authority = directory.and_then(|directory| settings.authority(&directory.authority));
        let now = self.now();
        Ok(authority.and_then(|authority| authority.current(now)).is_some_and(|(_, chain)| chain.not_after() > end))
    }

    /// What marks the certificate that an order replaces, if it may (RFC 9773 §5). The mark is on the certificate's record,
    /// so that of orders at once one sets it; it holds as long as its order is there and not invalid, and so needs nobody
    /// to take it away.
    pub(crate) async fn replacement(
        &self,
        settings: &Settings,
        account: &Account,
        order: &Order,
        asked: &UniqueIdentifier,
    ) -> Result<Change, Refusal<PlaceOrderRejection>> {
        use PlaceOrderRejection as R;
        let named = self.named(settings, asked).await?.map(|named| named.record);
        // Another account's is told in the same words as one that there is not.
        let own = named.filter(|record| record.value.account == Some(account.id));
        let replaced = own.ok_or(Refusal::Rejected(R::NothingToReplace))?;
        if !order.names.iter().any(|name| replaced.value.names.contains(name)) {
            return Err(Refusal::Rejected(R::NothingInCommon));
        }
        if let Some(other) = replaced.value.replaced_by
            && let Some(other) = self.store().order(other).await?
            && other.value.status(order.created) != OrderStatus::Invalid
        {
            return Err(Refusal::Rejected(R::AlreadyReplaced));
        }
        let marked = CertificateRecord { replaced_by: Some(order.id), ..replaced.value.clone() };
        Ok(Change::Certificate(Put::over(&replaced, marked)))
    }
}
