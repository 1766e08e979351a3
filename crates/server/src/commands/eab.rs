//! `chancery eab`: keys by which accounts are made (RFC 8555 §7.3.4).

use std::{path::Path, time::Duration};

use chancery_api::{
    EabKeyMade, EabKeyView, EabLimitsChange, EabNamesView, MakeEabKeyRequest, PAGE_MAX, PageQuery, RevokeEabKeyRequest,
};
use serde_json::json;

use super::{live::client, wait_for};
use crate::{
    cli::{EabCommand, EabCreateArgs, EabLimitArgs, EabNamesArgs},
    config,
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, agreed, json, line, marked, table, text},
};

pub(crate) fn run(command: EabCommand, config: Option<&Path>, output: Format) -> Outcome {
    match command {
        EabCommand::Create(args) => create(args, config, output),
        EabCommand::List { limit } => list(limit, config, output),
        EabCommand::Show { id } => {
            let key = wait_for(async { Ok(client(config).await?.eab_key(&id).await?) })?;
            if output == Format::Json {
                json(&key)?;
            } else {
                describe(&key)?;
            }
            Ok(Exit::Ok)
        }
        EabCommand::Limit(args) => limit(args, config, output),
        EabCommand::Revoke { id, accounts, yes } => revoke(&id, accounts, yes, config, output),
    }
}

fn create(args: EabCreateArgs, config: Option<&Path>, output: Format) -> Outcome {
    let EabCreateArgs { id, directory, owner, names, profiles, accounts, expires_in } = args;
    let directory = match directory {
        Some(directory) => directory,
        None => only_directory(config)?,
    };
    let limits = EabLimitsChange {
        names: given(names),
        profiles: (!profiles.is_empty()).then_some(profiles),
        accounts: Some(accounts),
        expires_in_seconds: Some(expires_in.as_secs()),
    };
    let request = MakeEabKeyRequest { id, directory, owner, limits };
    let made = wait_for(async { Ok(client(config).await?.make_eab_key(&request).await?) })?;
    if output == Format::Json {
        json(&made)?;
    } else {
        told(&made)?;
    }
    Ok(Exit::Ok)
}

/// The one directory that takes bindings.
fn only_directory(config: Option<&Path>) -> Result<String, Failed> {
    let config = config::load(config)?;
    let taking = config.directories.values().filter(|directory| directory.takes_bindings());
    let names: Vec<&str> = taking.map(|directory| directory.name.as_str()).collect();
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failed::refused(
            "no ACME directory takes EAB keys; set external_account = \"required\" (or \"optional\") for one and restart",
        )),
        several => Err(Failed::refused(format_args!("which directory? --directory {}", several.join(" or ")))),
    }
}

/// What whoever gets the key must be given. This is the only time that its secret is shown.
fn told(made: &EabKeyMade) -> Result<(), Failed> {
    let EabKeyMade { key, hmac_key, directory_url } = made;
    let times = if key.accounts == 1 { "one account".to_owned() } else { format!("{} accounts", key.accounts) };
    marked(Mark::Good, format!("EAB key {} of {} makes {times} until {}", key.id, key.owner, key.expires))?;
    marked(Mark::Note, "its MAC key is shown now and never again: give it to whoever needs it, and to nobody else")?;
    line(format!("\nkey identifier   {}", key.id))?;
    line(format!("MAC key          {hmac_key}"))?;
    line(format!("directory        {directory_url}"))?;
    line("\ncertbot")?;
    line(format!("  certbot register --server {directory_url} --eab-kid {} --eab-hmac-key={hmac_key}", key.id))?;
    line("lego")?;
    line(format!("  lego --server {directory_url} --eab --kid {} --hmac={hmac_key} …", key.id))?;
    line("cert-manager (kubectl apply; with spec.acme.caBundle, the root in base64, where it is not trusted already)")?;
    text(&manifests(made)?)
}

/// The Secret and the Issuer of cert-manager, which signs bindings with HS256.
fn manifests(made: &EabKeyMade) -> Result<String, Failed> {
    let EabKeyMade { key, hmac_key, directory_url } = made;
    // RFC 1123, as names of objects are.
    let plain: String = key.id.to_ascii_lowercase().chars().map(|c| if c == '_' { '-' } else { c }).collect();
    let name = format!("chancery-eab-{}", plain.trim_matches(['-', '.']));
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"hmac-key": hmac_key},
    });
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1",
        "kind": "Issuer",
        "metadata": {"name": "chancery"},
        "spec": {"acme": {
            "server": directory_url,
            "privateKeySecretRef": {"name": "chancery-account"},
            "externalAccountBinding": {
                "keyID": key.id,
                "keySecretRef": {"name": name, "key": "hmac-key"},
            },
            // Where the directory pre-authorises orders no solver is ever asked.
            "solvers": [],
        }},
    });
    let mut shown = String::new();
    for object in [secret, issuer] {
        // A long key stays on its line.
        let plain = serde_saphyr::ser_options! { prefer_block_scalars: false };
        shown.push_str("---\n");
        shown.push_str(serde_saphyr::to_string_with_options(&object, plain).map_err(Failed::failed)?.trim_end());
        shown.push('\n');
    }
    Ok(shown)
}

