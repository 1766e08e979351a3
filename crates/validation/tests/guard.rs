//! Whatever a client makes the validator look at, nothing on our own side is touched: canaries
//! listen at every address of this host that a test can have, and must hear nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop where it stands")]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chancery_acme::{
    challenge::ChallengeKind::{self, Http01, TlsAlpn01},
    problem::ProblemType,
};
use chancery_authority::ports::{ValidationError, Validator as _};
use chancery_egress::{Dialer, Ports, ZoneSpec, ZoneTable};
use chancery_pki::Name;
use chancery_validation::NetworkValidator;
use support::{
    Web, at_one_port, dialer,
    dns::{FakeDns, Reply, address},
    name, redirect, settings, validation,
};

/// IPv4 addresses that must not be touched.
const V4: &[&str] = &[
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "0.0.0.0",
    "0.0.0.1",
    "169.254.169.254",
    "169.254.0.1",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "239.1.1.1",
    "255.255.255.255",
    "240.0.0.1",
];
/// IPv6 addresses that must not be touched.
const V6: &[&str] = &[
    "::1",
    "::",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "ff05::2",
    "fd00:ec2::254",
    "fd20:ce::254",
    "64:ff9b:1::1",
    "100::1",
];

/// Every notation in which an IPv6 address stands for an IPv4 one.
fn forms(ip: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (format!("{a:02x}{b:02x}"), format!("{c:02x}{d:02x}"));
    let (not_high, not_low) = (format!("{:02x}{:02x}", !a, !b), format!("{:02x}{:02x}", !c, !d));
    [
        format!("::ffff:{ip}"),
        format!("::{high}:{low}"),
        format!("::ffff:0:{high}:{low}"),
        format!("64:ff9b::{high}:{low}"),
        format!("2002:{high}:{low}::"),
        format!("2001:0:c000:201::{not_high}:{not_low}"),
        format!("2001:db8::5efe:{high}:{low}"),
    ]
    .iter()
    .map(|form| form.parse().unwrap())
    .chain([IpAddr::V4(ip)])
    .collect()
}

fn targets() -> Vec<IpAddr> {
    let v4 = V4.iter().flat_map(|ip| forms(ip.parse().unwrap()));
    v4.chain(V6.iter().map(|ip| ip.parse().unwrap())).collect()
}

/// Where a redirecting server may be reached, and nothing else.
const OPEN: &str = "127.0.0.9";

struct Trap {
    port: u16,
    heard: Arc<AtomicUsize>,
    web: Web,
    dns: FakeDns,
}

