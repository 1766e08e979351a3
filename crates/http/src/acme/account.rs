//! newAccount, accounts and their orders (RFC 8555 §7.3, §7.1.2.1).

use chancery_acme::{
    account::Account,
    id::{AccountId, OrderId},
    problem::ProblemType,
    wire::{self, AccountUpdate, NewAccount},
};
use chancery_authority::{
    Refusal,
    change_key::KeyChangeRejection,
    register_account::{PresentedBinding, RegisterAccount},
};
use chancery_pki::PublicKey;
use http::StatusCode;

use super::{
    Acme,
    answer::Answer,
    directory::Known,
    front::{NewKey, PostAsGet, Verified},
    problem::Fault,
    rates::bucket_of,
};
use crate::acme::ClientAddress;

/// Orders that are looked at for one page of an account's list.
const PAGE: usize = 100;

/// Finds or makes the account of the key that signed.
pub(crate) async fn register(
    acme: &Acme,
    directory: &Known,
    client: Option<ClientAddress>,
    request: Verified<NewAccount, PublicKey>,
) -> Result<Answer, Fault> {
    let NewAccount { contact, terms_of_service_agreed, only_return_existing, external_account_binding } = request.body;
    let only_existing = only_return_existing.unwrap_or(false);
    if let (Some(ClientAddress(address)), false) = (client, only_existing)
        && acme.office.account_by_key(&directory.name, &request.by.digest()).await?.is_none()
        && let Err(wait) = acme.new_accounts.take(bucket_of(address))
    {
        let detail = "too many new accounts from your address; reuse the account you have";
        return Err(Fault::too_fast(detail, wait, acme.documentation.as_deref()));
    }
    let registered = acme
        .office
        .register_account(RegisterAccount {
            directory: directory.name.clone(),
            key: request.by,
            contacts: contact.unwrap_or_default(),
            terms_agreed: terms_of_service_agreed.unwrap_or(false),
            only_existing,
            binding: external_account_binding
                .map(|binding| PresentedBinding { text: binding.get().to_owned(), url: directory.urls.new_account() }),
        })
        .await?;
    let account = &registered.account;
    let status = if registered.created { StatusCode::CREATED } else { StatusCode::OK };
    if registered.created {
        let eab = account.external.as_ref().map(|external| external.key_id.as_str());
        tracing::info!(account.id = %account.id, acme.directory = directory.name, key.kind = %account.key.kind(), eab.key = eab, "account made");
    }
    Ok(show(status, account, directory).with_location(directory.urls.account(account.id)))
}

/// Reads, changes or ends an account.
pub(crate) async fn account(
    acme: &Acme,
    directory: &Known,
    id: AccountId,
    request: Verified<Option<AccountUpdate>>,
) -> Result<Answer, Fault> {
    own(&request.by, id)?;
    let Some(AccountUpdate { contact, terms_of_service_agreed, status }) = request.body else {
        return Ok(show(StatusCode::OK, &request.by, directory));
    };
    let account = match status.as_deref() {
        Some("deactivated") => {
            let account = acme.office.deactivate_account(id).await?;
            tracing::info!(account.id = %id, "account deactivated by its holder");
            account
        }
        None | Some("valid") => {
            acme.office.update_account(id, contact, terms_of_service_agreed.unwrap_or(false)).await?
        }
        Some(_) => {
            return Err(Fault::new(ProblemType::Malformed, "the one status that can be asked for is \"deactivated\""));
        }
    };
    Ok(show(StatusCode::OK, &account, directory))
}

/// Gives an account another key.
pub(crate) async fn change_key(acme: &Acme, directory: &Known, request: Verified<NewKey>) -> Result<Answer, Fault> {
    let (id, NewKey { old, key }) = (request.by.id, request.body);
    let account = match acme.office.change_account_key(id, &old, &key).await {
        Ok(account) => account,
        Err(Refusal::Rejected(KeyChangeRejection::Taken { account })) => {
            let fault = Fault::from(KeyChangeRejection::Taken { account });
            return Err(fault.with_location(directory.urls.account(account)));
        }
        Err(refused) => return Err(refused.into()),
    };
    tracing::info!(account.id = %id, key.kind = %key.kind(), "the account has another key, by its holder's wish");
    Ok(show(StatusCode::OK, &account, directory))
}

/// A page of an account's orders.
pub(crate) async fn orders(
    acme: &Acme,
    directory: &Known,
    id: AccountId,
    after: Option<OrderId>,
    request: Verified<PostAsGet>,
) -> Result<Answer, Fault> {
    own(&request.by, id)?;
    let page = acme.office.orders(id, after, PAGE).await?;
    let list = wire::Orders { orders: page.orders.iter().map(|order| directory.urls.order(*order)).collect() };
    let answer = Answer::json(StatusCode::OK, &list);
    Ok(match page.next {
        Some(last) => answer.with_link(&directory.urls.orders_after(id, last), "next"),
        None => answer,
    })
}

fn own(account: &Account, id: AccountId) -> Result<(), Fault> {
    if account.id == id {
        Ok(())
    } else {
        Err(Fault::new(ProblemType::Unauthorized, "an account's resources answer to that account alone"))
    }
}

fn show(status: StatusCode, account: &Account, directory: &Known) -> Answer {
    Answer::json(status, &wire::Account::of(account, &directory.urls))
}
