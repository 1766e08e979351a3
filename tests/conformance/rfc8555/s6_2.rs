//! §6.2: who signs, and how.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;

#[tokio::test]
async fn nothing_but_the_flattened_serialization_with_protected_headers_is_taken() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    for shape in ["compact", "general", "unprotected header", "both forms", "detached", "array", "more members"] {
        let protected = b64(client.protected(&url).await?.to_string());
        let signature = client.key.sign(&protected, "")?;
        let body = match shape {
            "compact" => format!("{protected}..{signature}"),
            "general" => {
                json!({"payload": "", "signatures": [{"protected": protected, "signature": signature}]}).to_string()
            }
            "unprotected header" => {
                json!({"protected": protected, "payload": "", "signature": signature, "header": {}}).to_string()
            }
            "both forms" => json!({"protected": protected, "payload": "", "signature": signature,
                "signatures": [{"protected": protected, "signature": signature}]})
            .to_string(),
            "detached" => json!({"protected": protected, "signature": signature}).to_string(),
            "array" => json!([protected, "", signature]).to_string(),
            _ => json!({"protected": protected, "payload": "", "signature": signature, "more": 1}).to_string(),
        };
        let answer = post_raw(&mut client, &url, body.into_bytes()).await?;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{shape}");
    }
    client.read(&url).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn an_unencoded_payload_and_every_critical_parameter_are_malformed() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    for (member, value) in [
        ("b64", json!(false)),
        ("b64", json!(true)),
        ("crit", json!(["b64"])),
        ("crit", json!(["unheard-of"])),
        ("crit", json!([])),
        ("crit", Value::Null),
    ] {
        let mut protected = client.protected(&url).await?;
        protected[member] = value;
        problem(&post_with(&mut client, &url, &protected, "").await?, 400, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn no_signature_and_macs_are_bad_signature_algorithms_with_those_that_are_supported() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    for algorithm in ["none", "HS256", "HS512", "ES256K", "PS256", "es256", ""] {
        let mut protected = client.protected(&url).await?;
        protected["alg"] = json!(algorithm);
        let refused = problem(&post_with(&mut client, &url, &protected, "").await?, 400, "badSignatureAlgorithm");
        let supported = refused["algorithms"].as_array().ok_or("no list")?;
        assert!(supported.contains(&json!("ES256")) && supported.contains(&json!("EdDSA")), "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn es256_registers_and_so_does_eddsa() -> Result<()> {
    let site = site().await?;
    site.client().await?;
    let mut client = site.stranger().await?;
    let key = Ed25519KeyPair::generate().map_err(|_| "no key")?;
    let url = client.resource("newAccount");
    let nonce = client.take_nonce().await?;
    let jwk = json!({"crv": "Ed25519", "kty": "OKP", "x": b64(key.public_key())});
    let protected = b64(json!({"alg": "EdDSA", "jwk": jwk, "nonce": nonce, "url": url}).to_string());
    let payload = b64("{}");
    let signature = b64(key.sign(format!("{protected}.{payload}").as_bytes()));
    let body = json!({"protected": protected, "payload": payload, "signature": signature}).to_string();
    post_raw(&mut client, &url, body.into_bytes()).await?.expect_status(201)?;
    Ok(())
}

#[tokio::test]
async fn a_weak_or_unsupported_key_is_a_bad_public_key() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let point = client.key.jwk();
    let mut off_curve = point.clone();
    off_curve["y"] = point["x"].clone();
    let rsa = |bits: usize, exponent: &[u8]| {
        let mut modulus = vec![0xC3; bits / 8];
        modulus.extend([0x07; 0]);
        json!({"kty": "RSA", "n": b64(modulus), "e": b64(exponent)})
    };
    for (algorithm, jwk) in [
        ("ES256", off_curve),
        ("ES256", json!({"kty": "EC", "crv": "secp256k1", "x": point["x"], "y": point["y"]})),
        ("RS256", rsa(1024, &[1, 0, 1])),
        ("RS256", rsa(2048, &[1])),
        ("RS256", rsa(2048, &[3])),
        ("RS256", rsa(16_384, &[1, 0, 1])),
        ("EdDSA", json!({"kty": "OKP", "crv": "X25519", "x": point["x"]})),
    ] {
        let nonce = client.take_nonce().await?;
        let protected = json!({"alg": algorithm, "jwk": jwk, "nonce": nonce, "url": url});
        problem(&post_with(&mut client, &url, &protected, "{}").await?, 400, "badPublicKey");
    }
    Ok(())
}

#[tokio::test]
async fn one_key_written_in_another_way_is_no_second_account() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let made = client.post(&url, &json!({})).await?.expect_status(201)?;
    let mut padded = client.key.jwk();
    // A leading zero octet: the same number, another RFC 7638 thumbprint.
    let x = padded["x"].as_str().unwrap_or_default().to_owned();
    padded["x"] = json!(format!("AAAA{x}"));
    let nonce = client.take_nonce().await?;
    let protected = json!({"alg": "ES256", "jwk": padded, "nonce": nonce, "url": url});
    problem(&post_with(&mut client, &url, &protected, "{}").await?, 400, "badPublicKey");
    let mut more = client.key.jwk();
    more["use"] = json!("sig");
    let nonce = client.take_nonce().await?;
    let protected = json!({"alg": "ES256", "jwk": more, "nonce": nonce, "url": url});
    let found = post_with(&mut client, &url, &protected, "{}").await?.expect_status(200)?;
    assert_eq!(found.location()?, made.location()?);
    Ok(())
}

#[tokio::test]
async fn a_private_key_in_jwk_is_refused() -> Result<()> {
    let site = site().await?;
    let mut client = site.stranger().await?;
    let url = client.resource("newAccount");
    let mut jwk = client.key.jwk();
    jwk["d"] = json!(b64([7; 32]));
    let nonce = client.take_nonce().await?;
    let protected = json!({"alg": "ES256", "jwk": jwk, "nonce": nonce, "url": url});
    let refused = post_with(&mut client, &url, &protected, "{}").await?;
    assert_eq!(refused.status, 400);
    let none = client.post(&url, &json!({"onlyReturnExisting": true})).await?;
    problem(&none, 400, "accountDoesNotExist");
    Ok(())
}

#[tokio::test]
async fn both_of_jwk_and_kid_and_neither_are_malformed() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let mut both = client.protected(&url).await?;
    both["jwk"] = client.key.jwk();
    problem(&post_with(&mut client, &url, &both, "").await?, 400, "malformed");
    let nonce = client.take_nonce().await?;
    let neither = json!({"alg": "ES256", "nonce": nonce, "url": url});
    problem(&post_with(&mut client, &url, &neither, "").await?, 400, "malformed");
    Ok(())
}

