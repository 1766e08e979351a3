//! newOrder, orders, finalize (RFC 8555 §7.4).

use chancery_acme::{
    id::OrderId,
    order::{Order, OrderState},
    wire::{self, Finalize, NewOrder},
};
use chancery_authority::place_order::PlaceOrder;
use chancery_pki::csr::Csr;
use http::StatusCode;

use super::{
    Acme, SOON_S,
    answer::Answer,
    directory::Known,
    front::{PostAsGet, Verified},
    problem::Fault,
};

/// Places an order.
pub(crate) async fn place(acme: &Acme, directory: &Known, request: Verified<NewOrder>) -> Result<Answer, Fault> {
    let wanted = PlaceOrder {
        names: request.body.names()?,
        not_before: request.body.not_before()?,
        not_after: request.body.not_after()?,
        replaces: request.body.replaces()?,
        profile: request.body.profile,
    };
    if let Err(wait) = acme.new_orders.take(request.by.id) {
        let detail = "this account places orders faster than it may";
        return Err(Fault::too_fast(detail, wait, acme.documentation.as_deref()));
    }
    let order = acme.office.place_order(&request.by, wanted).await?;
    tracing::info!(order.id = %order.id, account.id = %order.account, order.names = %order.names,
        order.profile = order.profile, "order placed");
    Ok(show(StatusCode::CREATED, acme, directory, &order))
}

/// Reads an order.
pub(crate) async fn order(
    acme: &Acme,
    directory: &Known,
    id: OrderId,
    request: Verified<PostAsGet>,
) -> Result<Answer, Fault> {
    let order = acme.office.order(request.by.id, id).await?.ok_or_else(|| Fault::not_found("order"))?;
    Ok(show(StatusCode::OK, acme, directory, &order))
}

/// Finalizes an order.
pub(crate) async fn finalize(
    acme: &Acme,
    directory: &Known,
    id: OrderId,
    request: Verified<Finalize>,
) -> Result<Answer, Fault> {
    let csr = Csr::from_der(&request.body.csr()?)?;
    let order = acme.office.finalize_order(&request.by, id, csr).await?;
    Ok(show(StatusCode::OK, acme, directory, &order))
}

/// The order with its own URL, which some clients poll (§7.4), and when to come back if it is on its way.
fn show(status: StatusCode, acme: &Acme, directory: &Known, order: &Order) -> Answer {
    let shape = wire::Order::of(order, acme.office.now(), &directory.urls);
    let answer = Answer::json(status, &shape).with_location(directory.urls.order(order.id));
    match order.state {
        OrderState::Processing { .. } => answer.with_retry_after(SOON_S),
        OrderState::Pending | OrderState::Ready | OrderState::Valid { .. } | OrderState::Invalid { .. } => answer,
    }
}
