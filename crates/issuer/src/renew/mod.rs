//! `chancery-issuer renew`: has cert-manager renew every Certificate of chosen issuers, at a chosen pace, as after a change
//! of the root. It asks as `cmctl renew` does: by the condition `Issuing`. It may be ended and begun again at any time.

mod api_time;
mod campaign;
mod report;

use std::{collections::HashMap, time::Duration};

use clap::{Args, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use self::{
    api_time::ApiTime,
    campaign::{Campaign, Certificate, Chosen, Key},
    report::Report,
};
use crate::cli::duration;

/// How often it is looked for what takes too long.
const LOOK: Duration = Duration::from_secs(5);
/// How many objects are read at a time.
const PAGE: u32 = 500;
/// What the condition says, as cert-manager's own tool has it.
const REASON: &str = "ManuallyTriggered";

/// Settings of `renew`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    chancery-issuer renew --all --dry-run\n  \
    chancery-issuer renew --cluster-issuer company --per-minute 120\n  \
    chancery-issuer renew --issuer payments/company --issued-before 2026-11-29T08:00:00Z")]
pub(crate) struct Renew {
    /// Certificates of this ChanceryClusterIssuer; give it once for each
    #[arg(long = "cluster-issuer", value_name = "NAME", required_unless_present_any = ["issuers", "all"])]
    cluster_issuers: Vec<String>,
    /// Certificates of this ChanceryIssuer; give it once for each
    #[arg(long = "issuer", value_name = "NAMESPACE/NAME", value_parser = namespaced)]
    issuers: Vec<(String, String)>,
    /// Certificates of every ChanceryIssuer and ChanceryClusterIssuer
    #[arg(long, conflicts_with_all = ["cluster_issuers", "issuers"])]
    all: bool,
    /// Of those, the ones of this namespace; give it once for each [default: all]
    #[arg(long = "namespace", value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// How many are begun each minute
    #[arg(long, value_name = "NUMBER", default_value = "60", value_parser = clap::value_parser!(u32).range(1..=6000))]
    per_minute: u32,
    /// How many are under way at a time
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    at_once: u16,
    /// Leave out what was asked for at this time or later (RFC 3339); begin again with the same time to go on [default:
    /// now, by the API server's clock]
    #[arg(long, value_name = "TIME")]
    issued_before: Option<Timestamp>,
    /// How long one may take before its place is given to the next, such as 10m
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    wait: Duration,
    /// Say which would be renewed, and renew none
    #[arg(long)]
    dry_run: bool,
    /// Lines for people, or JSON for programs
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// How progress is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Lines for people.
    Text,
    /// One object a line, for programs.
    Json,
}

fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("NAMESPACE/NAME is wanted; a ChanceryClusterIssuer goes with --cluster-issuer".to_owned()),
    }
}

/// Renews, and returns when all are renewed.
///
/// # Errors
///
/// A sentence: what cannot be, how many were not renewed and why, or how to go on after an interruption.
pub(crate) fn renew(settings: &Renew) -> Result<(), String> {
    // kube asks for the process's provider; it is an error only if there is one already.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(Box::pin(run(settings)))
}

async fn run(settings: &Renew) -> Result<(), String> {
    let config = Config::infer().await.map_err(|error| {
        format!("there is neither a kubeconfig nor a pod's service account: {error}; set KUBECONFIG")
    })?;
    let client = Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {error}"))?;
    // Objects tell their age in whole seconds: what was asked for in this one is old, and nothing is asked for before the
    // next one.
    let time = ApiTime::of(&client).await?;
    let before = settings.issued_before.unwrap_or_else(|| time.next_second());
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "Certificate"));
    let renewal = Renewal { client: &client, kind: &kind, chosen: chosen(settings), settings, before, time };
    let mut campaign = renewal.begin().await?;
    let report = Report::new(settings.output);
    if settings.dry_run {
        return report.plan(&campaign);
    }
    report.begin(&campaign, before)?;
    time.next_second_has_come().await;
    let interrupted = renewal.work(&mut campaign, &report).await?;
    report.end(&campaign, interrupted.then_some(before))
}

