//! `chancery cluster`: the API tokens of Kubernetes clusters, over the local socket.

use std::path::Path;

use chancery_api::{MadeToken, MakeTokenRequest, PAGE_MAX, PageQuery, TokenView};

use super::{live::client, wait_for};
use crate::{
    cli::{ClusterCommand, TokenCommand, TokenCreateArgs},
    exit::{Exit, Failed, Outcome},
    output::{Format, Mark, agreed, json, line, marked, table},
};

pub(crate) fn run(command: ClusterCommand, config: Option<&Path>, output: Format) -> Outcome {
    let ClusterCommand::Token(command) = command;
    match command {
        TokenCommand::Create(args) => create(args, config, output),
        TokenCommand::List { limit } => list(limit, config, output),
        TokenCommand::Revoke { id, yes } => revoke(&id, yes, config, output),
    }
}

fn create(args: TokenCreateArgs, config: Option<&Path>, output: Format) -> Outcome {
    let TokenCreateArgs { cluster, comment, lifetime, namespaces, profiles, names } = args;
    let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
    let request = MakeTokenRequest {
        cluster,
        comment,
        lifetime_s: u64::from(lifetime.seconds()),
        namespaces: some(namespaces),
        profiles: some(profiles),
        names: some(names),
    };
    let made = wait_for(async { Ok(client(config).await?.make_token(&request).await?) })?;
    if output == Format::Json {
        json(&made)?;
        return Ok(Exit::Ok);
    }
    let MadeToken { secret, token } = made;
    marked(Mark::Good, format!("token {} for cluster {}, until {}", token.id, token.cluster, token.expires))?;
    line("")?;
    line(format!("  {secret}"))?;
    line("")?;
    line("It is shown this once. Put it into the cluster, where chancery-issuer finds it:")?;
    line("")?;
    line("  kubectl -n NAMESPACE create secret generic chancery-token --from-file=token=/dev/stdin")?;
    line("  (paste the token, then Ctrl-D)")?;
    Ok(Exit::Ok)
}

fn list(limit: usize, config: Option<&Path>, output: Format) -> Outcome {
    let tokens = wait_for(async {
        let mut client = client(config).await?;
        let mut tokens: Vec<TokenView> = Vec::new();
        let mut after = None;
        loop {
            let left = limit.saturating_sub(tokens.len()).min(PAGE_MAX);
            if left == 0 {
                break;
            }
            let page = client.tokens(&PageQuery { after, limit: Some(left) }).await?;
            tokens.extend(page.tokens);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(tokens)
    })?;
    if output == Format::Json {
        json(&tokens)?;
        return Ok(Exit::Ok);
    }
    let listed = |list: &Option<Vec<String>>| list.as_ref().map_or_else(|| "any".to_owned(), |list| list.join(" "));
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            vec![
                token.id.clone(),
                token.cluster.clone(),
                token.state.clone(),
                token.expires.clone(),
                listed(&token.namespaces),
                listed(&token.profiles),
                listed(&token.names),
                token.comment.clone(),
            ]
        })
        .collect();
    table(&["ID", "CLUSTER", "STATE", "UNTIL", "NAMESPACES", "PROFILES", "NAMES", "COMMENT"], &rows)?;
    Ok(Exit::Ok)
}

fn revoke(id: &str, yes: bool, config: Option<&Path>, output: Format) -> Outcome {
    if !yes && !agreed(&format!("Revoke the token {id}? Whoever asks with it is refused from then on."))? {
        return Err(Failed::refused("nothing was revoked; --yes answers the question"));
    }
    let token = wait_for(async { Ok(client(config).await?.revoke_token(id).await?) })?;
    if output == Format::Json {
        json(&token)?;
    } else {
        marked(Mark::Good, format!("revoked token {} of cluster {}", token.id, token.cluster))?;
    }
    Ok(Exit::Ok)
}
