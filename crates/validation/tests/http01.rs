//! http-01 (RFC 8555 §8.3) against servers of the test's own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may stop where it stands")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chancery_acme::{challenge::ChallengeKind::Http01, problem::ProblemType};
use chancery_egress::ZoneSpec;
use chancery_validation::{NetworkValidator, ValidationSettings};
use support::{
    KEY_AUTHORIZATION, Web, at_one_port, dialer, dns,
    dns::{FakeDns, address},
    failure, look, ok, redirect, settings, status, token, validator, zone,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const PATH: &str = "/.well-known/acme-challenge/AAAAAAAAAAAAAAAAAAAAAA";

#[tokio::test]
async fn the_key_authorization_at_the_tokens_path_shows_control() {
    assert_eq!(token().to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
    let web = Web::start(|_, _| ok(KEY_AUTHORIZATION)).await;
    let evidence = look(&validator(zone(web.port())), "a.example", Http01).await.unwrap();
    assert_eq!(evidence.summary, format!("http-01: key authorization served by {}", web.address));
    let heads = web.heads();
    let [head] = &*heads else { panic!("{heads:?}") };
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with(&format!("get {} http/1.1\r\n", PATH.to_ascii_lowercase())), "{head}");
    assert!(head.contains("\r\nhost: a.example\r\n"), "the name alone: {head}");
    assert!(head.contains("\r\nuser-agent: chancery/"), "{head}");
    assert!(head.contains("\r\naccept: */*\r\n"), "{head}");
}

#[tokio::test]
async fn an_address_is_looked_at_under_itself() {
    let [v4, v6] = at_one_port(["127.0.0.1", "::1"]).await;
    let (web, web6) = (Web::over(v4, |_, _| ok(KEY_AUTHORIZATION)), Web::over(v6, |_, _| ok(KEY_AUTHORIZATION)));
    let validator = validator(zone(web.port()));
    look(&validator, "127.0.0.1", Http01).await.unwrap();
    look(&validator, "::1", Http01).await.unwrap();
    assert!(web.heads()[0].to_ascii_lowercase().contains("\r\nhost: 127.0.0.1\r\n"));
    assert!(web6.heads()[0].to_ascii_lowercase().contains("\r\nhost: [::1]\r\n"));
}

#[tokio::test]
async fn white_space_at_the_end_is_ignored_and_nothing_else_is() {
    let web = Web::start(|_, index| match index {
        0 => ok(format!("{KEY_AUTHORIZATION}\r\n")),
        1 => ok(format!("{KEY_AUTHORIZATION} \t\n\n")),
        2 => ok(format!(" {KEY_AUTHORIZATION}")),
        3 => ok(format!("{KEY_AUTHORIZATION}\u{a0}")),
        4 => ok(KEY_AUTHORIZATION.to_ascii_uppercase()),
        5 => ok(&KEY_AUTHORIZATION[..KEY_AUTHORIZATION.len() - 1]),
        6 => ok(format!("{KEY_AUTHORIZATION}\0")),
        _ => ok(""),
    })
    .await;
    let validator = validator(zone(web.port()));
    for _ in 0..2 {
        look(&validator, "a.example", Http01).await.unwrap();
    }
    for index in 2..8 {
        let (kind, _) = failure(&validator, "a.example", Http01).await;
        assert_eq!(kind, ProblemType::IncorrectResponse, "{index}");
    }
}

#[tokio::test]
async fn only_status_200_counts_even_with_the_right_body() {
    let codes = [201, 202, 204, 206, 300, 303, 304, 400, 401, 403, 404, 410, 418];
    let web = Web::start(move |_, index| status(codes[index], KEY_AUTHORIZATION)).await;
    // One more look is allowed, and none is made: these are definite answers.
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1)], ..settings() };
    let validator = NetworkValidator::new(dialer(zone(web.port())), settings).unwrap();
    for code in codes {
        let (kind, detail) = failure(&validator, "a.example", Http01).await;
        assert_eq!(kind, ProblemType::IncorrectResponse, "{code}");
        assert!(detail.contains(&format!("HTTP status {code}, not 200")), "{detail}");
    }
    assert_eq!(web.heads().len(), codes.len());
}

#[tokio::test]
async fn a_passing_fault_is_looked_at_again() {
    let web = Web::start(|_, index| match index {
        0 => status(503, ""),
        1 => status(429, ""),
        2 => Vec::new(),
        3 => b"HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\nhalf".to_vec(),
        _ => ok(KEY_AUTHORIZATION),
    })
    .await;
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1); 4], ..settings() };
    let validator = NetworkValidator::new(dialer(zone(web.port())), settings).unwrap();
    look(&validator, "a.example", Http01).await.unwrap();
    assert_eq!(validator.counters().of(Http01).looks.value(), 5);
    assert_eq!(validator.counters().of(Http01).valid.value(), 1);
}

