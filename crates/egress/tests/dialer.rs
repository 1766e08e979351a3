//! The dialer against real sockets on loopback and a DNS server of the test's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

#[path = "support/dns.rs"]
mod dns;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chancery_egress::{DialError, DialSettings, Dialer, Host, LookupFailure, Origin, Why, ZoneSpec, ZoneTable};
use dns::{FakeDns, Reply, Transport, address, cname, txt};
use hickory_proto::{op::ResponseCode, rr::RecordType};
use tokio::{net::TcpListener, time::Instant};

/// Far enough that no test reaches it.
fn later() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn dialer(resolver: SocketAddr, allow: &[&str], settings: DialSettings) -> Dialer {
    let spec = ZoneSpec {
        name: "default".to_owned(),
        allow: allow.iter().map(|range| range.parse().unwrap()).collect(),
        resolvers: vec![resolver],
        ..ZoneSpec::default()
    };
    Dialer::new(ZoneTable::new([spec]).unwrap(), settings)
}

fn local(dns: &FakeDns) -> Dialer {
    dialer(dns.address, &["127.0.0.0/8", "::1/128"], DialSettings::default())
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn dial(dialer: &Dialer, host: &str, port: u16) -> Result<SocketAddr, DialError> {
    dialer.dial(&host.parse().unwrap(), port, later()).await.map(|connection| connection.peer())
}

fn failure(error: DialError) -> LookupFailure {
    match error {
        DialError::Lookup(error) => error.failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_name_is_resolved_once_for_each_family_and_that_address_is_dialled() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::with(vec![address("a.example", "127.0.0.1")]).await;
    let peer = dial(&local(&dns), "a.example", port).await.unwrap();
    assert_eq!(peer, SocketAddr::from(([127, 0, 0, 1], port)));
    let mut kinds: Vec<_> = dns.seen().into_iter().map(|question| (question.name, question.kind)).collect();
    kinds.sort_by_key(|(_, kind)| u16::from(*kind));
    assert_eq!(kinds, [("a.example".to_owned(), RecordType::A), ("a.example".to_owned(), RecordType::AAAA)]);
}

#[tokio::test]
async fn nothing_is_cached() {
    let (_listener, port) = listener().await;
    let moved = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&moved);
    let dns = FakeDns::start(move |question| match (question.kind, now.load(Ordering::SeqCst)) {
        (RecordType::A, false) => Reply::Records(vec![address("a.example", "127.0.0.1")]),
        (RecordType::A, true) => Reply::Records(vec![address("a.example", "169.254.169.254")]),
        _ => Reply::Records(Vec::new()),
    })
    .await;
    let dialer = local(&dns);
    dial(&dialer, "a.example", port).await.unwrap();
    moved.store(true, Ordering::SeqCst);
    assert!(matches!(dial(&dialer, "a.example", port).await, Err(DialError::Refused { .. })));
}

#[tokio::test]
async fn ipv6_comes_first_and_ipv4_where_it_does_not_answer() {
    let (_listener, port) = listener().await;
    let records = vec![address("a.example", "127.0.0.1"), address("a.example", "::1")];
    let dns = FakeDns::with(records.clone()).await;
    // Nothing listens on ::1 at this port.
    assert!(dial(&local(&dns), "a.example", port).await.unwrap().is_ipv4());
    let v6 = TcpListener::bind("[::1]:0").await.unwrap();
    let port = v6.local_addr().unwrap().port();
    assert!(dial(&local(&dns), "a.example", port).await.unwrap().is_ipv6());
}

#[tokio::test]
async fn an_answer_for_one_family_is_enough() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::start(|question| match question.kind {
        RecordType::A => Reply::Records(vec![address("a.example", "127.0.0.1")]),
        _ => Reply::Code(ResponseCode::ServFail, Vec::new()),
    })
    .await;
    assert!(dial(&local(&dns), "a.example", port).await.is_ok());
}

#[tokio::test]
async fn an_address_that_passes_is_dialled_and_one_beside_it_that_does_not_is_left_alone() {
    let canary = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = canary.local_addr().unwrap().port();
    let open = TcpListener::bind(("127.0.0.3", port)).await.unwrap();
    let dns = FakeDns::with(vec![address("a.example", "127.0.0.2"), address("a.example", "127.0.0.3")]).await;
    let dialer = dialer(dns.address, &["127.0.0.3/32"], DialSettings::default());
    assert_eq!(dial(&dialer, "a.example", port).await.unwrap(), open.local_addr().unwrap());
    assert_eq!(dialer.counters().refused.value(), 1);
    // What was dialled is in the backlog before `dial` returns.
    assert!(is_untouched(&canary).await);
}

