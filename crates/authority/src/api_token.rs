//! API tokens: what a cluster's controller proves itself with where it has neither a service account nor a certificate
//! that we could check.
//!
//! A token is shown once, when it is made. What is kept is the SHA-256 of its secret part, 256 random bits; so are its
//! leaves in the ledger, from which a rebuild has it again.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chancery_acme::order::ProfileName;
use chancery_pki::Timestamp;
use chancery_policy::NameLimits;
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    changes::{Change, Changes, Counter, Put},
    failure::{Failure, Refusal},
    issue::sha256,
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::JobKind,
};

/// How every token begins, so that people and scanners know one when they see it.
pub const TOKEN_PREFIX: &str = "chancery_";
/// Octets of a token behind that: its id and its secret part.
const TOKEN_OCTETS: usize = 16 + 32;
/// Most tokens that are kept, ended ones included.
const TOKENS_MAX: u64 = 10_000;
/// How long a token that ended can still be seen.
const KEEP_ENDED: Duration = Duration::from_secs(90 * 86_400);
/// Longest comment, in octets.
const COMMENT_MAX: usize = 200;
/// Most namespaces of one token.
const NAMESPACES_MAX: usize = 256;
/// Longest life of a token.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiTokenId([u8; 16]);

/// The text is no token's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a token: 22 characters of base64url")]
pub struct NotATokenId;

impl ApiTokenId {
    /// From the 16 octets that a store kept.
    #[must_use]
    pub const fn from_octets(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// The 16 octets, as a store keeps them.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for ApiTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for ApiTokenId {
    type Err = NotATokenId;

    fn from_str(text: &str) -> Result<Self, NotATokenId> {
        let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| NotATokenId)?;
        octets.try_into().map(Self).map_err(|_| NotATokenId)
    }
}

/// An API token, without the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Which.
    pub id: ApiTokenId,
    /// The cluster that it speaks for.
    pub cluster: String,
    /// What it is for, in the words of whoever made it.
    pub comment: String,
    /// SHA-256 of its secret part.
    pub sha256: [u8; 32],
    /// The namespaces that it speaks for; none, for all.
    pub namespaces: Option<BTreeSet<String>>,
    /// The profiles that may be asked for with it; none, for the cluster's.
    pub profiles: Option<Vec<ProfileName>>,
    /// The names that may be asked for with it; none sets no limit of its own.
    pub names: Option<NameLimits>,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
}

/// What a token is made by.
#[derive(Debug, Clone)]
pub struct MakeApiToken {
    /// The cluster that it is to speak for.
    pub cluster: String,
    /// What it is for.
    pub comment: String,
    /// How long it is to hold.
    pub life: Duration,
    /// The namespaces that it is to speak for; none, for all.
    pub namespaces: Option<BTreeSet<String>>,
    /// The profiles that may be asked for with it; none, for the cluster's.
    pub profiles: Option<Vec<ProfileName>>,
    /// The names that may be asked for with it; none sets no limit of its own.
    pub names: Option<NameLimits>,
}

