//! RFC 8555, Automatic Certificate Management Environment: a module for each section that says something to clients.

mod s10_5;
mod s11_1;
mod s6_1;
mod s6_2;
mod s6_3;
mod s6_4;
mod s6_5;
mod s6_6;
mod s6_7;
mod s7_1;
mod s7_1_1;
mod s7_1_2;
mod s7_1_3;
mod s7_1_4;
mod s7_1_6;
mod s7_2;
mod s7_3;
mod s7_3_1;
mod s7_3_2;
mod s7_3_3;
mod s7_3_4;
mod s7_3_5;
mod s7_3_6;
mod s7_4;
mod s7_4_2;
mod s7_5;
mod s7_5_1;
mod s7_5_2;
mod s7_6;
mod s8;
mod s8_3;
mod s8_4;

use chancery_harness::{
    Result,
    client::{Answer, Client, b64, challenge, csr, csr_with},
};
use serde_json::{Value, json};

use crate::{
    flow::{self, problem},
    sites::{own, site},
};

/// Posts a body to a URL as it is.
async fn post_raw(client: &mut Client, url: &str, body: Vec<u8>) -> Result<Answer> {
    client.send("POST", url, Some("application/jose+json"), body).await
}

/// Signs with this protected header, word for word, and posts.
async fn post_with(client: &mut Client, url: &str, protected: &Value, payload: &str) -> Result<Answer> {
    let body = client.key.jws(protected, payload)?;
    post_raw(client, url, body).await
}

/// The URL of one challenge of an order's first authorization, and its token.
async fn first_challenge(client: &mut Client, order: &Value, kind: &str) -> Result<(String, String)> {
    let url = order["authorizations"][0].as_str().ok_or("no authorization")?;
    challenge(&client.read(url).await?.expect_status(200)?.json(), kind)
}

/// The kind of a problem within its namespace.
fn urn(kind: &str) -> String {
    format!("urn:ietf:params:acme:error:{kind}")
}