fn chosen(settings: &Renew) -> Vec<Chosen> {
    if settings.all {
        return vec![Chosen::All];
    }
    let clusters = settings.cluster_issuers.iter().cloned().map(Chosen::Cluster);
    let namespaced = settings.issuers.iter().cloned().map(|(namespace, name)| Chosen::Namespaced(namespace, name));
    clusters.chain(namespaced).collect()
}

struct Renewal<'a> {
    client: &'a Client,
    kind: &'a ApiResource,
    chosen: Vec<Chosen>,
    settings: &'a Renew,
    before: Timestamp,
    time: ApiTime,
}

impl Renewal<'_> {
    fn is_meant(&self, object: &DynamicObject, certificate: &Certificate) -> bool {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let wanted = &self.settings.namespaces;
        object.metadata.deletion_timestamp.is_none()
            && (wanted.is_empty() || wanted.iter().any(|wanted| wanted == namespace))
            && certificate.asks(namespace, &self.chosen)
    }

    async fn begin(&self) -> Result<Campaign, String> {
        let asked = self.asked(None).await?;
        let mut campaign = Campaign::default();
        let certificates: Api<DynamicObject> = Api::all_with(self.client.clone(), self.kind);
        for object in whole(&certificates, "Certificates").await? {
            let certificate = read(&object);
            if self.is_meant(&object, &certificate) {
                let revision = certificate.status.revision.unwrap_or_default();
                let asked = asked.get(&(object.uid().unwrap_or_default(), revision)).copied();
                campaign.add(key(&object), &certificate, asked, self.before);
            }
        }
        Ok(campaign)
    }

    /// When each revision of a Certificate was asked for, by the Certificate's UID: of all, or of one namespace.
    async fn asked(&self, namespace: Option<&str>) -> Result<HashMap<(String, i64), Timestamp>, String> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("cert-manager.io", "v1", "CertificateRequest"));
        let client = self.client.clone();
        let api: Api<PartialObjectMeta<DynamicObject>> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &kind),
            None => Api::all_with(client, &kind),
        };
        let mut asked = HashMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = api.list_metadata(&page).await.map_err(|error| cannot("list CertificateRequests", &error))?;
            for request in &list.items {
                let owner = request.owner_references().iter().find(|owner| owner.controller == Some(true));
                let revision = request
                    .annotations()
                    .get("cert-manager.io/certificate-revision")
                    .and_then(|text| text.parse().ok());
                if let (Some(owner), Some(revision), Some(made)) = (owner, revision, request.creation_timestamp()) {
                    asked.insert((owner.uid.clone(), revision), made.0);
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(asked),
            }
        }
    }

    /// Until all are renewed or have failed, or somebody interrupts: then it is true.
    async fn work(&self, campaign: &mut Campaign, report: &Report) -> Result<bool, String> {
        let certificates: Api<DynamicObject> = Api::all_with(self.client.clone(), self.kind);
        let mut events = watcher(certificates, watcher::Config::default()).default_backoff().boxed();
        let mut seen: HashMap<Key, DynamicObject> = HashMap::new();
        let mut listed = false;
        let mut turns = interval(Duration::from_secs(60) / self.settings.per_minute);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looks = interval(LOOK);
        let mut stop = std::pin::pin!(interruption()?);
        while !campaign.is_over() {
            tokio::select! {
                () = &mut stop => return Ok(true),
                event = events.try_next() => match event {
                    Ok(Some(Event::Apply(object) | Event::InitApply(object))) => {
                        let key = key(&object);
                        if campaign.see(&key, &read(&object)) {
                            report.step(campaign, &key)?;
                        }
                        if campaign.step(&key).is_some() {
                            seen.insert(key, object);
                        }
                    }
                    Ok(Some(Event::Delete(object))) => {
                        campaign.gone(&key(&object));
                        seen.remove(&key(&object));
                    }
                    Ok(Some(Event::InitDone)) => listed = true,
                    Ok(Some(Event::Init)) => {}
                    Ok(None) => return Err("the watch of Certificates has ended".to_owned()),
                    Err(error) => report.trouble(&format!("Certificates cannot be watched: {error}"))?,
                },
                _ = looks.tick() => {
                    let wait = SignedDuration::try_from(self.settings.wait).unwrap_or(SignedDuration::MAX);
                    for key in campaign.late(self.time.now().saturating_sub(wait).unwrap_or(Timestamp::MIN)) {
                        report.step(campaign, &key)?;
                    }
                }
                _ = turns.tick(), if listed => {
                    if let Some(key) = campaign.next(usize::from(self.settings.at_once)) {
                        self.begin_one(campaign, &key, seen.get(&key)).await;
                        report.step(campaign, &key)?;
                    }
                }
            }
        }
        Ok(false)
    }

    /// Asks cert-manager to issue one Certificate anew.
    async fn begin_one(&self, campaign: &mut Campaign, key: &Key, seen: Option<&DynamicObject>) {
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.0, self.kind);
        let mut fresh = seen.cloned();
        for _attempt in 0..5 {
            let object = match fresh.take() {
                Some(object) => object,
                None => match api.get_opt(&key.1).await {
                    Ok(Some(object)) => object,
                    Ok(None) => {
                        campaign.gone(key);
                        return;
                    }
                    Err(error) => return campaign.failed(key, cannot("read it", &error)),
                },
            };
            let seen = read(&object);
            if campaign.has_another(key, &seen) {
                // A renewal that was interrupted had begun it, or a tenant has.
                let revision = (object.uid().unwrap_or_default(), seen.status.revision.unwrap_or_default());
                match self.asked(Some(&key.0)).await {
                    Ok(asked) if asked.get(&revision).is_some_and(|asked| *asked >= self.before) => {
                        return campaign.renewed(key);
                    }
                    Ok(_) => {}
                    Err(why) => return campaign.failed(key, why),
                }
            }
            let now = self.time.now();
            let Some(patch) = trigger(&object, now) else {
                // It is being issued already.
                return campaign.begun(key, now, &seen, false);
            };
            match api.patch_status(&key.1, &PatchParams::default(), &Patch::<()>::Json(patch)).await {
                Ok(_) => return campaign.begun(key, now, &seen, true),
                // Somebody else has written to it.
                Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    campaign.gone(key);
                    return;
                }
                Err(error) => return campaign.failed(key, cannot("ask cert-manager to issue it", &error)),
            }
        }
        campaign.failed(key, "others write to it all the time".to_owned());
    }
}