/// Why a token is not made or revoked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiTokenRejection {
    /// No such cluster.
    #[error("there is no cluster \"{}\" in the configuration; there {}", name.escape_debug(), listed(known))]
    UnknownCluster {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A profile that the cluster may not ask for.
    #[error("cluster {cluster} may not ask for the profile \"{}\": it may ask for {}", profile.escape_debug(), allowed.join(", "))]
    Profile {
        /// The cluster.
        cluster: String,
        /// The profile.
        profile: String,
        /// Those that it may ask for.
        allowed: Vec<String>,
    },
    /// A namespace that the cluster may not speak for.
    #[error("cluster {cluster} speaks for the namespaces {} alone, not for \"{}\"", allowed.join(", "), namespace.escape_debug())]
    Namespace {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// Those that it speaks for.
        allowed: Vec<String>,
    },
    /// A text that is no namespace.
    #[error("\"{}\" is no namespace: 1 to 63 lower-case letters, digits and inner hyphens", .0.escape_debug())]
    NotANamespace(String),
    /// An empty list would let nothing pass.
    #[error("a token that may ask for no {0} at all is of no use; leave the limit out, or name some")]
    Nothing(&'static str),
    /// Too many limits.
    #[error("a token has at most {NAMESPACES_MAX} namespaces")]
    TooManyNamespaces,
    /// A comment that is too long, or more than one line.
    #[error("a comment is one line of at most {COMMENT_MAX} octets")]
    Comment,
    /// A life that is none, or too long.
    #[error("a token holds for a second at least and for ten years at most")]
    Life,
    /// There are too many.
    #[error("{TOKENS_MAX} tokens are kept already; those that ended go by themselves after 90 days")]
    TooMany,
    /// No such token.
    #[error("there is no token {0}")]
    Unknown(ApiTokenId),
    /// It is revoked already.
    #[error("the token was revoked at {at}")]
    AlreadyRevoked {
        /// When.
        at: Timestamp,
    },
}

fn listed(known: &[String]) -> String {
    if known.is_empty() { "is no [[cluster]] at all".to_owned() } else { format!("are: {}", known.join(", ")) }
}

/// Whether a text names a Kubernetes namespace (RFC 1123 §2.1, as Kubernetes has it).
#[must_use]
pub fn is_namespace(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') && !text.ends_with('-')
}

impl ApiToken {
    /// When it ended or ends.
    #[must_use]
    pub fn ends(&self) -> Timestamp {
        self.revoked.map_or(self.expires, |revoked| revoked.min(self.expires))
    }

    /// When it may be dropped.
    #[must_use]
    pub fn kept_until(&self) -> Timestamp {
        self.ends().after(KEEP_ENDED)
    }

    /// Whether it holds now.
    #[must_use]
    pub fn holds(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.expires
    }
}

impl Office {
    /// Makes a token; the token itself is in nobody else's hands.
    ///
    /// # Errors
    ///
    /// An [`ApiTokenRejection`], or [`Failure`].
    pub async fn make_api_token(
        &self,
        asked: MakeApiToken,
        by: &str,
    ) -> Result<(ApiToken, SecretString), Refusal<ApiTokenRejection>> {
        self.check_api_token(&asked).map_err(Refusal::Rejected)?;
        let MakeApiToken { cluster, comment, life, namespaces, profiles, names } = asked;
        let created = self.trusted_time()?;
        let (id, secret) = (ApiTokenId(self.entropy().octets16()), self.entropy().octets32());
        let sha256 = sha256(&secret);
        let expires = created.after(life).whole_seconds();
        let token =
            ApiToken { id, cluster, comment, sha256, namespaces, profiles, names, created, expires, revoked: None };
        let changes = Changes::new()
            .with(Change::ApiToken(Put::new(token.clone())))
            .with(Change::Count { counter: Counter::ApiTokens, by: 1, limit: Some(TOKENS_MAX) })
            .schedule(JobKind::PruneApiToken { token: id }, token.kept_until())
            .leaf(leaves::api_token_created(&token, by));
        match self.commit(changes).await {
            Ok(_) => {}
            Err(CommitError::Limit { .. }) => return Err(Refusal::Rejected(ApiTokenRejection::TooMany)),
            Err(error) => return Err(Failure::from(error).into()),
        }
        tracing::info!(token.id = %id, cluster = token.cluster, expires = %token.expires, by, "an API token was made");
        let text = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode([id.0.as_slice(), &secret].concat()));
        Ok((token, SecretString::from(text)))
    }

    fn check_api_token(&self, asked: &MakeApiToken) -> Result<(), ApiTokenRejection> {
        use ApiTokenRejection as R;
        let settings = self.settings();
        let Some(cluster) = settings.clusters.get(&asked.cluster) else {
            let known = settings.clusters.keys().cloned().collect();
            return Err(R::UnknownCluster { name: asked.cluster.clone(), known });
        };
        if let Some(profiles) = &asked.profiles {
            if profiles.is_empty() {
                return Err(R::Nothing("profile"));
            }
            if let Some(profile) = profiles.iter().find(|profile| !cluster.profiles.contains(profile)) {
                let (cluster, allowed) = (cluster.name.clone(), cluster.profiles.clone());
                return Err(R::Profile { cluster, profile: profile.clone(), allowed });
            }
        }
        if let Some(namespaces) = &asked.namespaces {
            match namespaces.len() {
                0 => return Err(R::Nothing("namespace")),
                1..=NAMESPACES_MAX => {}
                _ => return Err(R::TooManyNamespaces),
            }
            for namespace in namespaces {
                if !is_namespace(namespace) {
                    return Err(R::NotANamespace(namespace.clone()));
                }
                if let Some(allowed) = cluster.namespaces.as_ref().filter(|allowed| !allowed.contains(namespace)) {
                    return Err(R::Namespace {
                        cluster: cluster.name.clone(),
                        namespace: namespace.clone(),
                        allowed: allowed.iter().cloned().collect(),
                    });
                }
            }
        }
        if asked.comment.len() > COMMENT_MAX || asked.comment.contains(char::is_control) {
            return Err(R::Comment);
        }
        if asked.life < Duration::from_secs(1) || asked.life > LIFE_MAX {
            return Err(R::Life);
        }
        Ok(())
    }

    /// Tokens in the order of their ids, after `after`.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn api_tokens(&self, after: Option<ApiTokenId>, limit: usize) -> Result<Vec<ApiToken>, Failure> {
        Ok(self.store().api_tokens(after, limit).await?)
    }

    /// Revokes a token: from the next request on it is not taken any more.
    ///
    /// # Errors
    ///
    /// An [`ApiTokenRejection`], or [`Failure`].
    pub async fn revoke_api_token(&self, id: ApiTokenId, by: &str) -> Result<ApiToken, Refusal<ApiTokenRejection>> {
        for _ in 0..ATTEMPTS {
            let Some(loaded) = self.store().api_token(id).await? else {
                return Err(Refusal::Rejected(ApiTokenRejection::Unknown(id)));
            };
            if let Some(at) = loaded.value.revoked {
                return Err(Refusal::Rejected(ApiTokenRejection::AlreadyRevoked { at }));
            }
            let now = self.now();
            let revoked = ApiToken { revoked: Some(now), ..loaded.value.clone() };
            let changes = Changes::new()
                .with(Change::ApiToken(Put::over(&loaded, revoked.clone())))
                .schedule(JobKind::PruneApiToken { token: id }, revoked.kept_until())
                .leaf(leaves::api_token_revoked(id, by, now))
                .urgently();
            match self.commit(changes).await {
                Ok(_) => {
                    tracing::info!(token.id = %id, cluster = revoked.cluster, by, "an API token was revoked");
                    return Ok(revoked);
                }
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    /// The token that a text is, if it holds now. Of one that is unknown, wrong, over or revoked nothing is told.
    pub(crate) async fn api_token_of(&self, text: &SecretString) -> Result<Option<ApiToken>, Failure> {
        let Some((id, secret)) = parts(text) else { return Ok(None) };
        let Some(found) = self.store().api_token(id).await? else { return Ok(None) };
        let is_it = verify_slices_are_equal(&sha256(&secret), &found.value.sha256).is_ok();
        Ok(Some(found.value).filter(|token| is_it && token.holds(self.now())))
    }

    /// Drops a token that ended long ago.
    pub(crate) async fn prune_api_token(&self, id: ApiTokenId) -> Result<(), Failure> {
        let kind = JobKind::PruneApiToken { token: id };
        for _ in 0..ATTEMPTS {
            let now = self.trusted_time()?;
            let changes = match self.store().api_token(id).await? {
                None => Changes::new().with(Change::Finish(kind.clone())),
                Some(loaded) if now < loaded.value.kept_until() => {
                    Changes::new().schedule(kind.clone(), loaded.value.kept_until())
                }
                Some(loaded) => Changes::new()
                    .with(Change::RemoveApiToken(id, loaded.version))
                    .with(Change::Count { counter: Counter::ApiTokens, by: -1, limit: None })
                    .with(Change::Finish(kind.clone())),
            };
            match self.commit(changes).await {
                Ok(_) => return Ok(()),
                Err(CommitError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::Busy)
    }
}

/// The two parts of a token's text.
fn parts(text: &SecretString) -> Option<(ApiTokenId, [u8; 32])> {
    let rest = text.expose_secret().strip_prefix(TOKEN_PREFIX)?;
    let mut octets = [0; TOKEN_OCTETS];
    let written = URL_SAFE_NO_PAD.decode_slice(rest, &mut octets).ok()?;
    let (id, secret) = octets.get(..written)?.split_first_chunk::<16>()?;
    Some((ApiTokenId(*id), secret.try_into().ok()?))
}
