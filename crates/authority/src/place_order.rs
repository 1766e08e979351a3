//! Placing an order (RFC 8555 §7.4): names, profile and validity are judged here, all at once,
//! before the client does any work.

use std::sync::Arc;

use chancery_acme::{
    account::{Account, TenantName},
    authorization::{Authorization, AuthorizationState},
    challenge::{Challenge, ChallengeKind, ChallengeState, Token},
    id::OrderId,
    order::{Order, OrderState, ProfileName},
    renewal_info::UniqueIdentifier,
};
use chancery_pki::{
    Name, NameSet, Timestamp,
    content::AS_PROFILE,
    profile::{Profile, ValidityRejection},
};
use chancery_policy::{Decision, Outcome, Requester};

use crate::{
    changes::{Change, Changes, Counter, Put},
    eab_keys::EabKeyGone,
    failure::{Failure, Refusal},
    issue::{ContentFacts, NameRefusal, RefusedNames, names_refused},
    leaves,
    office::{ATTEMPTS, Office},
    ports::CommitError,
    records::{EabKey, EabKeyId, JobKind},
    register_account::{TermsChanged, must_agree},
    settings::{Directory, Settings},
};

/// What a newOrder request asks for.
#[derive(Debug, Clone)]
pub struct PlaceOrder {
    /// The names.
    pub names: NameSet,
    /// The `notBefore` wanted.
    pub not_before: Option<Timestamp>,
    /// The `notAfter` wanted.
    pub not_after: Option<Timestamp>,
    /// The profile wanted; `None` takes the directory's default.
    pub profile: Option<ProfileName>,
    /// The certificate that it replaces (RFC 9773 §5).
    pub replaces: Option<UniqueIdentifier>,
}

/// Why an order is not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PlaceOrderRejection {
    /// The terms of service changed.
    #[error(transparent)]
    Terms(#[from] TermsChanged),
    /// Policy says no.
    #[error("{}", .0.explain())]
    Policy(Box<Decision>),
    /// No such profile at this directory.
    #[error("this directory has no profile named \"{profile}\"; it has {known}", known = known.join(", "))]
    UnknownProfile {
        /// What was asked for.
        profile: String,
        /// What there is.
        known: Vec<ProfileName>,
    },
    /// A profile of this directory that the account's EAB key does not permit.
    #[error(
        "the EAB key \"{key}\" of this account does not permit the profile \"{profile}\"; it permits {}",
        permitted.join(", ")
    )]
    ProfileNotPermitted {
        /// The key.
        key: EabKeyId,
        /// What was asked for.
        profile: ProfileName,
        /// What it permits.
        permitted: Vec<ProfileName>,
    },
    /// The account's EAB key is gone.
    #[error(transparent)]
    KeyGone(#[from] EabKeyGone),
    /// The validity that was asked for cannot be granted.
    #[error(transparent)]
    Validity(ValidityRejection),
    /// Names are refused, and not by policy alone.
    #[error(transparent)]
    Names(#[from] RefusedNames),
    /// What is to be replaced is no certificate that this account ordered here.
    #[error("\"replaces\" names no certificate that this account ordered from this server; place the order without it")]
    NothingToReplace,
    /// What is to be replaced is for other names.
    #[error(
        "the certificate that \"replaces\" names holds none of this order's identifiers; place the order without it"
    )]
    NothingInCommon,
    /// Another order replaces it.
    #[error(
        "another order that is not invalid replaces the certificate that \"replaces\" names; go on with that one, or \
         place this one without it"
    )]
    AlreadyReplaced,
    /// Too many open orders.
    #[error("this account has {limit} open orders; finish some, or wait until they expire")]
    TooManyPending {
        /// The limit.
        limit: u64,
    },
}

