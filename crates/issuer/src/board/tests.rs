use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{condition::Outcome, resource::RateLimit};

fn limits() -> Limits {
    Limits { active: 1000, concurrency: 100, rate: RateLimit { requests_per_second: 10_000, burst: Some(10_000) } }
}

fn request(uid: &str, namespace: &str, version: u64, conditions: &[(&str, &str, &str)]) -> CertificateRequest {
    let conditions: Vec<_> = conditions
        .iter()
        .map(|(type_, status, reason)| json!({ "type": type_, "status": status, "reason": reason }))
        .collect();
    serde_json::from_value(json!({
        "metadata": { "name": uid, "namespace": namespace, "uid": uid, "resourceVersion": version.to_string() },
        "spec": {
            "request": "",
            "issuerRef": { "name": "corp", "kind": "ChanceryClusterIssuer", "group": "chancery.dev" },
        },
        "status": { "conditions": conditions },
    }))
    .expect("a request")
}

const APPROVED: (&str, &str, &str) = ("Approved", "True", "x");

/// For an issuer of its own namespace.
fn for_issuer(uid: &str, namespace: &str, issuer: &str) -> CertificateRequest {
    let mut request = approved(uid, namespace);
    request.spec.issuer_ref.name = issuer.to_owned();
    request.spec.issuer_ref.kind = "ChanceryIssuer".to_owned();
    request
}

fn issuer(namespace: &str, name: &str) -> IssuerKey {
    IssuerKey { namespace: Some(namespace.into()), name: name.into() }
}

fn approved(uid: &str, namespace: &str) -> CertificateRequest {
    request(uid, namespace, 1, &[APPROVED])
}

fn corp() -> IssuerKey {
    IssuerKey { namespace: None, name: "corp".into() }
}

fn ready() -> Board {
    let mut board = Board::new(limits());
    board.issuer_is(&corp(), IssuerState::Ready, None);
    board
}

fn job(board: &mut Board, now: Instant) -> Job {
    match board.next(now) {
        Next::Job(job) => job,
        Next::Nothing(until) => panic!("there is nothing to do until {until:?}"),
    }
}

fn idle(board: &mut Board, now: Instant) -> bool {
    matches!(board.next(now), Next::Nothing(_))
}

#[test]
fn an_approved_request_is_handed_out_once() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(approved("u", "a"), now);
    let first = job(&mut board, now);
    assert_eq!(first.step, Step::Sign);
    assert!(idle(&mut board, now));
    // A label changes while it is under way.
    board.observe(request("u", "a", 2, &[APPROVED]), now);
    assert!(idle(&mut board, now), "one task at a time");
    board.finished(&first, Done::Finished, Asked::Answered, now);
    // The watch is behind: it shows what was before the outcome.
    board.observe(request("u", "a", 3, &[APPROVED]), now);
    assert!(idle(&mut board, now), "what has its outcome is not signed again");
    board.observe(request("u", "a", 4, &[APPROVED, ("Ready", "True", "Issued")]), now);
    assert_eq!(board.counts(), Counts::default(), "nothing is kept of it");
}

#[test]
fn an_unapproved_request_waits_for_its_approval() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(request("u", "a", 1, &[]), now);
    assert!(idle(&mut board, now));
    board.observe(request("u", "a", 2, &[APPROVED]), now);
    assert_eq!(job(&mut board, now).step, Step::Sign);
}

#[test]
fn requests_that_wait_for_an_issuer_are_woken_by_it_and_by_nothing_else() {
    let (mut board, now) = (Board::new(limits()), Instant::now());
    board.observe(approved("u", "a"), now);
    let told = job(&mut board, now);
    let Step::AwaitIssuer(Some(outcome)) = &told.step else { panic!("{:?}", told.step) };
    let mut whole = serde_json::to_value(&*told.request).expect("JSON");
    let patch = outcome.patch(&told.request, crate::clock::now()).expect("a patch");
    json_patch::patch(&mut whole, &patch).expect("it applies");
    whole["metadata"]["resourceVersion"] = json!("2");
    let fresh: CertificateRequest = serde_json::from_value(whole).expect("a request");
    board.finished(&told, Done::Again(Arc::new(fresh)), Asked::Not, now);
    assert!(matches!(board.next(now), Next::Nothing(None)), "no timer");
    board.issuer_is(&IssuerKey { namespace: Some("a".into()), name: "corp".into() }, IssuerState::Ready, None);
    assert!(idle(&mut board, now), "another issuer");
    board.issuer_is(&corp(), IssuerState::Unchecked, None);
    assert!(idle(&mut board, now), "it was told to wait already");
    board.issuer_is(&corp(), IssuerState::Ready, None);
    assert_eq!(job(&mut board, now).step, Step::Sign);
}

