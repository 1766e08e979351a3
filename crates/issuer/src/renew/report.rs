//! What `renew` says while it works.

use std::io::Write as _;

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{
    Output,
    campaign::{Campaign, Key, Progress, Step},
};

/// How many failures an error names.
const NAMED: usize = 10;

/// See the module.
pub(super) struct Report {
    output: Output,
}

impl Report {
    pub(super) const fn new(output: Output) -> Self {
        Self { output }
    }

    /// Which would be renewed.
    pub(super) fn plan(&self, campaign: &Campaign) -> Result<(), String> {
        for (namespace, name) in campaign.waiting() {
            match self.output {
                Output::Text => line(&format!("{namespace}/{name}"))?,
                Output::Json => line(&json!({ "namespace": namespace, "certificate": name }).to_string())?,
            }
        }
        if self.output == Output::Text {
            let Progress { all, renewed, .. } = campaign.progress();
            line(&format!("{} of {all} Certificates would be renewed", all - renewed))?;
        }
        Ok(())
    }

    pub(super) fn begin(&self, campaign: &Campaign, before: Timestamp) -> Result<(), String> {
        let Progress { all, renewed, .. } = campaign.progress();
        match self.output {
            Output::Text => line(&format!(
                "{} of {all} Certificates are renewed: what was asked for before {before}",
                all - renewed
            )),
            Output::Json => self.progress(campaign, json!({ "issued_before": before.to_string() })),
        }
    }

    /// One Certificate has got further.
    pub(super) fn step(&self, campaign: &Campaign, key: &Key) -> Result<(), String> {
        let Some(step) = campaign.step(key) else { return Ok(()) };
        let (namespace, name) = key;
        let (word, why) = match step {
            Step::Waiting { .. } => return Ok(()),
            Step::UnderWay { .. } => ("begun", None),
            Step::Renewed => ("renewed", None),
            Step::Failed(why) => ("failed", Some(why)),
        };
        match self.output {
            Output::Json => self.progress(
                campaign,
                json!({ "namespace": namespace, "certificate": name, "step": word, "message": why }),
            ),
            // A line for each end is enough for people.
            Output::Text if word == "begun" => Ok(()),
            Output::Text => {
                let Progress { all, renewed, under_way, failed } = campaign.progress();
                let why = why.map(|why| format!(": {why}")).unwrap_or_default();
                line(&format!(
                    "{renewed} of {all} renewed, {under_way} under way, {failed} failed  {namespace}/{name} {word}{why}"
                ))
            }
        }
    }

    pub(super) fn trouble(&self, what: &str) -> Result<(), String> {
        match self.output {
            Output::Text => line(what),
            Output::Json => line(&json!({ "trouble": what }).to_string()),
        }
    }

    /// The end; an error if not all are renewed.
    pub(super) fn end(&self, campaign: &Campaign, interrupted: Option<Timestamp>) -> Result<(), String> {
        let Progress { all, renewed, failed, .. } = campaign.progress();
        if let Some(before) = interrupted {
            return Err(format!(
                "interrupted: {renewed} of {all} Certificates are renewed; what is under way goes on by itself. Go on \
                 with the same command and --issued-before {before}"
            ));
        }
        if failed > 0 {
            let mut named: Vec<String> = campaign
                .failures()
                .take(NAMED)
                .map(|((namespace, name), why)| format!("{namespace}/{name}: {why}"))
                .collect();
            if failed > NAMED {
                named.push(format!("and {} more", failed - NAMED));
            }
            return Err(format!("{failed} of {all} Certificates were not renewed: {}", named.join("; ")));
        }
        match self.output {
            Output::Text => line(&format!("all {all} Certificates are renewed")),
            Output::Json => Ok(()),
        }
    }

    fn progress(&self, campaign: &Campaign, mut what: serde_json::Value) -> Result<(), String> {
        let Progress { all, renewed, under_way, failed } = campaign.progress();
        json_patch::merge(
            &mut what,
            &json!({ "all": all, "renewed": renewed, "under_way": under_way, "failed": failed }),
        );
        line(&what.to_string())
    }
}

fn line(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{text}").map_err(|error| format!("nothing can be printed: {error}"))
}
