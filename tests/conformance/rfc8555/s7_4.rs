//! §7.4: orders and their end.

use std::sync::Arc;

use super::*;

#[tokio::test]
async fn a_new_order_is_201_with_its_location() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let placed = client.new_order(&["b.order.test", "a.order.test"]).await?.expect_status(201)?;
    let order = placed.json();
    assert_eq!(placed.header("content-type"), Some("application/json"));
    assert_eq!(order["status"], "pending");
    assert_eq!(order["authorizations"].as_array().map(Vec::len), Some(2));
    assert_eq!(client.read(&placed.location()?).await?.expect_status(200)?.json(), order);
    Ok(())
}

#[tokio::test]
async fn an_identifier_of_an_unknown_type_is_unsupported_and_one_outside_policy_rejected() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let sent = json!({"identifiers": [{"type": "email", "value": "a@b.test"}]});
    let refused = problem(&client.post(&url, &sent).await?, 400, "unsupportedIdentifier");
    assert!(refused.to_string().contains("email"), "{refused}");
    problem(&client.new_order(&["outside.example"]).await?, 400, "rejectedIdentifier");
    problem(&client.new_order(&["*.not-this.test"]).await?, 400, "rejectedIdentifier");
    Ok(())
}

#[tokio::test]
async fn no_identifiers_too_many_and_shapes_that_are_none_are_malformed() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let many: Vec<Value> = (0..101).map(|n| json!({"type": "dns", "value": format!("h{n}.test")})).collect();
    for sent in [
        json!({"identifiers": []}),
        json!({ "identifiers": many }),
        json!({}),
        json!([]),
        json!("identifiers"),
        json!({"identifiers": "a.test"}),
        json!({"identifiers": [["dns", "a.test"]]}),
        json!({"identifiers": [{"type": "dns"}]}),
        json!({"identifiers": [{"type": "dns", "value": null}]}),
    ] {
        problem(&client.post(&url, &sent).await?, 400, "malformed");
    }
    problem(&client.read(&url).await?, 400, "malformed");
    Ok(())
}

#[tokio::test]
async fn times_that_cannot_be_honoured_are_refused_and_those_that_can_are_kept_to_the_second() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let identifiers = json!([{"type": "dns", "value": "times.test"}]);
    for (member, time) in [
        ("notAfter", "tomorrow"),
        ("notAfter", "2020-01-01T00:00:00Z"),
        ("notAfter", "2099-01-01T00:00:00Z"),
        ("notBefore", "2020-01-01T00:00:00Z"),
        ("notBefore", "2099-01-01T00:00:00Z"),
    ] {
        let mut sent = json!({ "identifiers": identifiers });
        sent[member] = json!(time);
        problem(&client.post(&url, &sent).await?, 400, "malformed");
    }
    // The end of a certificate that was just issued is a time that can be honoured, whatever the clock says.
    let issued = flow::issued(site, &mut client, &["times.test"]).await?;
    let der = issued.chain()?.remove(0);
    let (_, leaf) = x509_parser::parse_x509_certificate(&der)?;
    let end = leaf.validity().not_after.timestamp() - 86_400;
    let asked = jiff::Timestamp::from_second(end)?.to_string();
    let order = client.post(&url, &json!({"identifiers": identifiers, "notAfter": asked})).await?.expect_status(201)?;
    assert_eq!(order.text("notAfter")?, asked);
    flow::fulfil(site, &mut client, &order.json()).await?;
    let (finalized, _) = flow::finalize(&mut client, &order.json(), &["times.test"]).await?;
    let pem = client.read(&finalized.expect_status(200)?.text("certificate")?).await?;
    let der = flow::chain(&pem.body)?.remove(0);
    let (_, leaf) = x509_parser::parse_x509_certificate(&der)?;
    assert_eq!(leaf.validity().not_after.timestamp(), end);
    Ok(())
}

#[tokio::test]
async fn an_unknown_profile_is_refused_at_new_order_and_the_order_says_which_it_has() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.resource("newOrder");
    let identifiers = json!([{"type": "dns", "value": "profile.test"}]);
    let sent = json!({"identifiers": identifiers, "profile": "nothing"});
    problem(&client.post(&url, &sent).await?, 400, "invalidProfile");
    for sent in [json!({"identifiers": identifiers, "profile": "server"}), json!({ "identifiers": identifiers })] {
        assert_eq!(client.post(&url, &sent).await?.expect_status(201)?.text("profile")?, "server");
    }
    Ok(())
}

#[tokio::test]
async fn a_finalize_before_the_order_is_ready_gets_403() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let placed = client.new_order(&["early.test"]).await?.expect_status(201)?;
    let (refused, _) = flow::finalize(&mut client, &placed.json(), &["early.test"]).await?;
    problem(&refused, 403, "orderNotReady");
    assert_eq!(client.read(&placed.location()?).await?.text("status")?, "pending");
    Ok(())
}

#[tokio::test]
async fn a_finalize_that_is_repeated_gets_403() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["twice.test"]).await?;
    let request = csr(&["twice.test"])?;
    let valid = flow::finalize_with(&mut client, &ready.order, &request).await?.expect_status(200)?;
    for again in [request, csr(&["twice.test"])?] {
        problem(&flow::finalize_with(&mut client, &ready.order, &again).await?, 403, "orderNotReady");
    }
    assert_eq!(client.read(&ready.url).await?.json(), valid.json());
    assert_eq!(certificates(site, "twice.test").await?, 1);
    Ok(())
}

