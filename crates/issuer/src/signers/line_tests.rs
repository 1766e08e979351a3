use k8s_openapi::api::core::v1::Pod;

use super::*;

const LIMITS: Limits = Limits { active: 100, concurrency: 4, each_issuer: 2 };
const FAST: RateLimit = RateLimit { requests_per_second: 10_000, burst: Some(10_000) };

fn object(uid: &str) -> Pod {
    let mut pod = Pod::default();
    pod.metadata.uid = Some(uid.to_owned());
    pod
}

fn issuer(name: &str) -> IssuerKey {
    IssuerKey { namespace: None, name: name.into() }
}

fn ready(names: &[&str]) -> HashMap<IssuerKey, RateLimit> {
    names.iter().map(|name| (issuer(name), FAST)).collect()
}

fn line(limits: Limits, names: &[&str]) -> Line<Pod> {
    let mut line = Line::new(limits);
    line.ready_are(&ready(names));
    line
}

fn job(line: &mut Line<Pod>, now: Instant) -> Option<Job<Pod>> {
    match line.next(now) {
        Next::Job(job) => Some(job),
        Next::Nothing(_) => None,
    }
}

/// The UIDs of what comes next, each ended at once.
fn order(line: &mut Line<Pod>, now: Instant) -> Vec<String> {
    std::iter::from_fn(|| {
        let job = job(line, now)?;
        line.finished(&job, &Done::Over, Asked::Answered, now);
        Some(job.uid.to_string())
    })
    .collect()
}

#[test]
fn those_who_ask_and_issuers_take_turns() {
    let mut line = line(LIMITS, &["a", "b"]);
    for number in 0..5 {
        line.observe(object(&format!("flood-{number}")), issuer("a"), "flood");
    }
    line.observe(object("quiet"), issuer("a"), "quiet");
    line.observe(object("other"), issuer("b"), "flood");
    let order = order(&mut line, Instant::now());
    let place = |uid: &str| order.iter().position(|one| one == uid).expect("it came");
    assert!(place("quiet") <= 3 && place("other") <= 1, "{order:?}");
    assert_eq!(order.len(), 7);
}

#[test]
fn one_issuer_takes_no_more_than_its_share() {
    let mut line = line(LIMITS, &["a", "b"]);
    for number in 0..5 {
        line.observe(object(&format!("a-{number}")), issuer("a"), "x");
    }
    line.observe(object("b-0"), issuer("b"), "x");
    let now = Instant::now();
    let jobs: Vec<_> = std::iter::from_fn(|| job(&mut line, now)).collect();
    let of_a: Vec<_> = jobs.iter().filter(|job| &*job.issuer.name == "a").collect();
    assert_eq!((of_a.len(), jobs.len()), (2, 3));
    line.finished(of_a.first().expect("two"), &Done::Over, Asked::Answered, now);
    assert!(job(&mut line, now).is_some());
}

#[test]
fn what_waits_for_its_issuer_goes_on_when_that_is_ready_and_was_told_once() {
    let mut line = line(LIMITS, &[]);
    let now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    let waits = job(&mut line, now).expect("to be told");
    assert!(!waits.told);
    line.finished(&waits, &Done::AwaitIssuer, Asked::Not, now);
    assert!(job(&mut line, now + Duration::from_secs(3600)).is_none());
    line.ready_are(&ready(&["b"]));
    assert!(job(&mut line, now).is_none());
    line.ready_are(&ready(&["a", "b"]));
    assert!(job(&mut line, now).expect("it is ready").told);
}

#[test]
fn a_lane_that_goes_gives_back_what_was_in_it() {
    let mut line = line(LIMITS, &["a"]);
    let now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    line.ready_are(&ready(&[]));
    let waits = job(&mut line, now).expect("to be told that it waits");
    line.finished(&waits, &Done::AwaitIssuer, Asked::Not, now);
    line.ready_are(&ready(&["a"]));
    assert!(job(&mut line, now).is_some());
}

#[test]
fn who_waits_for_an_issuer_that_is_said_to_be_ready_looks_again() {
    let mut line = line(LIMITS, &["a"]);
    let now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    let first = job(&mut line, now).expect("its turn");
    line.finished(&first, &Done::AwaitIssuer, Asked::Not, now);
    assert!(job(&mut line, now).is_none() && job(&mut line, now + AGAIN).is_some());
}

#[test]
fn what_has_its_outcome_is_not_signed_again_by_what_the_watch_shows_late() {
    let mut line = line(LIMITS, &["a"]);
    let now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    let first = job(&mut line, now).expect("its turn");
    line.observe(object("1"), issuer("a"), "x");
    assert!(job(&mut line, now).is_none(), "one task at a time");
    line.finished(&first, &Done::Over, Asked::Answered, now);
    line.observe(object("1"), issuer("a"), "x");
    assert!(job(&mut line, now).is_none());
    assert_eq!(line.len(), 0);
    line.observe(object("2"), issuer("a"), "x");
    line.forget("1");
    assert_eq!(line.len(), 1);
}

