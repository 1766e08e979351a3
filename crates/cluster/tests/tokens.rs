//! Service-account tokens, as a fake API server signs and reviews them: which are taken, and why the others are not.
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a helper that fails fails its test")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use chancery_authority::ports::{IdentityError, ServiceAccount, WorkloadIdentity as _};
use chancery_cluster::{ApiServer, ClusterIdentity, Identity, Published, TokenCheck, TokenIdentity};
use chancery_pki::Timestamp;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use josekit::{
    jwk::Jwk,
    jws::{
        ES256, ES384, ES512, HS256, JwsAlgorithm, JwsHeader, JwsSigner, RS256, RS384, RS512,
        alg::{ecdsa::EcdsaJwsAlgorithm, rsassa::RsassaJwsAlgorithm},
    },
    jwt::{self, JwtPayload},
};
use kube_client::client::Body;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const ISSUER: &str = "https://kubernetes.default.svc";
const AUDIENCE: &str = "chancery/prod-eu";
const NOW: i64 = 1_795_600_000;

fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}

/// A cluster's API server: its keys, and whom it knows by which token.
#[derive(Default)]
struct Cluster {
    keys: Mutex<Vec<Jwk>>,
    /// Users by token, with the audiences that it says the token has.
    users: Mutex<BTreeMap<String, (String, Vec<String>)>>,
    asked: AtomicUsize,
    away: Mutex<bool>,
}

impl Cluster {
    fn server(self: &Arc<Self>) -> ApiServer {
        let cluster = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let cluster = Arc::clone(&cluster);
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        ApiServer::with_client(kube_client::Client::new(service, "default"), "https://fake.test")
    }

    async fn answer(&self, request: Request<Body>) -> Response<Full<bytes::Bytes>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let answer = |status: StatusCode, body: Value| {
            let response = Response::builder().status(status).header("content-type", "application/json");
            response.body(Full::from(body.to_string())).unwrap()
        };
        if *self.away.lock().unwrap() {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                json!({"kind": "Status", "status": "Failure", "code": 503}),
            );
        }
        match (parts.method.as_str(), parts.uri.path()) {
            ("GET", "/openid/v1/jwks") => {
                let keys: Vec<Value> =
                    self.keys.lock().unwrap().iter().map(|key| key.as_ref().clone().into()).collect();
                answer(StatusCode::OK, json!({"keys": keys}))
            }
            ("POST", "/apis/authentication.k8s.io/v1/tokenreviews") => {
                let review: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(review["spec"]["audiences"], json!([AUDIENCE]));
                let token = review["spec"]["token"].as_str().unwrap();
                let status = match self.users.lock().unwrap().get(token) {
                    Some((user, audiences)) => {
                        json!({"authenticated": true, "user": {"username": user}, "audiences": audiences})
                    }
                    None => json!({"authenticated": false, "error": "no such token"}),
                };
                let kind = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}});
                let mut answered = kind;
                answered["spec"] = review["spec"].clone();
                answered["status"] = status;
                answer(StatusCode::CREATED, answered)
            }
            (method, path) => panic!("{method} {path}"),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A key of a cluster that signs tokens.
struct Key {
    id: &'static str,
    public: Jwk,
    signer: Box<dyn JwsSigner>,
}

fn rsa(id: &'static str) -> Key {
    rsa_by(RS256, id)
}

fn rsa_by(algorithm: RsassaJwsAlgorithm, id: &'static str) -> Key {
    let pair = algorithm.generate_key_pair(2048).unwrap();
    let mut public = pair.to_jwk_public_key();
    public.set_key_id(id);
    public.set_key_use("sig");
    Key { id, public, signer: Box::new(algorithm.signer_from_der(pair.to_der_private_key()).unwrap()) }
}

fn ec(id: &'static str) -> Key {
    ec_by(ES256, id)
}

fn ec_by(algorithm: EcdsaJwsAlgorithm, id: &'static str) -> Key {
    let pair = algorithm.generate_key_pair().unwrap();
    let mut public = pair.to_jwk_public_key();
    public.set_key_id(id);
    Key { id, public, signer: Box::new(algorithm.signer_from_der(pair.to_der_private_key()).unwrap()) }
}