/// How many certificates there are for a name.
async fn certificates(site: &crate::sites::Site, name: &str) -> Result<usize> {
    let listed = site.server.printed(&["certificate", "list", "--name", name, "--output", "json"]).await?;
    Ok(serde_json::from_str::<Value>(&listed)?.as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn a_good_finalize_is_200_with_the_order_and_its_location() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["good.test"]).await?;
    let (finalized, _) = flow::finalize(&mut client, &ready.order, &["good.test"]).await?;
    let finalized = finalized.expect_status(200)?;
    assert_eq!(finalized.location()?, ready.url);
    assert_eq!(client.read(&ready.url).await?.json(), finalized.json());
    Ok(())
}

#[tokio::test]
async fn two_finalizes_at_once_make_one_certificate() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["race.test"]).await?;
    let url = ready.order["finalize"].as_str().ok_or("no URL")?.to_owned();
    let target = site.target()?;
    let mut racing = tokio::task::JoinSet::new();
    // All connected first, so that they race.
    let start = Arc::new(tokio::sync::Barrier::new(4));
    for _ in 0..4 {
        let mut other = Client::connect(target.clone()).await?;
        let nonce = other.take_nonce().await?;
        let protected = json!({"alg": "ES256", "kid": client.kid, "nonce": nonce, "url": url});
        let payload = json!({"csr": b64(csr(&["race.test"])?)}).to_string();
        let body = client.key.jws(&protected, &payload)?;
        let (url, start) = (url.clone(), Arc::clone(&start));
        racing.spawn(async move {
            start.wait().await;
            post_raw(&mut other, &url, body).await
        });
    }
    let mut statuses = Vec::new();
    for answer in racing.join_all().await {
        statuses.push(answer?.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 403, 403, 403]);
    assert_eq!(certificates(site, "race.test").await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_csr_for_other_names_is_bad_and_the_order_stays_ready() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["a.names.test", "b.names.test"]).await?;
    for names in [
        &["a.names.test"][..],
        &["a.names.test", "b.names.test", "c.names.test"],
        &["a.names.test", "c.names.test"],
        &["*.names.test"],
    ] {
        problem(&flow::finalize_with(&mut client, &ready.order, &csr(names)?).await?, 400, "badCSR");
        assert_eq!(client.read(&ready.url).await?.text("status")?, "ready");
    }
    let swapped = csr(&["B.Names.Test", "a.names.test"])?;
    flow::finalize_with(&mut client, &ready.order, &swapped).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn a_common_name_counts_among_the_names() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["cn.test", "more.cn.test"]).await?;
    let with_common_name = |common: &str, names: &[&str]| -> Result<Vec<u8>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, common);
        Ok(params.serialize_request(&rcgen::KeyPair::generate()?)?.der().to_vec())
    };
    let other = with_common_name("other.test", &["cn.test", "more.cn.test"])?;
    problem(&flow::finalize_with(&mut client, &ready.order, &other).await?, 400, "badCSR");
    let same = with_common_name("cn.test", &["cn.test", "more.cn.test"])?;
    flow::finalize_with(&mut client, &ready.order, &same).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn extensions_that_will_not_be_included_are_a_bad_csr() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["ext.test"]).await?;
    let params = || -> Result<rcgen::CertificateParams> {
        let mut params = rcgen::CertificateParams::new(vec!["ext.test".to_owned()])?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        Ok(params)
    };
    let mut authority = params()?;
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let mut must_staple = params()?;
    must_staple.custom_extensions =
        vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 24], vec![0x30, 3, 2, 1, 5])];
    let mut unknown = params()?;
    unknown.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
    for refused in [authority, must_staple, unknown] {
        let der = refused.serialize_request(&rcgen::KeyPair::generate()?)?.der().to_vec();
        problem(&flow::finalize_with(&mut client, &ready.order, &der).await?, 400, "badCSR");
    }
    assert_eq!(client.read(&ready.url).await?.text("status")?, "ready");
    Ok(())
}

#[tokio::test]
async fn what_is_no_csr_is_refused_and_the_order_stays_ready() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let ready = flow::ready(site, &mut client, &["nocsr.test"]).await?;
    let good = csr(&["nocsr.test"])?;
    let mut forged = good.clone();
    if let Some(last) = forged.last_mut() {
        *last ^= 1;
    }
    for der in [Vec::new(), vec![0x30], forged, [good.clone(), vec![0]].concat(), vec![0xff; 20_000]] {
        problem(&flow::finalize_with(&mut client, &ready.order, &der).await?, 400, "badCSR");
    }
    let url = ready.order["finalize"].as_str().ok_or("no URL")?;
    for sent in [json!({}), json!({"csr": null}), json!({"csr": [b64(&good)]}), json!([b64(&good)])] {
        problem(&client.post(url, &sent).await?, 400, "malformed");
    }
    assert_eq!(client.read(&ready.url).await?.text("status")?, "ready");
    flow::finalize_with(&mut client, &ready.order, &good).await?.expect_status(200)?;
    Ok(())
}