/// Whether nobody has connected to `listener`.
async fn is_untouched(listener: &TcpListener) -> bool {
    tokio::select! {
        biased;
        _ = listener.accept() => false,
        () = tokio::task::yield_now() => true,
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_names_address_zone_and_reason() {
    let dns = FakeDns::with(vec![address("a.example", "::ffff:127.0.0.1"), address("a.example", "10.0.0.1")]).await;
    let spec = ZoneSpec {
        name: "default".to_owned(),
        deny: vec!["10.0.0.0/8".parse().unwrap()],
        resolvers: vec![dns.address],
        ..ZoneSpec::default()
    };
    let dialer = Dialer::new(ZoneTable::new([spec]).unwrap(), DialSettings::default());
    let error = dial(&dialer, "a.example", 80).await.unwrap_err();
    assert!(!error.is_transient());
    assert_eq!(
        error.to_string(),
        "a.example is not dialled: 127.0.0.1:80 is a loopback address, which zone default does not allow"
    );
    let DialError::Refused { refused, .. } = dial(&dialer, "10.9.9.9", 80).await.unwrap_err() else { panic!() };
    assert_eq!(refused.why, Why::Denied("10.0.0.0/8".parse().unwrap()));
}

#[tokio::test]
async fn the_name_localhost_is_no_way_around_the_guard() {
    let dns = FakeDns::with(Vec::new()).await;
    let dialer = dialer(dns.address, &[], DialSettings::default());
    for host in ["localhost", "a.localhost", "LOCALHOST."] {
        assert!(dial(&dialer, host, 80).await.is_err(), "{host}");
    }
}

#[tokio::test]
async fn own_listeners_are_not_dialled() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::with(Vec::new()).await;
    let dialer = local(&dns);
    dial(&dialer, "127.0.0.1", port).await.unwrap();
    dialer.guard().set_own([SocketAddr::from(([0, 0, 0, 0], port))]);
    assert!(matches!(dial(&dialer, "127.0.0.1", port).await, Err(DialError::Refused { .. })));
}

#[tokio::test]
async fn fixed_hosts_need_no_dns_and_are_guarded_all_the_same() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::with(Vec::new()).await;
    let fixed = |name: &str, ip: &str| (name.to_owned(), vec![ip.parse::<IpAddr>().unwrap()]);
    let spec = ZoneSpec {
        name: "lab".to_owned(),
        domains: vec!["lab.test".to_owned()],
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        resolvers: vec![dns.address],
        fixed_hosts: BTreeMap::from([fixed("**.lab.test", "127.0.0.1"), fixed("bad.lab.test", "127.0.0.2")]),
        ..ZoneSpec::default()
    };
    let dialer = Dialer::new(ZoneTable::new([spec]).unwrap(), DialSettings::default());
    dial(&dialer, "x.y.lab.test", port).await.unwrap();
    assert!(matches!(dial(&dialer, "bad.lab.test", port).await, Err(DialError::Refused { .. })));
    assert!(dns.seen().is_empty());
}

#[tokio::test]
async fn nobody_listening_is_transient_and_tells_each_address() {
    let (listener, port) = listener().await;
    drop(listener);
    let dns = FakeDns::with(Vec::new()).await;
    let error = dial(&local(&dns), "127.0.0.1", port).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.to_string(), format!("127.0.0.1 cannot be reached: 127.0.0.1:{port}: connection refused"));
}

#[tokio::test]
async fn a_full_target_is_busy_and_others_are_not() {
    let (_one, port) = listener().await;
    let _other = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let dns = FakeDns::with(Vec::new()).await;
    let settings = DialSettings { connections_per_target: 1, ..DialSettings::default() };
    let dialer = dialer(dns.address, &["127.0.0.0/8"], settings);
    let held = dialer.dial(&"127.0.0.1".parse().unwrap(), port, later()).await.unwrap();
    let error = dial(&dialer, "127.0.0.1", port).await.unwrap_err();
    assert!(matches!(error, DialError::Busy { .. }) && error.is_transient());
    dial(&dialer, "127.0.0.2", port).await.unwrap();
    drop(held);
    dial(&dialer, "127.0.0.1", port).await.unwrap();
}