#[tokio::test]
async fn when_the_last_look_fails_too_its_fault_is_told() {
    let (web, port) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    };
    drop(web);
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1); 2], ..settings() };
    let validator = NetworkValidator::new(dialer(zone(port)), settings).unwrap();
    let (kind, detail) = failure(&validator, "a.example", Http01).await;
    assert_eq!(kind, ProblemType::Connection);
    let expected = format!("a.example cannot be reached: 127.0.0.1:{port}: connection refused (looked 3 times)");
    assert_eq!(detail, expected);
}

#[tokio::test]
async fn a_resolver_that_fails_once_is_no_verdict() {
    let web = Web::start(|_, _| ok(KEY_AUTHORIZATION)).await;
    let servfail = hickory_proto::op::ResponseCode::ServFail;
    // hickory asks each question twice by itself; two questions, so the first look gets four failures.
    let dns = FakeDns::start(move |question| match question.index {
        0..4 => dns::Reply::Code(servfail, Vec::new()),
        _ if question.kind == hickory_proto::rr::RecordType::A => {
            dns::Reply::Records(vec![address("a.test", "127.0.0.1")])
        }
        _ => dns::Reply::Records(Vec::new()),
    })
    .await;
    let zone = ZoneSpec { resolvers: vec![dns.address], ..zone(web.port()) };
    let (kind, detail) = failure(&validator(zone.clone()), "a.test", Http01).await;
    assert_eq!(kind, ProblemType::Dns, "{detail}");
    look(&validator(zone), "a.test", Http01).await.unwrap();
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_problem_and_final() {
    let dns = FakeDns::with(Vec::new()).await;
    let settings = ValidationSettings { pauses: vec![Duration::from_millis(1)], ..settings() };
    let zone = ZoneSpec { resolvers: vec![dns.address], ..zone(1) };
    let validator = NetworkValidator::new(dialer(zone), settings).unwrap();
    let (kind, detail) = failure(&validator, "a.test", Http01).await;
    assert_eq!(kind, ProblemType::Dns);
    assert_eq!(detail, "a.test does not exist in DNS (NXDOMAIN)");
    assert_eq!(validator.counters().of(Http01).looks.value(), 1);
}

#[tokio::test]
async fn redirects_are_followed_across_hosts_paths_and_statuses() {
    let web = Web::start(|head, _| {
        let target = head.split(' ').nth(1).unwrap();
        match target {
            PATH => redirect(301, "/relative"),
            "/relative" => redirect(302, "further?query=1#fragment"),
            "/further?query=1" => redirect(307, "//b.example/scheme-relative"),
            "/scheme-relative" => redirect(308, "http://C.Example/absolute/../there"),
            "/there" => ok(KEY_AUTHORIZATION),
            _ => status(404, ""),
        }
    })
    .await;
    look(&validator(zone(web.port())), "a.example", Http01).await.unwrap();
    let hosts: Vec<_> = web
        .heads()
        .iter()
        .map(|head| head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned())
        .collect();
    assert_eq!(hosts, ["a.example", "a.example", "a.example", "b.example", "c.example"]);
}

#[tokio::test]
async fn ten_redirects_are_followed_and_an_eleventh_is_not() {
    let hop = |head: &str| -> usize { head.split(' ').nth(1).unwrap().trim_start_matches("/n").parse().unwrap_or(0) };
    for (redirects, followed) in [(10, true), (11, false)] {
        let web = Web::start(move |head, _| match hop(head) {
            n if n == redirects => ok(KEY_AUTHORIZATION),
            n => redirect(302, &format!("/n{}", n + 1)),
        })
        .await;
        let outcome = look(&validator(zone(web.port())), "a.example", Http01).await;
        assert_eq!(outcome.is_ok(), followed, "{redirects}");
        assert_eq!(web.heads().len(), 11);
    }
}

#[tokio::test]
async fn redirects_in_a_circle_end_at_once() {
    let web = Web::start(|head, _| redirect(302, if head.contains("/one") { "/two#x" } else { "/one" })).await;
    let (kind, detail) = failure(&validator(zone(web.port())), "a.example", Http01).await;
    assert_eq!(kind, ProblemType::IncorrectResponse);
    assert!(detail.contains("in a circle"), "{detail}");
    assert_eq!(web.heads().len(), 3);
}

#[tokio::test]
async fn redirects_to_what_is_not_fetched_are_final_and_not_repeated_in_words() {
    let secret = "s3cr3t";
    let locations = [
        format!("ftp://{secret}.example/"),
        format!("file:///{secret}"),
        format!("gopher://{secret}.example/"),
        format!("javascript:{secret}"),
        format!("http://{secret}.example:22/"),
        format!("https://{secret}.example:8443/"),
        format!("http://{secret}:{secret}@b.example/"),
        format!("http://{secret}@b.example/"),
        format!("http://{secret}_.b%00c.example/"),
        format!("http://[{secret}]/"),
        format!("http:///{secret}:99999/"),
        format!("http://b.example/{}", secret.repeat(400)),
        format!("http://\u{e9}{secret}.example/\u{1}"),
        format!("http://{secret}.0x1/"),
        String::new(),
    ];
    let count = locations.len();
    let served = locations.clone();
    let web = Web::start(move |_, index| redirect(302, &served[index])).await;
    let validator = validator(zone(web.port()));
    for location in &locations[..count - 1] {
        let (kind, detail) = failure(&validator, "a.example", Http01).await;
        assert_eq!(kind, ProblemType::IncorrectResponse, "{location}: {detail}");
        assert!(!detail.contains(secret), "{detail}");
    }
    // An empty Location is the same place again.
    assert!(failure(&validator, "a.example", Http01).await.1.contains("in a circle"));
    assert_eq!(web.heads().len(), count);
    let web = Web::start(|_, _| b"HTTP/1.1 302 Elsewhere\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
    let (_, detail) = failure(&support::validator(zone(web.port())), "a.example", Http01).await;
    assert!(detail.contains("without a Location"), "{detail}");
}

#[tokio::test]
async fn where_a_redirect_leads_is_not_told_when_it_fails_there() {
    let secret = "s3cr3t";
    let dns = FakeDns::start(move |question| {
        if question.name.contains("servfail") {
            dns::Reply::Code(hickory_proto::op::ResponseCode::ServFail, Vec::new())
        } else if question.name.contains("closed") {
            dns::Reply::Records(vec![address(&question.name, "127.9.9.9")])
        } else {
            dns::Reply::Code(hickory_proto::op::ResponseCode::NXDomain, Vec::new())
        }
    })
    .await;
    let locations = [
        "http://s3cr3t.none.test/",
        "http://s3cr3t.servfail.test/",
        "http://s3cr3t.closed.test/",
        "http://s3cr3t.example/404",
        "http://s3cr3t.example/503",
        "http://s3cr3t.example/wrong-body",
        "http://s3cr3t.example/long-body",
        "http://s3cr3t.example/long-head",
        "http://s3cr3t.example/no-http",
        "http://s3cr3t.example/nowhere",
        "http://s3cr3t.example/circle",
        "http://s3cr3t.example/onward",
        "http://s3cr3t.example/scheme",
        "http://s3cr3t.example/closed",
        "http://s3cr3t.example/no-body",
        // What answers there speaks no TLS, or ends it with an alert, or hangs up.
        "https://s3cr3t.example/s3cr3t",
    ];
    // Every location is on 127.0.0.2, and the client is told of 127.0.0.1 alone.
    let [here, there] = at_one_port(["127.0.0.1", "127.0.0.2"]).await;
    let there = Web::over(there, move |head, _| match head.split(' ').nth(1).unwrap() {
        "/404" => status(404, secret),
        "/503" => status(503, secret),
        "/long-body" => ok(secret.repeat(200)),
        "/long-head" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000)).into_bytes(),
        "/no-http" => b"SSH-2.0-s3cr3t\r\n".to_vec(),
        "/nowhere" => redirect(302, "//"),
        "/circle" => redirect(302, "/circle"),
        "/onward" => redirect(302, "http://127.9.9.9/"),
        "/scheme" => redirect(302, "ftp://s3cr3t.example/"),
        "/closed" => Vec::new(),
        "/no-body" => ok(""),
        _ => ok(secret),
    });
    let plain = there.port();
    let lead = Arc::new(AtomicUsize::new(0));
    let leading = Arc::clone(&lead);
    let _here = Web::over(here, move |_, _| redirect(302, locations[leading.load(Ordering::SeqCst)]));
    let alert = [21, 3, 3, 0, 2, 2, 40]; // handshake_failure (RFC 8446 §6)
    for answer in [b"s3cr3t".to_vec(), alert.to_vec(), Vec::new()] {
        let tls = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let mut zone = ZoneSpec { resolvers: vec![dns.address], ..zone(plain) };
        zone.deny.push("127.9.9.9/32".parse().unwrap());
        zone.ports.https = tls.local_addr().unwrap().port();
        zone.fixed_hosts.insert("s3cr3t.example".to_owned(), vec![[127, 0, 0, 2].into()]);
        // Whatever it is, it is looked at again, and how often is not told.
        let settings = ValidationSettings { pauses: vec![Duration::from_millis(1)], ..settings() };
        let validator = NetworkValidator::new(dialer(zone), settings).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = tls.accept().await {
                let mut hello = [0; 16];
                stream.read_exact(&mut hello).await.unwrap();
                stream.write_all(&answer).await.unwrap();
            }
        });
        for (index, location) in locations.iter().enumerate() {
            lead.store(index, Ordering::SeqCst);
            let (found, detail) = failure(&validator, "a.example", Http01).await;
            let told = format!(
                "a.example (127.0.0.1:{plain}) redirects to another host, where this challenge's key authorization is \
                 not found"
            );
            assert_eq!((found, detail), (ProblemType::IncorrectResponse, told), "{location}");
        }
        assert_eq!(validator.counters().of(Http01).looks.value(), 2 * u64::try_from(locations.len()).unwrap());
    }
}