impl Office {
    /// Places an order; its authorizations come with it.
    ///
    /// # Errors
    ///
    /// A [`PlaceOrderRejection`], all names judged at once, or [`Failure`].
    pub async fn place_order(
        &self,
        account: &Account,
        request: PlaceOrder,
    ) -> Result<Order, Refusal<PlaceOrderRejection>> {
        use PlaceOrderRejection as R;
        let settings = self.settings();
        let directory = directory_of(&settings, account)?;
        must_agree(&directory, account).map_err(|changed| Refusal::Rejected(changed.into()))?;
        let key = self.eab_key_of(account).await?.map_err(|gone| Refusal::Rejected(R::KeyGone(gone)))?;
        let key = key.as_ref().map(|key| &key.value);
        let profile = profile_for(&settings, &directory, key, request.profile.as_deref())?;
        // Nobody need show control then, so it does not matter who could.
        let preauthorized = directory.preauthorized && key.is_some();
        let now = self.issuing_time()?;

        let authority = settings
            .authority(&directory.authority)
            .ok_or_else(|| Failure::Internal(format!("no authority named {}", directory.authority)))?;
        let (_, chain) = authority.current(now).ok_or_else(|| {
            Failure::Unavailable(format!("no issuing certificate of authority {} is valid now", authority.id))
        })?;
        profile
            .validity(now, (request.not_before, request.not_after), chain.not_after())
            .map_err(|rejection| Refusal::Rejected(R::Validity(rejection)))?;
        let requester = acme_requester(account);
        let facts = ContentFacts::of(&profile, &AS_PROFILE);
        let asked = chancery_policy::Request {
            requester: &requester,
            names: &request.names,
            profile: profile.name(),
            key: None,
            lifetime: None,
            content: facts.for_policy(),
            now,
        };
        let decision = Self::ask_policy(&settings, || settings.policy.evaluate(&asked));
        let refused_by_policy = match decision.outcome {
            // What is undecided now is decided at finalize, once the key is known.
            Outcome::Allow | Outcome::Undecided => false,
            Outcome::Deny | Outcome::Hold => true,
        };
        if refused_by_policy {
            let (who, tenant) = (who(account, &requester), directory.tenant.as_ref());
            self.record_refusal(&who, tenant, &requester, &decision, now).await;
        }
        let mut others = names_refused(&profile, chain, &request.names, &AS_PROFILE, now)?;
        others.extend(key.map(|key| names_beyond_key(key, &request.names)).unwrap_or_default());
        let unsolvable = |name: &&Name| !preauthorized && !self.is_solvable(&directory, name);
        others.extend(request.names.iter().filter(unsolvable).map(|name| NameRefusal {
            name: name.clone(),
            because: "no challenge type of this directory can show control of this name".to_owned(),
        }));
        match (refused_by_policy, others.is_empty()) {
            (false, true) => {}
            (true, true) => return Err(Refusal::Rejected(R::Policy(Box::new(decision)))),
            (by_policy, false) => {
                let policy = by_policy.then(|| Box::new(decision));
                return Err(Refusal::Rejected(R::Names(RefusedNames { policy, others })));
            }
        }

        let (mut order, mut authorizations) =
            self.order_and_authorizations(account, &directory, &profile, request, now);
        if preauthorized {
            // Every name is allowed here, or the order is refused: none is left to a challenge.
            order.state = OrderState::Ready;
            let expires = now.after(directory.authorization_lifetime).whole_seconds().max(order.expires);
            for authorization in &mut authorizations {
                authorization.state = AuthorizationState::Valid;
                authorization.expires = expires;
                authorization.challenges.clear();
            }
        }
        let limit = settings.limits.pending_orders_per_account;
        let mut changes = Changes::new()
            .with(Change::Order(Put::new(order.clone())))
            .with(Change::Count { counter: Counter::PendingOrders(account.id), by: 1, limit: Some(limit) })
            .schedule(JobKind::PruneOrder { order: order.id }, order.expires);
        for authorization in authorizations {
            changes = changes.with(Change::Authorization(Put::new(authorization)));
        }
        for _ in 0..ATTEMPTS {
            let mut changes = changes.clone();
            if let Some(replaced) = &order.replaces {
                changes = changes.with(self.replacement(&settings, account, &order, replaced).await?);
            }
            match self.commit(changes).await {
                Ok(_) => return Ok(order),
                Err(CommitError::Conflict) => {}
                Err(CommitError::Limit { .. }) => return Err(Refusal::Rejected(R::TooManyPending { limit })),
                Err(error) => return Err(Failure::from(error).into()),
            }
        }
        Err(Failure::Busy.into())
    }

    fn is_solvable(&self, directory: &Directory, name: &Name) -> bool {
        let may = |kind: &ChallengeKind| kind.suits(name) && self.ports().validator.may_validate(name, *kind);
        directory.challenges.iter().any(may)
    }