/// The patch that sets the condition `Issuing`; none where it is set. It tests UID and conditions, so that it lands on
/// nothing else than what it was made for.
fn trigger(object: &DynamicObject, now: Timestamp) -> Option<json_patch::Patch> {
    let issuing = |condition: &serde_json::Value| condition["type"] == "Issuing";
    let before = object.data.pointer("/status/conditions").and_then(serde_json::Value::as_array)?;
    if before.iter().any(|condition| issuing(condition) && condition["status"] == "True") {
        return None;
    }
    let mut after = before.clone();
    after.retain(|condition| !issuing(condition));
    after.push(json!({
        "type": "Issuing", "status": "True", "reason": REASON,
        "message": "Renewal asked for by chancery-issuer renew",
        "lastTransitionTime": now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "observedGeneration": object.metadata.generation,
    }));
    serde_json::from_value(json!([
        { "op": "test", "path": "/metadata/uid", "value": object.metadata.uid },
        { "op": "test", "path": "/status/conditions", "value": before },
        { "op": "replace", "path": "/status/conditions", "value": after },
    ]))
    .ok()
}

async fn whole(api: &Api<DynamicObject>, what: &str) -> Result<Vec<DynamicObject>, String> {
    let mut all = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.map_err(|error| cannot(&format!("list {what}"), &error))?;
        all.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(all),
        }
    }
}

fn key(object: &DynamicObject) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// What cannot be read counts as never issued, and is left out.
fn read(object: &DynamicObject) -> Certificate {
    serde_json::from_value(object.data.clone()).unwrap_or_default()
}

fn cannot(what: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "you may not {what}: {}; the role is chancery-issuer-renew in deploy/issuer-rbac.yaml",
                status.message
            )
        }
        kube::Error::Api(status) => format!("cannot {what}: {}", status.message),
        error => format!("cannot {what}: {error}"),
    }
}

fn interruption() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