#[tokio::test]
async fn cnames_are_followed_where_the_server_does_not_and_where_it_does() {
    let (_listener, port) = listener().await;
    let chain = vec![cname("a.example", "b.example"), cname("b.example", "c.test"), address("c.test", "127.0.0.1")];
    let lazy = FakeDns::with(chain.clone()).await;
    dial(&local(&lazy), "a.example", port).await.unwrap();
    let diligent = FakeDns::start(move |question| match question.kind {
        RecordType::A => Reply::Records(chain.clone()),
        _ => Reply::Records(chain[..2].to_vec()),
    })
    .await;
    dial(&local(&diligent), "a.example", port).await.unwrap();
}

#[tokio::test]
async fn cnames_in_a_circle_and_without_end_come_to_an_end() {
    let circle = FakeDns::with(vec![cname("a.example", "b.example"), cname("b.example", "a.example")]).await;
    let error = dial(&local(&circle), "a.example", 80).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    let full =
        FakeDns::start(|_| Reply::Records(vec![cname("a.example", "b.example"), cname("b.example", "a.example")]));
    let full = full.await;
    assert!(!dial(&local(&full), "a.example", 80).await.unwrap_err().is_transient());
    let itself = FakeDns::with(vec![cname("a.example", "a.example")]).await;
    assert!(local(&itself).txt("a.example", later()).await.is_err());
    let endless = FakeDns::start(|question| {
        let next = format!("n{}.example", question.index);
        Reply::Records(vec![cname(&question.name, &next)])
    })
    .await;
    let error = local(&endless).txt("a.example", later()).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert!(endless.seen().len() <= 20);
}

#[tokio::test]
async fn records_of_other_owners_are_not_taken() {
    let dns = FakeDns::start(|question| match question.kind {
        RecordType::A => Reply::Records(vec![address("other.example", "127.0.0.1")]),
        RecordType::TXT => Reply::Records(vec![txt("a.example", &["mine"]), txt("b.example", &["theirs"])]),
        _ => Reply::Records(Vec::new()),
    })
    .await;
    let dialer = local(&dns);
    assert_eq!(failure(dial(&dialer, "a.example", 80).await.unwrap_err()), LookupFailure::NoRecords);
    assert_eq!(dialer.txt("a.example", later()).await.unwrap(), [b"mine".to_vec()]);
}