fn list(limit: usize, config: Option<&Path>, output: Format) -> Outcome {
    let keys = wait_for(async {
        let mut client = client(config).await?;
        let mut keys = Vec::new();
        let mut after = None;
        loop {
            let left = limit.saturating_sub(keys.len()).min(PAGE_MAX);
            if left == 0 {
                break;
            }
            let page = client.eab_keys(&PageQuery { after, limit: Some(left) }).await?;
            keys.extend(page.keys);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(keys)
    })?;
    if output == Format::Json {
        json(&keys)?;
        return Ok(Exit::Ok);
    }
    let rows: Vec<Vec<String>> = keys
        .iter()
        .map(|key| {
            vec![
                key.id.clone(),
                key.state.clone(),
                format!("{}/{}", key.accounts_made, key.accounts),
                key.expires.clone(),
                key.directory.clone(),
                names_of(key.names.as_ref()),
                key.owner.clone(),
            ]
        })
        .collect();
    table(&["ID", "STATE", "ACCOUNTS", "EXPIRES", "DIRECTORY", "NAMES", "OWNER"], &rows)?;
    Ok(Exit::Ok)
}

fn limit(args: EabLimitArgs, config: Option<&Path>, output: Format) -> Outcome {
    let EabLimitArgs { id, names, any_name, profiles, any_profile, accounts, expires_in } = args;
    let names = if any_name { Some(EabNamesView::default()) } else { given(names) };
    let profiles = (any_profile || !profiles.is_empty()).then_some(profiles);
    let change = EabLimitsChange {
        names,
        profiles,
        accounts,
        expires_in_seconds: expires_in.map(|life: Duration| life.as_secs()),
    };
    if change == EabLimitsChange::default() {
        return Err(Failed::refused("say which limit: names, profiles, --accounts or --expires-in"));
    }
    let key = wait_for(async { Ok(client(config).await?.limit_eab_key(&id, &change).await?) })?;
    if output == Format::Json {
        json(&key)?;
    } else {
        describe(&key)?;
    }
    Ok(Exit::Ok)
}

fn revoke(id: &str, accounts: bool, yes: bool, config: Option<&Path>, output: Format) -> Outcome {
    let key = wait_for(async {
        let mut client = client(config).await?;
        let key = client.eab_key(id).await?;
        if !yes {
            describe(&key)?;
            let question = if accounts {
                format!("Revoke it and stop the {} accounts that it made? This cannot be undone.", key.accounts_made)
            } else {
                "Revoke it? The accounts that it made go on. This cannot be undone.".to_owned()
            };
            if !agreed(&question)? {
                return Err(Failed::refused("nothing was revoked; --yes answers the question"));
            }
        }
        Ok(client.revoke_eab_key(id, &RevokeEabKeyRequest { accounts }).await?)
    })?;
    if output == Format::Json {
        json(&key)?;
        return Ok(Exit::Ok);
    }
    marked(Mark::Good, format!("EAB key {} is revoked: no account is made with it any more", key.id))?;
    match (accounts, key.accounts_made) {
        (_, 0) => {}
        (true, made) => {
            marked(Mark::Good, format!("the {made} accounts that it made are being stopped; their certificates stay"))?;
        }
        (false, made) => marked(Mark::Note, format!("the {made} accounts that it made go on; --accounts stops them"))?,
    }
    Ok(Exit::Ok)
}

fn given(names: EabNamesArgs) -> Option<EabNamesView> {
    let EabNamesArgs { names, wildcards, addresses } = names;
    let given = EabNamesView { names, wildcards, addresses };
    (given != EabNamesView::default()).then_some(given)
}

fn names_of(names: Option<&EabNamesView>) -> String {
    let Some(EabNamesView { names, wildcards, addresses }) = names else { return "by policy".to_owned() };
    [names.as_slice(), wildcards, addresses].concat().join(" ")
}

fn describe(key: &EabKeyView) -> Result<(), Failed> {
    line(format!("id          {}", key.id))?;
    line(format!("owner       {}", key.owner))?;
    line(format!("directory   {}", key.directory))?;
    line(format!("state       {}", key.state))?;
    line(format!("accounts    {} of {} made", key.accounts_made, key.accounts))?;
    line(format!("names       {}", names_of(key.names.as_ref())))?;
    let profiles = if key.profiles.is_empty() { "those of the directory".to_owned() } else { key.profiles.join(", ") };
    line(format!("profiles    {profiles}"))?;
    line(format!("created     {}", key.created))?;
    line(format!("expires     {}", key.expires))?;
    if let Some(at) = &key.revoked {
        line(format!("revoked     {at}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_name_one_another_and_hold_the_key_as_text() {
        let key = EabKeyView {
            id: "Team_1".to_owned(),
            owner: "a team".to_owned(),
            directory: "teams".to_owned(),
            state: "open".to_owned(),
            names: None,
            profiles: Vec::new(),
            accounts: 1,
            accounts_made: 0,
            created: String::new(),
            expires: String::new(),
            revoked: None,
        };
        // Texts that YAML reads as something else where they are not quoted.
        let long = "-a".repeat(43);
        for hmac_key in ["-_x", "0123456789", "1e5", "null", &long] {
            let directory_url = "https://ca.example.com/acme/teams/directory".to_owned();
            let made = EabKeyMade { key: key.clone(), hmac_key: hmac_key.to_owned(), directory_url };
            let shown = manifests(&made).expect("shown");
            let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&shown).expect("YAML");
            assert_eq!(objects[0]["stringData"]["hmac-key"], hmac_key, "{shown}");
            assert!(shown.lines().any(|line| line.contains("hmac-key: ") && line.contains(hmac_key)), "{shown}");
            let binding = &objects[1]["spec"]["acme"]["externalAccountBinding"];
            assert_eq!(binding["keyID"], "Team_1");
            assert_eq!(binding["keySecretRef"]["name"], objects[0]["metadata"]["name"]);
            assert_eq!(objects[0]["metadata"]["name"], "chancery-eab-team-1");
        }
    }
}
