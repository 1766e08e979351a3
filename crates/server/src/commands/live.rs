//! Commands on live state: they speak to the running server over its local socket.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use chancery_api::{
    BackupRequest, CertificateFilter, CertificateView, Client, IssuanceQuery, IssuanceView, PAGE_MAX, PageQuery,
    RecordedRevocation, RevokeRequest, SOCKET_NAME,
};

use super::wait_for;
use crate::{
    cli::{AccountCommand, BackupArgs, CertificateCommand, CertificateListArgs, Reason},
    config,
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, agreed, json, line, marked, table, text, working},
};

pub(super) async fn client(config: Option<&Path>) -> Result<Client, Failed> {
    let socket: PathBuf = config::load(config)?.data.join(SOCKET_NAME);
    Ok(Client::local(&socket).await?)
}

pub(crate) fn status(config: Option<&Path>, output: Format) -> Outcome {
    let status = wait_for(async { Ok(client(config).await?.status().await?) })?;
    if output == Format::Json {
        json(&status)?;
        return Ok(Exit::Ok);
    }
    line(format!("chancery {}, since {}", status.version, status.started))?;
    for why in &status.not_issuing {
        marked(Mark::Bad, why)?;
    }
    for alarm in &status.alarms {
        marked(Mark::Note, alarm)?;
    }
    for directory in &status.directories {
        line(format!(
            "directory    {}   {}   profiles {}",
            directory.name,
            directory.url,
            directory.profiles.join(", ")
        ))?;
    }
    for authority in &status.authorities {
        line(format!("authority    {}   {}   until {}", authority.id, authority.subject, authority.not_after))?;
    }
    line(format!("policy       {}   SHA-256 {}", status.policy_file, status.policy_sha256))?;
    line(format!("ledger       {} records, root {}", status.ledger_size, status.ledger_root))?;
    if let Some(key) = &status.ledger_verifier_key {
        line(format!("             verified with {key}"))?;
    }
    if let Some(tls) = &status.tls {
        let end = tls.not_after.as_deref().unwrap_or("unknown");
        line(format!("HTTPS        {}   until {end}", tls.names.join(", ")))?;
    }
    line(format!("now          {} connections, {} jobs", status.connections, status.jobs_running))?;
    Ok(Exit::Ok)
}

pub(crate) fn reload(config: Option<&Path>, output: Format) -> Outcome {
    let reloaded = wait_for(async { Ok(client(config).await?.reload().await?) })?;
    if output == Format::Json {
        json(&reloaded)?;
        return Ok(Exit::Ok);
    }
    if reloaded.changed.is_empty() {
        marked(Mark::Good, "nothing changed")?;
    }
    for what in &reloaded.changed {
        marked(Mark::Good, what)?;
    }
    for what in &reloaded.needs_restart {
        marked(Mark::Note, format!("{what} (needs a restart)"))?;
    }
    Ok(Exit::Ok)
}

pub(crate) fn backup(args: &BackupArgs, config: Option<&Path>, output: Format) -> Outcome {
    let folder = std::path::absolute(&args.folder)?;
    let folder = folder.to_str().ok_or_else(|| Failed::failed("the folder's name is not UTF-8"))?.to_owned();
    let done = working("backing up", || {
        wait_for(async { Ok(client(config).await?.backup(&BackupRequest { folder }).await?) })
    })?;
    if output == Format::Json {
        json(&done)?;
    } else {
        let text = format!("backed up {} records to {} in {} ms", done.ledger_size, done.folder, done.milliseconds);
        marked(Mark::Good, text)?;
    }
    Ok(Exit::Ok)
}

