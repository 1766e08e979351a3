//! What time it is for the API server, by the `Date` of its answer: the clock of whoever runs this may be wrong, and the
//! times of objects are the API server's.

use axum::http::{Request, header::DATE};
use k8s_openapi::jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use kube::{Client, client::Body};
use tokio::time::Instant;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct ApiTime {
    /// In whole seconds, as an answer tells it; it is up to one second later.
    told: Timestamp,
    at: Instant,
}

impl ApiTime {
    /// Asks.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(super) async fn of(client: &Client) -> Result<Self, String> {
        let request = Request::get("/version").body(Body::empty()).map_err(|error| error.to_string())?;
        let answer = client.send(request).await.map_err(|error| format!("the API server does not answer: {error}"))?;
        let at = Instant::now();
        let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
        let told = date.and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp());
        let told = told.ok_or("the API server does not tell its time: its answer has no Date")?;
        Ok(Self { told, at })
    }

    /// The second after the one that was told. What is made once [`Self::next_second_has_come`] returns is made in it or
    /// later; what was made before lies before it, but for what was made in it meanwhile.
    pub(super) fn next_second(&self) -> Timestamp {
        self.told.saturating_add(SignedDuration::from_secs(1)).unwrap_or(Timestamp::MAX)
    }

    /// Waits until the next second has begun there.
    pub(super) async fn next_second_has_come(&self) {
        tokio::time::sleep_until(self.at + std::time::Duration::from_secs(1)).await;
    }

    /// Now, to a second.
    pub(super) fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.at.elapsed()).unwrap_or(SignedDuration::ZERO);
        self.told.saturating_add(passed).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{
        http::{HeaderValue, Method},
        response::{IntoResponse as _, Response},
    };

    use super::*;
    use crate::fake_api;

    /// An API server whose clock stands at this.
    fn dated(date: &'static str) -> Client {
        fake_api::client(move |method, uri, _| {
            assert_eq!((method, uri.path()), (&Method::GET, "/version"));
            let mut answer: Response = "{}".into_response();
            answer.headers_mut().insert(DATE, HeaderValue::from_static(date));
            answer
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_is_the_api_servers_however_this_machines_clock_stands() {
        let time = ApiTime::of(&dated("Sun, 06 Nov 1994 08:49:37 GMT")).await.expect("a time");
        assert_eq!(time.next_second().to_string(), "1994-11-06T08:49:38Z");
        time.next_second_has_come().await;
        assert_eq!(time.now(), time.next_second());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(time.now().to_string(), "1994-11-06T08:50:38Z");
    }

    #[tokio::test]
    async fn an_api_server_that_tells_no_time_is_said_to_tell_none() {
        let silent = fake_api::client(|_, _, _| "{}".into_response());
        for client in [silent, dated("soon")] {
            assert!(ApiTime::of(&client).await.expect_err("no time").contains("does not tell its time"));
        }
    }
}