#[tokio::test]
async fn that_a_redirect_leads_to_a_host_that_never_answers_is_told_like_anything_else() {
    let silent = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let [here, there] = at_one_port(["127.0.0.1", "127.0.0.2"]).await;
    let _there = Web::over(there, |_, _| status(404, ""));
    let here = Web::over(here, |_, index| {
        redirect(302, if index == 0 { "https://there.example/" } else { "http://there.example/" })
    });
    let mut zone = zone(here.port());
    zone.ports.https = silent.local_addr().unwrap().port();
    zone.fixed_hosts.insert("there.example".to_owned(), vec![[127, 0, 0, 2].into()]);
    let settings = ValidationSettings { look: Duration::from_millis(300), ..settings() };
    let validator = NetworkValidator::new(dialer(zone), settings).unwrap();
    let late = failure(&validator, "a.example", Http01).await;
    assert_eq!(late, failure(&validator, "a.example", Http01).await);
    assert_eq!(here.heads().len(), 2);
}

#[tokio::test]
async fn what_was_fetched_is_in_no_error() {
    let secret = "s3cr3t-internal-content";
    let answers: Vec<Vec<u8>> = vec![
        ok(secret),
        status(404, secret),
        status(500, secret),
        ok(secret.repeat(100)),
        format!("{secret}\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 200 {secret}\r\nContent-Length: 5\r\n\r\n{secret}").into_bytes(),
        format!("HTTP/1.1 404 {secret}\r\nX: {secret}\r\n\r\n{secret}").into_bytes(),
        format!("HTTP/1.1 999 {secret}\r\n{secret}\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{secret}\r\n").into_bytes(),
        format!("220 {secret} ESMTP\r\n").into_bytes(),
        format!("SSH-2.0-{secret}\r\n").into_bytes(),
    ];
    let count = answers.len();
    let web = Web::start(move |_, index| answers[index].clone()).await;
    let validator = validator(zone(web.port()));
    for index in 0..count {
        let (_, detail) = failure(&validator, "a.example", Http01).await;
        assert!(!detail.contains("s3cr3t"), "{index}: {detail}");
    }
    assert_eq!(web.heads().len(), count);
}