#[test]
fn what_is_queued_for_an_issuer_that_turns_bad_is_told_so_and_not_signed() {
    let (mut board, now) = (ready(), Instant::now());
    for number in 0..3 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    board.issuer_is(&corp(), IssuerState::NotReady { message: "the token is refused".to_owned() }, None);
    for _ in 0..3 {
        assert!(matches!(job(&mut board, now).step, Step::AwaitIssuer(Some(Outcome::Pending { .. }))));
    }
    assert!(idle(&mut board, now));
}

#[test]
fn a_denial_that_comes_while_it_is_queued_wins() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(approved("u", "a"), now);
    board.observe(request("u", "a", 2, &[APPROVED, ("Denied", "True", "x")]), now);
    assert_eq!(job(&mut board, now).step, Step::Write(Outcome::Denied));
    assert!(idle(&mut board, now));
}

#[test]
fn a_denial_that_comes_while_it_is_delayed_wins_at_once() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(approved("u", "a"), now);
    let first = job(&mut board, now);
    board.finished(&first, Done::Later(Some(Duration::from_secs(600)), None), Asked::Failed, now);
    board.observe(request("u", "a", 2, &[APPROVED, ("Denied", "True", "x")]), now);
    assert_eq!(job(&mut board, now).step, Step::Write(Outcome::Denied));
}

#[test]
fn a_retry_comes_when_its_time_has_come_and_a_label_does_not_hasten_it() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(approved("u", "a"), now);
    let first = job(&mut board, now);
    board.finished(&first, Done::Later(Some(Duration::from_secs(7)), None), Asked::Answered, now);
    board.observe(request("u", "a", 2, &[APPROVED]), now);
    let until = now + Duration::from_secs(7);
    assert!(matches!(board.next(now), Next::Nothing(Some(at)) if at == until));
    let again = job(&mut board, until);
    assert_eq!((again.step, again.attempts), (Step::Sign, 1));
}

#[test]
fn namespaces_take_turns_whoever_came_first() {
    let (mut board, now) = (ready(), Instant::now());
    for number in 0..500 {
        board.observe(approved(&format!("flood-{number}"), "flood"), now);
    }
    board.observe(approved("quiet", "quiet"), now);
    let namespaces: Vec<_> =
        (0..3).map(|_| job(&mut board, now).request.metadata.namespace.clone().expect("one")).collect();
    assert_eq!(namespaces, ["flood", "quiet", "flood"]);
}

#[test]
fn an_issuer_is_not_asked_faster_than_its_limit() {
    let mut board = Board::new(Limits { rate: RateLimit { requests_per_second: 20, burst: Some(2) }, ..limits() });
    let now = Instant::now();
    board.issuer_is(&corp(), IssuerState::Ready, None);
    for number in 0..10 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    let (_first, _second) = (job(&mut board, now), job(&mut board, now));
    let Next::Nothing(Some(until)) = board.next(now) else { panic!("the bucket is empty") };
    assert!(until - now <= Duration::from_millis(60), "{:?}", until - now);
    assert_eq!(board.counts().queued, 8, "nothing is lost");
}

#[test]
fn no_more_are_worked_on_than_allowed() {
    let mut board = Board::new(Limits { concurrency: 4, ..limits() });
    let now = Instant::now();
    board.issuer_is(&corp(), IssuerState::Ready, None);
    for number in 0..5 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    let first = job(&mut board, now);
    let _second = job(&mut board, now);
    assert!(idle(&mut board, now), "half of the places is for other issuers");
    board.finished(&first, Done::Finished, Asked::Answered, now);
    job(&mut board, now);
}

#[test]
fn a_server_that_fails_again_and_again_is_asked_by_one_at_a_time() {
    let (mut board, now) = (ready(), Instant::now());
    for number in 0..20 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    let jobs: Vec<_> = (0..5).map(|_| job(&mut board, now)).collect();
    for job in &jobs {
        board.finished(job, Done::Later(Some(Duration::from_secs(60)), None), Asked::Failed, now);
    }
    let Next::Nothing(Some(until)) = board.next(now) else { panic!("the breaker is open") };
    let probe = job(&mut board, until);
    assert!(idle(&mut board, until), "one probe");
    board.finished(&probe, Done::Finished, Asked::Answered, until);
    let _both = (job(&mut board, until), job(&mut board, until));
}