#[test]
fn a_failure_is_tried_again_later_and_many_open_the_breaker() {
    let mut line = line(LIMITS, &["a"]);
    let mut now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    for attempt in 0..8 {
        let job = job(&mut line, now).expect("its turn");
        assert_eq!(job.attempts, attempt);
        line.finished(&job, &Done::Later(None), Asked::Failed, now);
        assert!(self::job(&mut line, now).is_none());
        now += Duration::from_secs(120);
    }
    line.observe(object("2"), issuer("a"), "x");
    assert!(job(&mut line, now).is_some());
    assert!(job(&mut line, now).is_none(), "one probe");
}

#[test]
fn a_rate_is_kept_and_says_when_to_ask_again() {
    let mut line = Line::new(LIMITS);
    line.ready_are(&HashMap::from([(issuer("a"), RateLimit { requests_per_second: 1, burst: Some(1) })]));
    let now = Instant::now();
    line.observe(object("1"), issuer("a"), "x");
    line.observe(object("2"), issuer("a"), "x");
    assert!(job(&mut line, now).is_some());
    assert!(matches!(line.next(now), Next::Nothing(Some(until)) if until > now));
}

#[test]
fn what_is_too_much_is_left_out_until_there_is_room() {
    let mut line = line(Limits { active: 2, ..LIMITS }, &["a"]);
    let now = Instant::now();
    for uid in ["1", "2", "3"] {
        line.observe(object(uid), issuer("a"), "x");
    }
    assert!(line.has_left_out() && !line.wants_listing());
    line.forget("1");
    line.forget("2");
    assert!(line.wants_listing());
    line.listing_begins();
    line.observe(object("3"), issuer("a"), "x");
    line.listing_ends();
    assert_eq!(order(&mut line, now), ["3"]);
}

/// A line of four with `a` ready, full of what waits for `absent`.
fn full_of_what_waits(now: Instant) -> Line<Pod> {
    let mut line = line(Limits { active: 4, ..LIMITS }, &["a"]);
    for number in 0..4 {
        line.observe(object(&format!("waits-{number}")), issuer("absent"), "x");
    }
    for _ in 0..4 {
        let waits = job(&mut line, now).expect("to be told that it waits");
        line.finished(&waits, &Done::AwaitIssuer, Asked::Not, now);
    }
    line
}

#[test]
fn what_waits_for_its_issuer_makes_way_for_what_can_be_signed_and_for_nothing_else() {
    let now = Instant::now();
    let mut line = full_of_what_waits(now);
    line.observe(object("waits-too"), issuer("absent"), "y");
    assert!(job(&mut line, now).is_none(), "there is no room");
    assert!(!line.wants_listing(), "it would find no more room");
    line.observe(object("healthy"), issuer("a"), "x");
    assert_eq!(order(&mut line, now), ["healthy"]);
    assert!(line.has_left_out() && !line.wants_listing());
    // Its issuer is ready: three are still there, and a listing finds the others.
    line.forget("healthy");
    line.ready_are(&ready(&["a", "absent"]));
    assert_eq!(order(&mut line, now).len(), 3);
    assert!(line.wants_listing());
    line.listing_begins();
    assert!(!line.wants_listing());
}

#[test]
fn what_could_be_signed_and_was_left_out_is_found_when_others_have_come_to_wait() {
    let mut line = line(Limits { active: 4, ..LIMITS }, &["a"]);
    let now = Instant::now();
    for number in 0..4 {
        line.observe(object(&format!("waits-{number}")), issuer("absent"), "x");
    }
    let told: Vec<_> = std::iter::from_fn(|| job(&mut line, now)).collect();
    line.observe(object("healthy"), issuer("a"), "x");
    assert!(line.has_left_out() && !line.wants_listing(), "nobody waits yet");
    for waits in &told {
        line.finished(waits, &Done::AwaitIssuer, Asked::Not, now);
    }
    assert!(line.wants_listing());
    line.listing_begins();
    for number in 0..4 {
        line.observe(object(&format!("waits-{number}")), issuer("absent"), "x");
    }
    line.observe(object("healthy"), issuer("a"), "x");
    assert!(line.listing_ends().is_empty());
    assert_eq!(order(&mut line, now), ["healthy"]);
    assert!(!line.wants_listing(), "once");
}

#[test]
fn what_a_listing_does_not_show_is_gone_and_told_unless_it_had_its_outcome() {
    let mut line = line(LIMITS, &["a"]);
    let now = Instant::now();
    line.observe(object("over"), issuer("a"), "x");
    let first = job(&mut line, now).expect("its turn");
    line.finished(&first, &Done::Over, Asked::Answered, now);
    line.observe(object("waits"), issuer("a"), "y");
    line.listing_begins();
    assert_eq!(line.listing_ends(), [("waits".into(), "y".into(), issuer("a"))]);
    assert!(job(&mut line, now).is_none());
    assert_eq!(line.len(), 0);
}