#[tokio::test]
async fn no_such_name_no_such_record_and_a_failing_server_are_told_apart() {
    let dns = FakeDns::start(|question| match question.name.as_str() {
        "none.example" => Reply::Code(ResponseCode::NXDomain, Vec::new()),
        "empty.example" => Reply::Records(Vec::new()),
        "refused.example" => Reply::Code(ResponseCode::Refused, Vec::new()),
        _ => Reply::Code(ResponseCode::ServFail, Vec::new()),
    })
    .await;
    let dialer = local(&dns);
    for (name, expected, transient) in [
        ("none.example", LookupFailure::NoSuchName, false),
        ("empty.example", LookupFailure::NoRecords, false),
        ("refused.example", LookupFailure::Server(5), true),
        ("broken.example", LookupFailure::Server(2), true),
    ] {
        let error = dial(&dialer, name, 80).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{name}");
        assert_eq!(failure(error), expected, "{name}");
        assert_eq!(dialer.txt(name, later()).await.unwrap_err().failure, expected, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_fails_once_is_asked_again() {
    let dns = FakeDns::start(|question| match question.index {
        0 => Reply::Code(ResponseCode::ServFail, Vec::new()),
        _ => Reply::Records(vec![txt("a.example", &["value"])]),
    })
    .await;
    assert_eq!(local(&dns).txt("a.example", later()).await.unwrap(), [b"value".to_vec()]);
}

#[tokio::test]
async fn a_silent_server_is_a_time_out_within_the_deadline() {
    let dns = FakeDns::start(|_| Reply::Silence).await;
    let settings = DialSettings { lookup_timeout: Duration::from_millis(50), ..DialSettings::default() };
    let error = dialer(dns.address, &[], settings).txt("a.example", later()).await.unwrap_err();
    assert!(error.is_transient());
    assert_eq!(error.failure, LookupFailure::Timeout);
}

#[tokio::test]
async fn a_server_that_talks_nonsense_is_transient() {
    let dns = FakeDns::start(|_| Reply::Raw(vec![0x81, 0x80, 0xff])).await;
    let settings = DialSettings { lookup_timeout: Duration::from_millis(200), ..DialSettings::default() };
    let error = dialer(dns.address, &[], settings).txt("a.example", later()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    // An answer to a question that was not asked is no answer at all.
    let dns = FakeDns::start(|_| Reply::OtherQuestion("b.example", vec![txt("b.example", &["forged"])])).await;
    let error = dialer(dns.address, &[], settings).txt("a.example", later()).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp() {
    let dns = FakeDns::start(|question| match question.transport {
        Transport::Udp => Reply::Truncated,
        Transport::Tcp => Reply::Records((0..400).map(|n| txt("a.example", &[&format!("{n:050}")])).collect()),
    })
    .await;
    assert_eq!(local(&dns).txt("a.example", later()).await.unwrap().len(), 400);
    assert_eq!(dns.seen().last().unwrap().transport, Transport::Tcp);
}

#[tokio::test]
async fn txt_strings_are_joined_and_all_values_returned() {
    let records = vec![
        cname("_acme-challenge.a.example", "x.acme.test"),
        txt("x.acme.test", &["one", "-", "two"]),
        txt("x.acme.test", &["three"]),
        txt("x.acme.test", &[""]),
    ];
    let dns = FakeDns::with(records).await;
    let mut values = local(&dns).txt("_acme-challenge.a.example", later()).await.unwrap();
    values.sort();
    assert_eq!(values, [b"".to_vec(), b"one-two".to_vec(), b"three".to_vec()]);
}

#[tokio::test]
async fn zones_are_exchanged_while_it_runs() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::with(vec![address("a.example", "127.0.0.1")]).await;
    let dialer = dialer(dns.address, &[], DialSettings::default());
    dial(&dialer, "127.0.0.1", port).await.unwrap_err();
    let spec = ZoneSpec {
        name: "default".to_owned(),
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        resolvers: vec![dns.address],
        ..ZoneSpec::default()
    };
    dialer.set_zones(ZoneTable::new([spec]).unwrap());
    dial(&dialer, "a.example", port).await.unwrap();
}

#[tokio::test]
async fn nobody_is_led_from_one_zone_into_one_that_opens_more() {
    let (_listener, port) = listener().await;
    let dns = FakeDns::with(Vec::new()).await;
    let lab = ZoneSpec {
        name: "lab".to_owned(),
        domains: vec!["lab.test".to_owned()],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        resolvers: vec![dns.address],
        fixed_hosts: BTreeMap::from([("**.lab.test".to_owned(), vec![[127, 0, 0, 1].into()])]),
        ..ZoneSpec::default()
    };
    let dialer = Dialer::new(ZoneTable::new([lab]).unwrap(), DialSettings::default());
    let [lab, inner, outside] = ["a.lab.test", "b.lab.test", "a.example"].map(|host| host.parse::<Host>().unwrap());
    let peer = "127.0.0.1:80".parse().unwrap();
    dialer.dial_onward(Origin { host: &lab, peer }, &inner, port, later()).await.unwrap();
    let error = dialer.dial_onward(Origin { host: &outside, peer }, &inner, port, later()).await.unwrap_err();
    assert!(matches!(error, DialError::Refused { .. }));
    dialer.may_dial(&inner, port).unwrap();
    dialer.may_dial(&outside, port).unwrap();
    dialer.may_dial(&"127.0.0.1".parse().unwrap(), port).unwrap_err();
}

#[tokio::test]
async fn a_host_at_a_public_address_leads_nobody_into_a_private_network() {
    let dns = FakeDns::with(vec![address("inner.example", "10.0.0.7"), address("inner.example", "fd12::7")]).await;
    // Nobody is connected to, whatever the guard says.
    let dialer = dialer(dns.address, &[], DialSettings { connections: 0, ..DialSettings::default() });
    let origin = "a.example".parse::<Host>().unwrap();
    let origin = Origin { host: &origin, peer: "192.0.2.1:80".parse().unwrap() };
    for host in ["inner.example", "192.168.0.1", "[fd12::7]"] {
        let host = host.trim_matches(['[', ']']).parse().unwrap();
        let error = dialer.dial_onward(origin, &host, 80, later()).await.unwrap_err();
        let DialError::Refused { refused, .. } = error else { panic!("{host}: {error}") };
        assert!(matches!(refused.why, Why::LedInside(_)), "{refused}");
    }
    assert_eq!(dialer.counters().refused.value(), 4);
}