#[test]
fn a_listing_forgets_what_it_does_not_show() {
    let (mut board, now) = (Board::new(limits()), Instant::now());
    board.observe(approved("old", "a"), now);
    board.listing_begins();
    board.observe(approved("new", "a"), now);
    let gone: Vec<_> = board.listing_ends().iter().map(|gone| gone.metadata.uid.clone()).collect();
    assert_eq!((board.counts().active, gone), (1, vec![Some("old".to_owned())]));
}

#[test]
fn what_there_is_no_room_for_is_found_by_a_later_listing() {
    let mut board = Board::new(Limits { active: 4, ..limits() });
    let now = Instant::now();
    board.issuer_is(&corp(), IssuerState::Ready, None);
    for number in 0..6 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    assert_eq!((board.counts().active, board.counts().left_out), (4, 2));
    assert!(!board.wants_listing());
    for number in 0..4 {
        let job = job(&mut board, now);
        board.finished(&job, Done::Finished, Asked::Answered, now);
        board.observe(request(&job.uid, "a", 9 + number, &[APPROVED, ("Ready", "True", "Issued")]), now);
    }
    assert!(board.wants_listing());
}

#[test]
fn an_object_that_is_gone_is_forgotten_wherever_it_was() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(approved("queued", "a"), now);
    board.observe(approved("running", "b"), now);
    board.forget("queued");
    let running = job(&mut board, now);
    assert_eq!(&*running.uid, "running");
    board.forget("running");
    board.finished(&running, Done::Later(None, None), Asked::Answered, now);
    assert!(matches!(board.next(now), Next::Nothing(None)));
    assert_eq!(board.counts(), Counts::default());
}

#[test]
fn what_was_to_be_told_and_need_not_be_any_more_waits_on_for_its_issuer() {
    let (mut board, now) = (ready(), Instant::now());
    board.issuer_is(&corp(), IssuerState::NotReady { message: "its server is down".to_owned() }, None);
    let pending = request("a", "default", 1, &[APPROVED, ("Ready", "False", "Pending")]);
    board.observe(pending, now);
    // Its status says something else, so a write was owed; before its turn the issuer is looked at anew.
    board.issuer_is(&corp(), IssuerState::Unchecked, None);
    assert!(idle(&mut board, now), "whoever is pending is told nothing about an issuer that is just being checked");
    board.issuer_is(&corp(), IssuerState::Ready, None);
    assert_eq!(job(&mut board, now).step, Step::Sign);
}

#[test]
fn a_request_that_nobody_has_approved_takes_no_room() {
    let (mut board, now) = (ready(), Instant::now());
    board.observe(request("u", "a", 1, &[]), now);
    assert_eq!(board.counts(), Counts::default());
}

#[test]
fn a_tenant_whose_requests_wait_for_an_issuer_that_does_not_exist_shuts_nobody_out() {
    let mut board = Board::new(Limits { active: 100, ..limits() });
    let now = Instant::now();
    board.issuer_is(&corp(), IssuerState::Ready, None);
    board.issuer_is(&issuer("flood", "hopeless"), IssuerState::Unchecked, None);
    for number in 0..150 {
        let mut waits = for_issuer(&format!("flood-{number}"), "flood", "hopeless");
        waits.status = request("", "", 1, &[APPROVED, ("Ready", "False", "Pending")]).status;
        board.observe(waits, now);
    }
    assert_eq!((board.counts().waiting, board.left_out()), (100, 50));
    for number in 0..30 {
        board.observe(approved(&format!("quiet-{number}"), "quiet"), now);
    }
    let mut signs = 0;
    while let Next::Job(job) = board.next(now) {
        assert_eq!(job.step, Step::Sign);
        signs += 1;
    }
    assert_eq!(signs, 30);
    // What can be signed has room in a namespace whose other requests wait.
    board.observe(approved("good", "flood"), now);
    assert_eq!(board.counts().active, 100);
    assert_eq!(job(&mut board, now).request.metadata.name.as_deref(), Some("good"));
}

#[test]
fn what_was_left_out_is_looked_for_when_its_issuer_is_ready() {
    let mut board = Board::new(Limits { active: 4, ..limits() });
    let now = Instant::now();
    for number in 0..6 {
        board.observe(approved(&number.to_string(), "a"), now);
    }
    assert!(board.left_out() == 2 && !board.wants_listing(), "a listing would find the same");
    board.issuer_is(&corp(), IssuerState::Ready, None);
    assert!(board.wants_listing());
    board.listing_begins();
    assert!(!board.wants_listing());
}