#[tokio::test]
async fn bodies_and_heads_beyond_the_limit_are_wrong_answers_and_are_not_read_to_the_end() {
    let long_header = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(150));
    let chunks = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        "10\r\n0123456789abcdef\r\n".repeat(40)
    );
    let answers = [
        ok(format!("{KEY_AUTHORIZATION}{}", " ".repeat(500))),
        // Without a length, and far more than any buffer.
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 8 << 20]].concat(),
        chunks.into_bytes(),
        long_header.into_bytes(),
        many_headers.into_bytes(),
        [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 8 << 20]].concat(),
    ];
    let count = answers.len();
    let web = Web::start(move |_, index| answers[index].clone()).await;
    let validator = validator(zone(web.port()));
    for index in 0..count {
        let (kind, detail) = failure(&validator, "a.example", Http01).await;
        assert_eq!(kind, ProblemType::IncorrectResponse, "{index}: {detail}");
    }
}

#[tokio::test]
async fn a_server_that_drips_is_given_up_in_time() {
    for drip in ["", "HTTP/1.1 200 OK\r\nX: ", "HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let settings = ValidationSettings { look: Duration::from_millis(60), ..settings() };
        let validator = NetworkValidator::new(dialer(zone(port)), settings).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(drip.as_bytes()).await.unwrap();
            let drop: &[u8] = if drip.is_empty() { b"" } else { b"x" };
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            while stream.write_all(drop).await.is_ok() {
                tick.tick().await;
            }
        });
        let (kind, detail) = failure(&validator, "a.example", Http01).await;
        assert_eq!(
            (kind, &*detail),
            (ProblemType::Connection, "a.example gave no complete answer in time"),
            "{drip:?}"
        );
        server.abort();
    }
}
