//! kill -9: under load, while it starts, and in the middle of a finalize.

use std::{fs, time::Duration};

use chancery_harness::{Result, responder::Responder, server::Server};

use crate::{
    chance::Chance,
    flows::{self, Load, Tally},
    ledger, tell,
};

/// Clients at once.
const CLIENTS: usize = 4;

fn kills() -> usize {
    std::env::var("CHANCERY_FAULT_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(60)
}

/// What is known of everything that was handed out: the order, and the certificate's hash.
#[derive(Default)]
struct HandedOut(Vec<(String, [u8; 32])>);

impl HandedOut {
    /// Stops the server and reads its ledger: all that was handed out was signed once, for its order.
    async fn is_in_the_ledger_of(&self, server: &mut Server) -> Result<ledger::Ledger> {
        server.printed(&["ledger", "verify"]).await?;
        assert!(server.stop().await?.success());
        let ledger = ledger::read(&server.path())?;
        for (order, digest) in &self.0 {
            assert_eq!(ledger.signed.get(digest), Some(&Some(order.clone())), "of order {order}");
        }
        Ok(ledger)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_under_load_lose_nothing_acknowledged_and_no_order_gets_two_certificates() -> Result<()> {
    let mut chance = Chance::of("kills");
    let (mut server, responder) = flows::server().await?;
    let (mut tally, mut handed_out, mut starts_killed) = (Tally::default(), HandedOut::default(), 0);
    let kills = kills();
    let mut killed = 0;
    while killed < kills {
        let load = Load::start(&server, &responder, CLIENTS, &format!("k{killed}")).await?;
        load.until(usize::MAX, chance.time_ms(5, 1500)).await;
        if !load.all_at_work() {
            load.end().await?;
            continue;
        }
        load.strike();
        server.kill().await?;
        killed += 1;
        let mut witness = load.end().await?;
        // Here and there its next start is killed too, once or more.
        while killed < kills && chance.below(4) == 0 {
            server.serve_for(chance.time_ms(0, 700)).await?;
            killed += 1;
            starts_killed += 1;
        }
        server.serve().await?;
        tally.add(witness.check(&server).await?);
        handed_out.0.extend(witness.handed_out()?);
    }
    let ledger = handed_out.is_in_the_ledger_of(&mut server).await?;
    tell(&format!(
        "{killed} kills, {starts_killed} of them during a start: {} certificates acknowledged, {} handed out in all, \
         {} finalizes interrupted ({} then valid, {} then invalid), {} records",
        tally.acknowledged,
        handed_out.0.len(),
        tally.interrupted,
        tally.then_valid,
        tally.then_invalid,
        ledger.size
    ));
    assert!(tally.interrupted > 0, "no kill met a finalize: nothing was tried");
    assert!(kills < 20 || starts_killed > 0, "no start was killed");
    Ok(())
}

/// The store's folder as a kill left it, brought back again and again.
async fn with_a_kill_in_its_journal(responder: &Responder, server: &mut Server) -> Result<flows::Witness> {
    let load = Load::start(server, responder, CLIENTS, "again").await?;
    load.until(60, Duration::from_secs(20)).await;
    load.strike();
    server.kill().await?;
    load.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_is_killed_again_and_again_still_leads_to_everything() -> Result<()> {
    let mut chance = Chance::of("starts");
    let (mut server, responder) = flows::server().await?;
    let mut witness = with_a_kill_in_its_journal(&responder, &mut server).await?;
    for _ in 0..8 {
        server.serve_for(chance.time_ms(0, 600)).await?;
    }
    server.serve().await?;
    witness.check(&server).await?;
    let handed_out = HandedOut(witness.handed_out()?);
    assert!(handed_out.0.len() >= 50);
    handed_out.is_in_the_ledger_of(&mut server).await?;
    // A clean stop leaves nothing that a start would have to repeat.
    let before = fs::read_dir(server.path().join("store/journal"))?.count();
    server.serve().await?;
    assert!(server.stop().await?.success());
    assert_eq!(fs::read_dir(server.path().join("store/journal"))?.count(), before);
    Ok(())
}