pub(crate) fn account(command: &AccountCommand, config: Option<&Path>, output: Format) -> Outcome {
    let AccountCommand::List { limit } = command;
    let accounts = wait_for(async {
        let mut client = client(config).await?;
        let mut accounts = Vec::new();
        let mut after = None;
        loop {
            let left = limit.saturating_sub(accounts.len()).min(PAGE_MAX);
            if left == 0 {
                break;
            }
            let page = client.accounts(&PageQuery { after, limit: Some(left) }).await?;
            accounts.extend(page.accounts);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(accounts)
    })?;
    if output == Format::Json {
        json(&accounts)?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = accounts
        .iter()
        .map(|account| {
            vec![
                account.id.clone(),
                account.directory.clone(),
                account.status.clone(),
                account.created.clone(),
                account.key_kind.clone(),
                account.eab_key.clone().unwrap_or_else(|| "-".to_owned()),
                account.contacts.join(" "),
            ]
        })
        .collect();
    table(&["ID", "DIRECTORY", "STATUS", "CREATED", "KEY", "EAB KEY", "CONTACTS"], &rows)?;
    Ok(Exit::Ok)
}

pub(crate) fn certificate(command: CertificateCommand, config: Option<&Path>, output: Format) -> Outcome {
    match command {
        CertificateCommand::List(args) => list(args, config, output),
        CertificateCommand::Show { id } => show(&id, config, output),
        CertificateCommand::Export => export(config),
        CertificateCommand::Revoke { id, reason, yes } => revoke(&id, reason, yes, config, output),
    }
}

fn list(args: CertificateListArgs, config: Option<&Path>, output: Format) -> Outcome {
    let CertificateListArgs { name, below, account, key, expires_before, cluster, namespace, certificate, limit } =
        args;
    let certificates = wait_for(async {
        let mut client = client(config).await?;
        let mut certificates = Vec::new();
        let mut filter = CertificateFilter {
            name,
            below,
            account,
            key_sha256: key,
            expires_before,
            cluster,
            namespace,
            certificate,
            ..CertificateFilter::default()
        };
        loop {
            let left = limit.saturating_sub(certificates.len()).min(PAGE_MAX);
            if left == 0 {
                break;
            }
            filter.limit = Some(left);
            let page = client.certificates(&filter).await?;
            certificates.extend(page.certificates);
            filter.after = page.next;
            if filter.after.is_none() {
                break;
            }
        }
        Ok(certificates)
    })?;
    if output == Format::Json {
        json(&certificates)?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = certificates
        .iter()
        .map(|certificate| {
            let state = if certificate.revoked.is_some() { "revoked" } else { &certificate.state };
            vec![
                certificate.serial.clone(),
                state.to_owned(),
                certificate.not_after.clone(),
                certificate.profile.clone(),
                certificate.names.join(" "),
                certificate.requester.clone(),
            ]
        })
        .collect();
    table(&["SERIAL", "STATE", "UNTIL", "PROFILE", "NAMES", "REQUESTER"], &rows)?;
    Ok(Exit::Ok)
}

fn show(id: &str, config: Option<&Path>, output: Format) -> Outcome {
    let certificate = wait_for(async { Ok(client(config).await?.certificate(id).await?) })?;
    if output == Format::Json {
        json(&certificate)?;
        return Ok(Exit::Ok);
    }
    describe(&certificate)?;
    if let Some(pem) = &certificate.pem {
        text(pem)?;
    }
    if let Some(unread) = &certificate.unread {
        return Err(Failed::damaged(unread));
    }
    Ok(Exit::Ok)
}

fn describe(certificate: &CertificateView) -> Result<(), Failed> {
    line(format!("serial      {}", certificate.serial))?;
    line(format!("names       {}", certificate.names.join(", ")))?;
    line(format!("valid       {} to {}", certificate.not_before, certificate.not_after))?;
    line(format!("state       {}", certificate.state))?;
    if let Some(revoked) = &certificate.revoked {
        line(format!("revoked     {} ({})", revoked.at, revoked.reason.as_deref().unwrap_or("no reason given")))?;
    }
    line(format!("authority   {}", certificate.authority))?;
    line(format!("profile     {}", certificate.profile))?;
    line(format!("requester   {}", certificate.requester))?;
    line(format!("key         SHA-256 {}", certificate.key_sha256))?;
    if let Some(tenant) = &certificate.tenant {
        line(format!("tenant      {tenant}"))?;
    }
    if let Some(cluster) = &certificate.cluster {
        let namespace = certificate.namespace.as_deref().unwrap_or("(none)");
        let of = certificate.certificate.as_ref().map(|name| format!(", Certificate {name}")).unwrap_or_default();
        line(format!("cluster     {cluster}, namespace {namespace}{of}"))?;
    }
    for place in &certificate.used_by {
        line(format!("used by     {place}"))?;
    }
    if let Some(order) = &certificate.order {
        line(format!("order       {order}"))?;
    }
    if let Some(order) = &certificate.replaced_by {
        line(format!("replaced by {order}, an order"))?;
    }
    if let Some(decision) = &certificate.decision {
        for name in &decision.names {
            let rule = name.rule.as_deref().unwrap_or("no rule");
            line(format!("allowed     {} by rule {rule}", name.name))?;
        }
        if let Some(key) = &decision.preauthorized_by {
            line(format!("challenges  none: pre-authorised by EAB key {key}"))?;
        }
        line(format!("policy      SHA-256 {}", decision.policy_sha256))?;
        line(format!("recorded    {}, ledger record {}", decision.at, decision.ledger_index))?;
    }
    Ok(())
}

/// Walks the ledger, which holds what was ever signed; the inventory forgets what ended long ago.
fn export(config: Option<&Path>) -> Outcome {
    wait_for(async {
        let mut client = client(config).await?;
        let mut part = IssuanceQuery { from: 0, limit: Some(PAGE_MAX) };
        let mut open = BTreeMap::new();
        // What is recorded while this goes on is for the next export.
        let mut until = None;
        loop {
            let page = client.issuances(&part).await?;
            let mut out = String::new();
            for issuance in page.issuances {
                if issuance.state == "intended" {
                    open.insert(issuance.ledger_index, issuance);
                } else {
                    open.remove(&issuance.ledger_index);
                    out.push_str(&exported(&issuance));
                }
            }
            for RecordedRevocation { serial, authority: _, revocation } in page.revocations {
                let reason = revocation.reason.as_deref().unwrap_or("no reason given");
                out.push_str(&format!("# serial {serial} was revoked at {} ({reason})\n", revocation.at));
            }
            text(&out)?;
            part.from = page.next;
            if part.from >= *until.get_or_insert(page.size) {
                break;
            }
        }
        text(&open.values().map(exported).collect::<String>())?;
        Ok(Exit::Ok)
    })
}

fn exported(issuance: &IssuanceView) -> String {
    let IssuanceView { ledger_index, serial, names, state, pem, certificate: _, authority: _ } = issuance;
    // RFC 7468 §2: text outside of the blocks is for people.
    let head = format!("# serial {serial} {state}, ledger record {ledger_index}: {}\n", names.join(" "));
    let unknown = "# no signature is known; one may exist, so this serial can be revoked\n";
    head + pem.as_deref().unwrap_or(unknown)
}

fn revoke(id: &str, reason: Option<Reason>, yes: bool, config: Option<&Path>, output: Format) -> Outcome {
    let code = reason.map(|reason| match reason {
        Reason::Unspecified => 0,
        Reason::KeyCompromise => 1,
        Reason::AffiliationChanged => 3,
        Reason::Superseded => 4,
        Reason::CessationOfOperation => 5,
        Reason::PrivilegeWithdrawn => 9,
    });
    let revoked = wait_for(async {
        let mut client = client(config).await?;
        let certificate = client.certificate(id).await?;
        if !yes {
            describe(&certificate)?;
            if !agreed("Revoke it? This cannot be undone.")? {
                return Err(Failed::refused("nothing was revoked; --yes answers the question"));
            }
        }
        Ok(client.revoke(&certificate.id, &RevokeRequest { reason: code }).await?)
    })?;
    if output == Format::Json {
        json(&revoked)?;
    } else {
        marked(
            Mark::Good,
            format!("revoked {} ({})", revoked.certificate.serial, revoked.certificate.names.join(", ")),
        )?;
    }
    Ok(Exit::Ok)
}