impl Trap {
    /// Canaries at one port of many addresses, a web server beside them that redirects
    /// `r<n>.…` to the n-th of `locations`, and a DNS server in which `c<n>.test` has the n-th target.
    async fn set(locations: Vec<String>) -> Self {
        let [open, canaries @ ..] = at_one_port([OPEN, "127.0.0.1", "127.0.0.2", "127.1.2.3", "::1"]).await;
        let web = Web::over(open, move |head, _| {
            let host = head.lines().find_map(|line| line.strip_prefix("host: r")).unwrap();
            let index: usize = host.split_once('.').unwrap().0.parse().unwrap();
            redirect(302, &locations[index])
        });
        let port = web.port();
        let heard = Arc::new(AtomicUsize::new(0));
        for listener in canaries {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                while listener.accept().await.is_ok() {
                    heard.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let targets = targets();
        let dns = FakeDns::start(move |question| {
            let (first, _) = question.name.split_once('.').unwrap();
            let ip = match first.split_at(1) {
                ("r", _) => OPEN.parse().unwrap(),
                ("c", index) => targets[index.parse::<usize>().unwrap()],
                _ => return Reply::Records(Vec::new()),
            };
            let wanted = if ip.is_ipv4() { "A" } else { "AAAA" };
            let matches = question.kind.to_string() == wanted;
            Reply::Records(if matches { vec![address(&question.name, &ip.to_string())] } else { Vec::new() })
        })
        .await;
        Self { port, heard, web, dns }
    }

    fn dialer(&self) -> Dialer {
        dialer(ZoneSpec {
            name: "default".to_owned(),
            allow: vec![format!("{OPEN}/32").parse().unwrap()],
            resolvers: vec![self.dns.address],
            ports: Ports { http: self.port, https: self.port, tls_alpn: self.port },
            ..ZoneSpec::default()
        })
    }

    /// The canaries have heard nothing, and they do hear.
    async fn stayed_shut(&self) {
        let address = ("127.0.0.1".parse::<IpAddr>().unwrap(), self.port);
        let before = self.heard.load(Ordering::SeqCst);
        assert_eq!(before, 0, "a canary was touched");
        // This connection comes after all that may be waiting to be accepted.
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        while self.heard.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        drop(stream);
        assert_eq!(self.heard.load(Ordering::SeqCst), 1, "a canary was touched");
    }
}

async fn refused(validator: &NetworkValidator, name: Name, kind: ChallengeKind) {
    let looked = validation("a.example", kind);
    let outcome = validator.validate(&chancery_authority::ports::Validation { name: name.clone(), ..looked }).await;
    match outcome {
        Err(ValidationError::Failed(problem)) => {
            assert_eq!(problem.kind, ProblemType::Connection, "{name} {kind}: {}", problem.detail);
            assert!(problem.detail.contains("is not dialled"), "{name} {kind}: {}", problem.detail);
        }
        other => panic!("{name} {kind}: {other:?}"),
    }
}

#[tokio::test]
async fn no_name_and_no_address_leads_to_a_canary() {
    let trap = Trap::set(Vec::new()).await;
    let dialer = trap.dialer();
    let validator = NetworkValidator::new(dialer.clone(), settings()).unwrap();
    let mut cases: u64 = 0;
    for (index, ip) in targets().into_iter().enumerate() {
        for kind in [Http01, TlsAlpn01] {
            refused(&validator, name(&format!("c{index}.test")), kind).await;
            refused(&validator, Name::Ip(ip), kind).await;
            assert!(!validator.may_validate(&Name::Ip(ip), kind), "{ip}");
            cases += 2;
        }
    }
    assert!(cases >= 400, "{cases}");
    assert_eq!(dialer.counters().connected.value(), 0);
    assert_eq!(dialer.counters().refused.value(), cases);
    trap.stayed_shut().await;
}

#[tokio::test]
async fn no_redirect_leads_to_a_canary() {
    let mut locations = Vec::new();
    for (index, ip) in targets().into_iter().enumerate() {
        let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        locations.push(format!("http://{host}/"));
        locations.push(format!("https://{host}/"));
        locations.push(format!("http://c{index}.test/"));
        locations.push(format!("https://c{index}.test/"));
    }
    let spellings = [
        "127.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "0x0",
        "[::]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST.",
        "x.localhost",
        "%31%32%37.0.0.1",
        "\u{ff11}27.0.0.1",
    ];
    let with_spellings = locations.len();
    for spelling in spellings {
        locations.push(format!("http://{spelling}/"));
        locations.push(format!("//{spelling}/"));
    }
    let trap = Trap::set(locations.clone()).await;
    let dialer = trap.dialer();
    let validator = NetworkValidator::new(dialer.clone(), settings()).unwrap();
    for (index, location) in locations.iter().enumerate() {
        let outcome = validator.validate(&validation(&format!("r{index}.test"), Http01)).await;
        let Err(ValidationError::Failed(problem)) = outcome else { panic!("{location}: {outcome:?}") };
        if index < with_spellings {
            // What a name stands for is not told.
            let told = if location.contains(".test/") { "is not found" } else { "that is not dialled" };
            assert!(problem.detail.contains(told), "{location}: {}", problem.detail);
        }
    }
    assert!(locations.len() >= 400);
    // Each was asked of the redirecting server once, and nothing else was dialled.
    assert_eq!(trap.web.heads().len(), locations.len());
    assert_eq!(dialer.counters().connected.value(), u64::try_from(locations.len()).unwrap());
    trap.stayed_shut().await;
}

#[tokio::test]
async fn a_name_that_changes_between_check_and_dial_gains_nothing() {
    let trap = Trap::set(vec!["/again".to_owned()]).await;
    // Every second answer leads to a canary.
    let dns = FakeDns::start(|question| match (question.kind.to_string().as_str(), question.index % 4 < 2) {
        ("A", true) => Reply::Records(vec![address(&question.name, OPEN)]),
        ("A", false) => Reply::Records(vec![address(&question.name, "127.0.0.1")]),
        _ => Reply::Records(Vec::new()),
    })
    .await;
    let spec = ZoneSpec {
        name: "default".to_owned(),
        allow: vec![format!("{OPEN}/32").parse().unwrap()],
        resolvers: vec![dns.address],
        ports: Ports { http: trap.port, https: trap.port, tls_alpn: trap.port },
        ..ZoneSpec::default()
    };
    let validator = NetworkValidator::new(dialer(spec), settings()).unwrap();
    for _ in 0..20 {
        let _either_way = validator.validate(&validation("r0.test", Http01)).await;
    }
    assert!(!trap.web.heads().is_empty(), "half of the answers are harmless");
    trap.stayed_shut().await;
}

#[tokio::test]
async fn a_zone_that_opens_loopback_does_so_for_its_own_names_alone() {
    let [inside, outside] = at_one_port(["127.0.0.1", OPEN]).await;
    let inside = Web::over(inside, |_, _| support::ok(support::KEY_AUTHORIZATION));
    let outside = Web::over(outside, |_, _| redirect(302, "http://inside.lab.test/"));
    let ports = Ports { http: inside.port(), https: inside.port(), tls_alpn: inside.port() };
    let fixed = |name: &str, ip: &str| (name.to_owned(), vec![ip.parse::<IpAddr>().unwrap()]);
    let lab = ZoneSpec {
        name: "lab".to_owned(),
        domains: vec!["lab.test".to_owned()],
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        fixed_hosts: [fixed("**.lab.test", "127.0.0.1")].into(),
        ports,
        ..ZoneSpec::default()
    };
    let default = ZoneSpec {
        name: "default".to_owned(),
        allow: vec![format!("{OPEN}/32").parse().unwrap()],
        fixed_hosts: [fixed("outside.example", OPEN), fixed("local.example", "127.0.0.1")].into(),
        ports,
        ..ZoneSpec::default()
    };
    let dialer = Dialer::new(ZoneTable::new([lab, default]).unwrap(), chancery_egress::DialSettings::default());
    let validator = NetworkValidator::new(dialer, settings()).unwrap();
    support::look(&validator, "inside.lab.test", Http01).await.unwrap();
    refused(&validator, name("local.example"), Http01).await;
    refused(&validator, name("127.0.0.1"), Http01).await;
    assert_eq!(inside.heads().len(), 1);
    // Led into the zone from outside it.
    let led = support::failure(&validator, "outside.example", Http01).await;
    assert!(led.1.contains("is not found"), "{led:?}");
    assert_eq!((outside.heads().len(), inside.heads().len()), (1, 1));
    assert!(validator.may_validate(&name("inside.lab.test"), Http01));
    assert!(!validator.may_validate(&name("local.example"), Http01), "its only address is known, and refused");
    assert!(validator.may_validate(&name("elsewhere.test"), Http01));
    assert!(!validator.may_validate(&name("*.lab.test"), Http01));
}
