//! Bounded pools and time: a slow target cannot starve the others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::{net::IpAddr, sync::Arc, time::Duration};

use chancery_acme::challenge::ChallengeKind::Http01;
use chancery_authority::ports::{Validation, ValidationError, Validator as _};
use chancery_egress::{DialSettings, Dialer, ZoneSpec, ZoneTable};
use chancery_validation::{NetworkValidator, Pool, ValidationSettings};
use support::{KEY_AUTHORIZATION, Web, at_one_port, look, ok, settings, validation, zone};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

/// A server that takes connections and never answers; each connection is handed to the test.
fn tarpit(listener: TcpListener) -> mpsc::UnboundedReceiver<TcpStream> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if sender.send(stream).is_err() {
                break;
            }
        }
    });
    receiver
}

fn zone_with_slow(port: u16) -> ZoneSpec {
    let mut zone = zone(port);
    zone.fixed_hosts.insert("**.slow.example".to_owned(), vec![IpAddr::from([127, 0, 0, 2])]);
    zone
}

fn validator(zone: ZoneSpec, dial: DialSettings, settings: ValidationSettings) -> Arc<NetworkValidator> {
    let dialer = Dialer::new(ZoneTable::new([zone]).unwrap(), dial);
    Arc::new(NetworkValidator::new(dialer, settings).unwrap())
}

#[tokio::test]
async fn a_slow_target_does_not_starve_the_others() {
    let [fast, slow] = at_one_port(["127.0.0.1", "127.0.0.2"]).await;
    let (web, mut taken) = (Web::over(fast, |_, _| ok(KEY_AUTHORIZATION)), tarpit(slow));
    let dial = DialSettings { connections_per_target: 3, ..DialSettings::default() };
    let pool = Pool { at_once: 4, waiting: 1000 };
    let pauses = vec![Duration::from_secs(5); 3];
    let validator =
        validator(zone_with_slow(web.port()), dial, ValidationSettings { http_01: pool, pauses, ..settings() });
    let mut slow = JoinSet::new();
    for index in 0..40 {
        let validator = Arc::clone(&validator);
        slow.spawn(async move {
            validator.validate(&validation(&format!("n{index}.slow.example"), Http01)).await.map(drop)
        });
    }
    // Held until the end, so that they stay open.
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(taken.recv().await.unwrap());
    }
    for index in 0..20 {
        look(&validator, &format!("n{index}.example"), Http01).await.unwrap();
    }
    assert_eq!(web.heads().len(), 20);
    assert!(taken.try_recv().is_err(), "no more than its share is dialled");
    slow.abort_all();
}

#[tokio::test]
async fn a_full_pool_makes_wait_and_a_full_queue_turns_away() {
    let [fast, slow] = at_one_port(["127.0.0.1", "127.0.0.2"]).await;
    let (web, mut taken) = (Web::over(fast, |_, _| ok(KEY_AUTHORIZATION)), tarpit(slow));
    let pool = Pool { at_once: 1, waiting: 1 };
    let settings = ValidationSettings { http_01: pool, ..settings() };
    let validator = validator(zone_with_slow(web.port()), DialSettings::default(), settings);
    let spawn = |name: &'static str| {
        let validator = Arc::clone(&validator);
        tokio::spawn(async move { validator.validate(&validation(name, Http01)).await })
    };
    let slow = spawn("a.slow.example");
    let stream = taken.recv().await.unwrap();
    let waits = spawn("a.example");
    // On this runtime of one thread it is queued once it has run.
    tokio::task::yield_now().await;
    let turned_away = validator.validate(&validation("b.example", Http01)).await;
    assert!(matches!(turned_away, Err(ValidationError::Busy)), "{turned_away:?}");
    assert!(web.heads().is_empty());
    drop(stream);
    assert!(matches!(slow.await.unwrap(), Err(ValidationError::Failed(_))));
    waits.await.unwrap().unwrap();
    look(&validator, "c.example", Http01).await.unwrap();
    assert_eq!(validator.counters().of(Http01).busy.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn looks_are_spread_over_the_time_that_there_is_and_busy_is_no_verdict() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let dial = DialSettings { connections_per_target: 1, ..DialSettings::default() };
    let dialer = Dialer::new(ZoneTable::new([zone(port)]).unwrap(), dial);
    let far = Instant::now() + Duration::from_secs(3600);
    // Whoever looks finds the only place taken, without any traffic.
    let _held = dialer.dial(&"127.0.0.1".parse().unwrap(), port, far).await.unwrap();
    for (within, looks, seconds) in [(30, 5, 15), (15, 4, 7), (5, 3, 3), (1, 1, 0)] {
        let settings = ValidationSettings::default();
        let validator = NetworkValidator::new(dialer.clone(), settings).unwrap();
        let before = Instant::now();
        let asked = Validation { within: Duration::from_secs(within), ..validation("a.example", Http01) };
        let outcome = validator.validate(&asked).await;
        assert!(matches!(outcome, Err(ValidationError::Busy)), "{outcome:?}");
        assert_eq!(validator.counters().of(Http01).looks.value(), looks, "within {within} s");
        assert_eq!(before.elapsed().as_secs(), seconds, "within {within} s");
    }
}