#[test]
fn a_large_request_takes_the_room_of_several() {
    let mut board = Board::new(Limits { active: 20, ..limits() });
    let now = Instant::now();
    for number in 0..3 {
        let mut request = approved(&number.to_string(), "a");
        request.spec.request.0 = vec![b'x'; 32 << 10];
        board.observe(request, now);
    }
    assert_eq!((board.counts().active, board.left_out()), (2, 1));
    // Room is made for whoever has less, and what was taken is given back.
    for number in 0..11 {
        board.observe(approved(&format!("b-{number}"), "b"), now);
    }
    assert_eq!(board.counts().active, 1 + 11);
}

#[test]
fn a_namespace_has_one_turn_however_many_issuers_it_has() {
    let (mut board, now) = (ready(), Instant::now());
    for lane in 0..50 {
        board.issuer_is(&issuer("flood", &format!("i-{lane}")), IssuerState::Ready, None);
        for number in 0..4 {
            board.observe(for_issuer(&format!("flood-{lane}-{number}"), "flood", &format!("i-{lane}")), now);
        }
    }
    for number in 0..4 {
        board.observe(approved(&format!("flood-{number}"), "flood"), now);
        board.observe(approved(&format!("quiet-{number}"), "quiet"), now);
        board.observe(approved(&format!("calm-{number}"), "calm"), now);
    }
    let mut turns = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..12 {
        *turns.entry(job(&mut board, now).request.metadata.namespace.clone().expect("one")).or_default() += 1;
    }
    assert_eq!(turns.into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[test]
fn a_server_that_hangs_leaves_places_for_others_and_for_what_is_only_written() {
    let mut board = Board::new(Limits { concurrency: 8, ..limits() });
    let now = Instant::now();
    for name in ["hangs", "too"] {
        board.issuer_is(&issuer("a", name), IssuerState::Ready, None);
        for number in 0..20 {
            board.observe(for_issuer(&format!("{name}-{number}"), "a", name), now);
        }
    }
    let mut under_way = 0;
    while let Next::Job(job) = board.next(now) {
        assert_eq!(job.step, Step::Sign);
        under_way += 1;
    }
    assert!(under_way < 8, "{under_way} of 8");
    board.issuer_is(&corp(), IssuerState::Ready, None);
    board.observe(approved("u", "b"), now);
    assert_eq!(&*job(&mut board, now).uid, "u");
    board.observe(request("denied", "b", 1, &[("Denied", "True", "x")]), now);
    assert_eq!(job(&mut board, now).step, Step::Write(Outcome::Denied));
}

#[test]
fn an_issuer_of_a_namespace_only_lowers_the_controllers_limit() {
    let controller = RateLimit { requests_per_second: 100, burst: Some(50) };
    let own = |each_second, burst| Some(RateLimit { requests_per_second: each_second, burst });
    let limited = |own, is_tenants| lane::rate(own, controller, is_tenants);
    assert_eq!(limited(own(10_000, None), true), controller);
    assert_eq!(limited(own(10, None), true), RateLimit { requests_per_second: 10, burst: Some(10) });
    assert_eq!(limited(own(10_000, None), false).requests_per_second, 10_000, "the operator's own");
    assert_eq!(limited(None, true), controller);
}

#[test]
fn each_text_whose_length_somebody_chooses_takes_room() {
    let usual = approved("u", "a");
    assert_eq!(shares::cost(&usual), 1);
    let long = "x".repeat(100_000);
    let fewest = 100_000 / shares::UNIT;
    let heavy = |change: &dyn Fn(&mut CertificateRequest)| {
        let mut request = usual.clone();
        change(&mut request);
        shares::cost(&request)
    };
    let owner = |name: &str| k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference {
        name: name.to_owned(),
        ..Default::default()
    };
    for (what, cost) in [
        ("issuer", heavy(&|request| request.spec.issuer_ref.name.clone_from(&long))),
        ("duration", heavy(&|request| request.spec.duration = Some(long.clone()))),
        ("username", heavy(&|request| request.spec.username.clone_from(&long))),
        ("groups", heavy(&|request| request.spec.groups = vec![long.clone()])),
        ("usages", heavy(&|request| request.spec.usages = vec!["any".to_owned(); 2000])),
        ("owner", heavy(&|request| request.metadata.owner_references = Some(vec![owner(&long)]))),
    ] {
        assert!(cost >= fewest, "{what}: {cost}");
    }
}