#[tokio::test]
async fn kid_on_new_account_and_jwk_on_everything_but_revoke_cert_are_malformed() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let kid = client.kid.clone().ok_or("registered")?;
    let url = client.resource("newAccount");
    problem(&client.post(&url, &json!({})).await?, 400, "malformed");
    for url in [client.resource("newOrder"), kid] {
        let nonce = client.take_nonce().await?;
        let protected = json!({"alg": "ES256", "jwk": client.key.jwk(), "nonce": nonce, "url": url});
        problem(&post_with(&mut client, &url, &protected, "{}").await?, 400, "malformed");
    }
    Ok(())
}

#[tokio::test]
async fn a_content_type_other_than_jose_json_is_415() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let url = client.kid.clone().ok_or("registered")?;
    let others = [None, Some("application/json"), Some("application/jose"), Some("text/plain")];
    for content_type in others {
        let protected = client.protected(&url).await?;
        let body = client.key.jws(&protected, "")?;
        problem(&client.send("POST", &url, content_type, body).await?, 415, "malformed");
    }
    let protected = client.protected(&url).await?;
    let body = client.key.jws(&protected, "")?;
    client.send("POST", &url, Some("Application/JOSE+JSON"), body).await?.expect_status(200)?;
    Ok(())
}

#[tokio::test]
async fn an_unknown_account_does_not_exist() -> Result<()> {
    let site = site().await?;
    let mut client = site.client().await?;
    let kid = client.kid.clone().ok_or("registered")?;
    let url = client.resource("newOrder");
    for unknown in [flow::unknown_of(&kid), format!("{kid}/"), kid.replace("default", "terms"), "urn:x".to_owned()] {
        client.kid = Some(unknown);
        problem(&client.post(&url, &json!({})).await?, 400, "accountDoesNotExist");
    }
    Ok(())
}

#[tokio::test]
async fn a_signature_by_another_key_is_refused_whoevers_account_it_names() -> Result<()> {
    let site = site().await?;
    let victim = site.client().await?;
    let mut thief = site.stranger().await?;
    thief.kid.clone_from(&victim.kid);
    let url = victim.kid.clone().ok_or("registered")?;
    problem(&thief.read(&url).await?, 400, "malformed");
    Ok(())
}