/// What a good token says, with one claim said otherwise.
fn claims(claim: &str, value: Value) -> JwtPayload {
    let mut all = json!({
        "iss": ISSUER,
        "aud": [AUDIENCE],
        "exp": NOW + 600,
        "nbf": NOW - 10,
        "iat": NOW - 10,
        "sub": "system:serviceaccount:chancery:issuer",
        "kubernetes.io": {"namespace": "chancery", "serviceaccount": {"name": "issuer", "uid": "u"}}
    });
    if value.is_null() {
        all.as_object_mut().unwrap().remove(claim);
    } else {
        all[claim] = value;
    }
    JwtPayload::from_map(all.as_object().unwrap().clone()).unwrap()
}

fn signed(key: &Key, payload: &JwtPayload) -> String {
    let mut header = JwsHeader::new();
    header.set_key_id(key.id);
    jwt::encode_with_signer(payload, &header, &*key.signer).unwrap()
}

fn good(key: &Key) -> String {
    signed(key, &claims("jti", json!("one")))
}

fn identity(check: TokenCheck) -> Identity {
    let tokens = Some(TokenIdentity { issuer: ISSUER.to_owned(), audience: AUDIENCE.to_owned(), check });
    Identity::new(vec![ClusterIdentity { cluster: "prod-eu".to_owned(), tokens, clients: None }])
}

async fn look(identity: &Identity, token: &str) -> Result<ServiceAccount, IdentityError> {
    identity.service_account(&token.into(), now()).await
}

