//! Nothing is issued by a clock that is in doubt (threat model TM15); everything else goes on.

use chancery_acme::order::OrderState;
use chancery_authority::{Failure, Refusal, place_order::PlaceOrder};
use chancery_testkit::office::{TestOffice, csr, names_of};

#[tokio::test]
async fn a_clock_in_doubt_stops_issuance_with_its_reason_and_reading_goes_on() {
    let ca = TestOffice::default();
    let account = ca.account().await;
    let order = ca.ready_order(&account, &["a.test"]).await;
    let signatures = ca.signer.signatures();
    ca.clock.doubt_because(Some("the clock went back"));

    let request = PlaceOrder { names: names_of(&["b.test"]), not_before: None, not_after: None, profile: None };
    let refusal = ca.office.place_order(&account, request).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Failed(Failure::Unavailable(why)) if why == "the clock went back"));
    let refusal = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Failed(Failure::Unavailable(why)) if why == "the clock went back"));
    assert_eq!(ca.signer.signatures(), signatures);
    let read = ca.office.order(account.id, order.id).await.unwrap().unwrap();
    assert_eq!(read.state, OrderState::Ready);

    ca.clock.doubt_because(None);
    let order = ca.office.finalize_order(&account, order.id, csr(&["a.test"])).await.unwrap();
    assert!(matches!(order.state, OrderState::Valid { .. }));
}