    fn order_and_authorizations(
        &self,
        account: &Account,
        directory: &Directory,
        profile: &Profile,
        request: PlaceOrder,
        now: Timestamp,
    ) -> (Order, Vec<Authorization>) {
        let id = OrderId::new(account.id, self.entropy().octets16());
        let expires = now.after(directory.order_lifetime).whole_seconds();
        let authorizations: Vec<Authorization> = request
            .names
            .iter()
            .zip(0..)
            .map(|(name, place)| Authorization {
                id: id.authorization(place),
                account: account.id,
                order: id,
                name: name.clone(),
                state: AuthorizationState::Pending,
                expires,
                challenges: directory
                    .challenges
                    .iter()
                    .filter(|kind| kind.suits(name))
                    .map(|kind| Challenge {
                        kind: *kind,
                        token: Token::from_random(self.entropy().octets16()),
                        state: ChallengeState::Pending,
                    })
                    .collect(),
            })
            .collect();
        let order = Order {
            id,
            account: account.id,
            directory: directory.name.clone(),
            tenant: directory.tenant.clone(),
            names: request.names,
            profile: profile.name().to_owned(),
            not_before: request.not_before,
            not_after: request.not_after,
            replaces: request.replaces,
            authorizations: authorizations.iter().map(|authorization| authorization.id).collect(),
            state: OrderState::Pending,
            created: now,
            expires,
        };
        (order, authorizations)
    }

    /// The first refusal of its kind within its hour gets a leaf. That a refusal could not be recorded does not undo it.
    pub(crate) async fn record_refusal(
        &self,
        who: &str,
        tenant: Option<&TenantName>,
        requester: &Requester,
        decision: &Decision,
        now: Timestamp,
    ) {
        let digest = leaves::refusal_digest(who, decision);
        if !self.first_refusal(digest, now) {
            return;
        }
        let changes = Changes::new().leaf(leaves::refusal(who, requester, tenant.cloned(), decision, now));
        if let Err(error) = self.commit(changes).await {
            self.forget_refusal(&digest);
            tracing::warn!(%error, "a refusal was not recorded in the ledger");
        }
    }
}

/// Who is refused, as the ledger tells it: strangers share one name, so that they cannot grow it.
pub(crate) fn who(account: &Account, requester: &Requester) -> String {
    if account.proven {
        requester.to_string()
    } else {
        format!("accounts without any certificate at directory {}", account.directory)
    }
}

/// The directory that an account registered at.
pub(crate) fn directory_of(settings: &Settings, account: &Account) -> Result<Arc<Directory>, Failure> {
    settings
        .directories
        .get(&account.directory)
        .cloned()
        .ok_or_else(|| Failure::Unavailable(format!("the directory {} is no longer offered", account.directory)))
}

/// The profile that is asked for, if there is such a one and the account's EAB key permits it; the first that it permits
/// where none is asked for.
fn profile_for(
    settings: &Settings,
    directory: &Directory,
    key: Option<&EabKey>,
    asked: Option<&str>,
) -> Result<Arc<Profile>, Refusal<PlaceOrderRejection>> {
    let permitted = |name: &&ProfileName| key.is_none_or(|key| key.permits_profile(name));
    let name = match asked {
        None => directory.profiles.iter().find(permitted).or_else(|| directory.profiles.first()),
        Some(asked) => directory.profiles.iter().find(|name| *name == asked),
    };
    if let (Some(key), Some(profile)) = (key, name.filter(|name| !permitted(name))) {
        return Err(Refusal::Rejected(PlaceOrderRejection::ProfileNotPermitted {
            key: key.id.clone(),
            profile: profile.clone(),
            permitted: key.limits.profiles.clone(),
        }));
    }
    name.and_then(|name| settings.profiles.get(name)).cloned().ok_or_else(|| {
        Refusal::Rejected(PlaceOrderRejection::UnknownProfile {
            profile: asked.unwrap_or_default().chars().take(64).flat_map(char::escape_debug).collect(),
            known: directory.profiles.clone(),
        })
    })
}

/// The names that an account's EAB key does not permit, whatever policy says.
pub(crate) fn names_beyond_key(key: &EabKey, names: &NameSet) -> Vec<NameRefusal> {
    let refused = |name: &Name| key.refuses_name(name).map(|because| NameRefusal { name: name.clone(), because });
    names.iter().filter_map(refused).collect()
}

/// Who an ACME account is to policy.
pub(crate) fn acme_requester(account: &Account) -> Requester {
    Requester::acme(
        &account.directory,
        &account.id.to_string(),
        account.external.as_ref().map(|external| external.key_id.as_str()),
    )
}