async fn refused(identity: &Identity, token: &str) -> String {
    match look(identity, token).await {
        Err(IdentityError::Unknown(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_taken_and_forged_ones_are_not() {
    let both = |make: &dyn Fn() -> Key| (make(), make());
    for (name, (key, forger)) in [
        ("RS256", both(&|| rsa_by(RS256, "one"))),
        ("RS384", both(&|| rsa_by(RS384, "one"))),
        ("RS512", both(&|| rsa_by(RS512, "one"))),
        ("ES256", both(&|| ec_by(ES256, "one"))),
        ("ES384", both(&|| ec_by(ES384, "one"))),
        ("ES512", both(&|| ec_by(ES512, "one"))),
    ] {
        let cluster = Arc::new(Cluster::default());
        *cluster.keys.lock().unwrap() = vec![key.public.clone()];
        let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
        assert_eq!(key.signer.algorithm().name(), name);
        let told = refused(&identity, &good(&forger)).await;
        assert!(told.contains("signature does not verify"), "{name}: {told}");
        assert_eq!(look(&identity, &good(&key)).await.unwrap().name, "issuer", "{name}");
    }
}

#[tokio::test]
async fn a_token_that_the_clusters_keys_signed_for_us_speaks_for_its_account() {
    let cluster = Arc::new(Cluster::default());
    let (rsa, ec) = (rsa("one"), ec("two"));
    *cluster.keys.lock().unwrap() = vec![rsa.public.clone(), ec.public.clone()];
    let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    let account =
        ServiceAccount { cluster: "prod-eu".to_owned(), namespace: "chancery".to_owned(), name: "issuer".to_owned() };
    for key in [&rsa, &ec] {
        for _ in 0..3 {
            assert_eq!(look(&identity, &good(key)).await, Ok(account.clone()));
        }
    }
    assert_eq!(cluster.asked(), 1, "keys are read once");
}

#[tokio::test]
async fn every_token_that_is_not_quite_that_is_refused_with_its_reason_for_the_log() {
    let cluster = Arc::new(Cluster::default());
    let key = rsa("one");
    *cluster.keys.lock().unwrap() = vec![key.public.clone()];
    let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    for (claim, value, told) in [
        ("aud", json!(["https://kubernetes.default.svc"]), "no cluster has that issuer and audience"),
        ("aud", Value::Null, "lacks claims"),
        ("iss", json!("https://else.test"), "no cluster has that issuer and audience"),
        ("exp", json!(NOW - 61), "has expired"),
        ("exp", Value::Null, "lacks claims"),
        ("nbf", json!(NOW + 61), "does not hold yet"),
        ("sub", json!("system:node:a"), "no service account"),
        ("sub", json!("system:serviceaccount:other:issuer"), "do not agree"),
    ] {
        let why = refused(&identity, &signed(&key, &claims(claim, value))).await;
        assert!(why.contains(told), "{claim}: {why}");
    }
    // Within the leeway it is taken.
    look(&identity, &signed(&key, &claims("exp", json!(NOW - 59)))).await.unwrap();
    look(&identity, &signed(&key, &claims("nbf", json!(NOW + 59)))).await.unwrap();
    // A forged signature, another key under the same id, no algorithm at all.
    let token = good(&key);
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let flipped = format!("{rest}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    assert!(refused(&identity, &flipped).await.contains("does not verify"));
    assert!(refused(&identity, &good(&rsa("one"))).await.contains("does not verify"));
    let unsecured = jwt::encode_unsecured(&claims("jti", json!("x")), &JwsHeader::new()).unwrap();
    assert!(refused(&identity, &unsecured).await.contains("algorithm is not taken"));
    // The public key, used as if it were a secret.
    let public = serde_json::to_vec(key.public.as_ref()).unwrap();
    for secret in [public, key.public.parameter("n").unwrap().as_str().unwrap().as_bytes().to_vec()] {
        let signer = HS256.signer_from_bytes(&secret).unwrap();
        assert_eq!(signer.algorithm().name(), HS256.name());
        let mut header = JwsHeader::new();
        header.set_key_id("one");
        let confused = jwt::encode_with_signer(&claims("jti", json!("x")), &header, &signer).unwrap();
        assert!(refused(&identity, &confused).await.contains("algorithm is not taken"));
    }
    // An elliptic key's algorithm with an RSA key's id.
    assert!(refused(&identity, &good(&ec("one"))).await.contains("no such key"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_read_again_for_one_that_is_not_among_them_but_not_at_every_stranger_s_word() {
    let cluster = Arc::new(Cluster::default());
    let (old, new) = (ec("old"), ec("new"));
    *cluster.keys.lock().unwrap() = vec![old.public.clone()];
    let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    look(&identity, &good(&old)).await.unwrap();
    for _ in 0..50 {
        assert!(refused(&identity, &good(&new)).await.contains("no such key"));
    }
    assert_eq!(cluster.asked(), 1, "not within seconds of the last time");
    *cluster.keys.lock().unwrap() = vec![new.public.clone()];
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    look(&identity, &good(&new)).await.unwrap();
    assert_eq!(cluster.asked(), 2);
    // The old one is gone, as soon as its holder is no longer remembered.
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    assert!(refused(&identity, &good(&old)).await.contains("no such key"));
    // What is read goes on to count while the API server is away.
    *cluster.away.lock().unwrap() = true;
    tokio::time::advance(std::time::Duration::from_secs(3_600)).await;
    look(&identity, &good(&new)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_due_are_read_beside_and_those_that_nobody_could_read_for_a_day_count_no_more() {
    let cluster = Arc::new(Cluster::default());
    let (leaked, new) = (ec("leaked"), ec("new"));
    *cluster.keys.lock().unwrap() = vec![leaked.public.clone()];
    let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    look(&identity, &good(&leaked)).await.unwrap();
    // Withdrawn: whoever asks next is answered at once, and whoever asks after that is refused.
    *cluster.keys.lock().unwrap() = vec![new.public.clone()];
    tokio::time::advance(std::time::Duration::from_secs(700)).await;
    look(&identity, &good(&leaked)).await.unwrap();
    let beside = async {
        while cluster.asked() < 2 {
            tokio::task::yield_now().await;
        }
    };
    beside.await;
    // A key that is not at hand is waited for, until what is read beside has been taken apart.
    look(&identity, &good(&new)).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(40)).await;
    assert!(refused(&identity, &good(&leaked)).await.contains("no such key"));
    look(&identity, &good(&new)).await.unwrap();
    *cluster.away.lock().unwrap() = true;
    tokio::time::advance(std::time::Duration::from_secs(23 * 3_600)).await;
    look(&identity, &good(&new)).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(2 * 3_600)).await;
    let looked = look(&identity, &good(&new)).await;
    assert!(matches!(looked, Err(IdentityError::Unavailable(_))), "{looked:?}");
}

#[tokio::test]
async fn without_keys_it_is_our_side_that_cannot_look() {
    let cluster = Arc::new(Cluster::default());
    *cluster.away.lock().unwrap() = true;
    let identity = identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    let key = ec("one");
    for _ in 0..2 {
        let looked = look(&identity, &good(&key)).await;
        assert!(matches!(looked, Err(IdentityError::Unavailable(_))), "{looked:?}");
    }
    assert_eq!(cluster.asked(), 1, "it is left alone for a while");
}

#[tokio::test(start_paused = true)]
async fn a_review_decides_is_remembered_briefly_and_never_longer_than_the_token_holds() {
    let cluster = Arc::new(Cluster::default());
    let identity = identity(TokenCheck::Review(cluster.server()));
    let key = ec("one");
    *cluster.keys.lock().unwrap() = vec![key.public.clone()];
    let (token, short) = (good(&key), signed(&key, &claims("exp", json!(NOW + 5))));
    let user = "system:serviceaccount:shop:tenant".to_owned();
    let audiences = vec![AUDIENCE.to_owned()];
    for token in [&token, &short] {
        cluster.users.lock().unwrap().insert(token.clone(), (user.clone(), audiences.clone()));
    }
    for _ in 0..3 {
        let account = look(&identity, &token).await.unwrap();
        assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "tenant"), "as the review says");
        look(&identity, &short).await.unwrap();
    }
    assert_eq!(cluster.asked(), 3, "for its keys, and about each token once");
    // Its pod is gone; a few seconds later the short one is looked at again, the other one half a minute later.
    cluster.users.lock().unwrap().clear();
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    assert!(refused(&identity, &short).await.contains("does not take the token"));
    look(&identity, &token).await.unwrap();
    tokio::time::advance(std::time::Duration::from_secs(31)).await;
    assert!(refused(&identity, &token).await.contains("does not take the token"));
}

#[tokio::test]
async fn a_review_that_says_less_than_yes_for_us_is_a_no() {
    let cluster = Arc::new(Cluster::default());
    let identity = identity(TokenCheck::Review(cluster.server()));
    let key = ec("one");
    *cluster.keys.lock().unwrap() = vec![key.public.clone()];
    let token = good(&key);
    let answer = |user: &str, audiences: &[&str]| {
        let audiences = audiences.iter().map(|audience| (*audience).to_owned()).collect();
        cluster.users.lock().unwrap().insert(token.clone(), (user.to_owned(), audiences));
    };
    assert!(refused(&identity, &token).await.contains("does not take the token"));
    answer("system:serviceaccount:shop:tenant", &[]);
    assert!(refused(&identity, &token).await.contains("not for our audience"));
    answer("system:serviceaccount:shop:tenant", &["https://kubernetes.default.svc"]);
    assert!(refused(&identity, &token).await.contains("not for our audience"));
    answer("jane@example.com", &[AUDIENCE]);
    assert!(refused(&identity, &token).await.contains("no service account's"));
    let asked = cluster.asked();
    // What cannot be meant for us is not even asked about: no other cluster sees it.
    refused(&identity, &signed(&key, &claims("iss", json!("https://else.test")))).await;
    refused(&identity, &signed(&key, &claims("exp", json!(NOW - 600)))).await;
    assert_eq!(cluster.asked(), asked);
    *cluster.away.lock().unwrap() = true;
    let looked = look(&identity, &token).await;
    let Err(IdentityError::Unavailable(why)) = looked else { panic!("{looked:?}") };
    assert!(why.contains("https://fake.test") && !why.contains(&token), "{why}");
}

#[tokio::test]
async fn about_a_forged_token_nobody_is_asked_and_each_account_of_a_cluster_is_counted_apart() {
    let cluster = Arc::new(Cluster::default());
    let identity = identity(TokenCheck::Review(cluster.server()));
    let key = ec("one");
    *cluster.keys.lock().unwrap() = vec![key.public.clone()];
    let token = good(&key);
    let (rest, signature) = token.rsplit_once('.').unwrap();
    let flipped = format!("{rest}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
    for forged in [flipped, good(&ec("one")), good(&ec("two")), good(&rsa("one"))] {
        let asks = identity.asks(&forged.as_str().into(), now()).await;
        assert!(matches!(asks, Err(IdentityError::Unknown(_))), "{asks:?}");
        refused(&identity, &forged).await;
    }
    // What the cluster did sign, and is over, is counted against nobody either.
    let over = signed(&key, &claims("exp", json!(NOW - 600)));
    assert!(identity.asks(&over.into(), now()).await.is_err());
    assert_eq!(cluster.asked(), 1, "for its keys");
    let neighbour = json!("system:serviceaccount:chancery:neighbour");
    let mut payload = claims("sub", neighbour);
    payload.set_claim("kubernetes.io", None).unwrap();
    let mut asks = Vec::new();
    for token in [&token, &signed(&key, &payload), &signed(&key, &claims("jti", json!("two")))] {
        asks.push(identity.asks(&token.as_str().into(), now()).await.unwrap().unwrap());
    }
    assert!(asks[0] == asks[2] && asks[0] != asks[1], "{asks:?}");
    assert_eq!(cluster.asked(), 1);
    // Of whom it was known a moment ago nobody is asked again.
    let (user, audiences) = ("system:serviceaccount:chancery:issuer".to_owned(), vec![AUDIENCE.to_owned()]);
    cluster.users.lock().unwrap().insert(token.clone(), (user, audiences));
    look(&identity, &token).await.unwrap();
    assert_eq!(identity.asks(&token.as_str().into(), now()).await, Ok(None));
    // Where keys alone decide, nobody is asked about a token.
    let by_keys = self::identity(TokenCheck::Keys(Published::ApiServer(cluster.server())));
    assert_eq!(by_keys.asks(&good(&key).into(), now()).await, Ok(None));
}

/// An API server whose answers never come to an end; where it has keys, those that it is asked for do.
async fn endless(keys: Option<String>) -> (String, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 64 * 1024];
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
        if let Some(keys) = keys {
            assert!(stream.read(&mut asked).await.unwrap() > 0);
            let answer = format!("{head}content-length: {}\r\n\r\n{keys}", keys.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert!(stream.read(&mut asked).await.unwrap() > 0);
        stream.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
        let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, " ".repeat(64 * 1024));
        let mut sent = 0;
        while stream.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        sent
    });
    (url, sent)
}

#[tokio::test]
async fn an_answer_without_end_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "t").unwrap();
    let key = ec("one");
    let keys = json!({"keys": [Value::from(key.public.as_ref().clone())]}).to_string();
    for keys in [None, Some(keys)] {
        let reviews = keys.is_some();
        let (url, sent) = endless(keys).await;
        let server = ApiServer::new(&url, Vec::new(), &token).unwrap();
        let check = if reviews { TokenCheck::Review(server) } else { TokenCheck::Keys(Published::ApiServer(server)) };
        let identity = identity(check);
        let looked = look(&identity, &good(&key)).await;
        let Err(IdentityError::Unavailable(why)) = looked else { panic!("{looked:?}") };
        assert!(why.contains("length limit exceeded"), "{why}");
        drop(identity);
        // What it could send before it was hung up on fits into the buffers between.
        let sent = sent.await.unwrap();
        assert!(sent < 32 * 1024 * 1024, "{sent} octets");
    }
    let told = Published::File("/dev/zero".into()).check().await.unwrap_err().to_string();
    assert!(told.contains("more than the 262144 octets that are read"), "{told}");
}

#[tokio::test]
async fn keys_come_from_a_file_too_and_weak_ones_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.jwks");
    let (strong, mut weak) = (rsa("strong"), rsa("weak"));
    // With this exponent anybody signs.
    weak.public.set_parameter("e", Some(json!("AQ"))).unwrap();
    let keys: Vec<Value> =
        [&weak.public, &strong.public].into_iter().map(|key| Value::from(key.as_ref().clone())).collect();
    std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
    let identity = identity(TokenCheck::Keys(Published::File(file.clone())));
    look(&identity, &good(&strong)).await.unwrap();
    assert!(refused(&identity, &good(&weak)).await.contains("no such key"));
    for text in ["", "{}", r#"{"keys": []}"#, r#"{"keys": [{"kty": "oct", "k": "AA"}]}"#] {
        std::fs::write(&file, text).unwrap();
        assert!(Published::File(file.clone()).check().await.is_err(), "{text}");
    }
    assert!(Published::File(folder.path().join("none")).check().await.unwrap_err().to_string().contains("none"));
}

#[tokio::test]
async fn a_token_that_is_meant_for_two_clusters_is_neither_s() {
    let cluster = Arc::new(Cluster::default());
    let of = |name: &str, audience: &str| ClusterIdentity {
        cluster: name.to_owned(),
        tokens: Some(TokenIdentity {
            issuer: ISSUER.to_owned(),
            audience: audience.to_owned(),
            check: TokenCheck::Review(cluster.server()),
        }),
        clients: None,
    };
    let identity = Identity::new(vec![of("prod-eu", AUDIENCE), of("prod-us", "chancery/prod-us")]);
    let token = signed(&ec("one"), &claims("aud", json!([AUDIENCE, "chancery/prod-us"])));
    assert!(refused(&identity, &token).await.contains("several clusters"));
    assert_eq!(cluster.asked(), 0);
}
