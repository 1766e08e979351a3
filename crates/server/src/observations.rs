//! What /metrics shows of the process, its store and its validations.

use std::sync::Arc;

use chancery_egress::Dialer;
use chancery_pki::Timestamp;

use crate::{
    listeners::Connections,
    operator::Process,
    telemetry::{self, Kind, Observations},
};

/// What /metrics shows beside what `http` counts itself.
pub(crate) fn of(
    process: &Arc<Process>,
    dialer: &Dialer,
    validated: &Arc<chancery_validation::Counters>,
) -> Observations {
    use std::sync::atomic::Ordering::Relaxed;
    let mut all = Observations::default();
    let connections = &process.connections;
    all.gauge("connections_open", "HTTPS connections that are open", connections, Connections::count);
    all.counter("connections_accepted", "HTTPS connections served", connections, Connections::accepted);
    all.counter("connections_turned_away", "HTTPS connections answered 503: too many", connections, Connections::told);
    all.counter("connections_refused", "HTTPS connections closed at once: too many", connections, Connections::refused);
    all.counter("tls_handshakes_failed", "TLS handshakes that failed", connections, Connections::failed_handshakes);
    all.gauge("jobs_running", "Jobs under way", &process.jobs, |it| it.running.load(Relaxed));
    all.counter("jobs_done", "Jobs done", &process.jobs, |it| it.done.load(Relaxed));
    all.counter("jobs_failed", "Jobs that failed and were put off", &process.jobs, |it| it.failed.load(Relaxed));
    let store = &process.store;
    all.counter("store_commits", "Commits kept", store, |it| it.metrics().commits.load(Relaxed));
    all.counter("store_commits_refused", "Commits refused: conflicts, limits", store, |it| {
        it.metrics().refused.load(Relaxed)
    });
    all.counter("store_commits_busy", "Commits turned away: too many wait", store, |it| {
        it.metrics().busy.load(Relaxed)
    });
    all.counter("store_groups", "Groups of commits written", store, |it| it.metrics().groups.load(Relaxed));
    all.counter("store_syncs", "Syncs of the journal", store, |it| it.metrics().syncs.load(Relaxed));
    all.counter("store_written_bytes", "Octets written to the journal", store, |it| {
        it.metrics().written_bytes.load(Relaxed)
    });
    all.counter("store_sweeps", "Sweeps finished", store, |it| it.metrics().sweeps.load(Relaxed));
    all.counter("store_sweeps_failed", "Sweeps that failed", store, |it| it.metrics().failed_sweeps.load(Relaxed));
    all.counter("store_sweep_milliseconds", "Time spent in sweeps", store, |it| it.metrics().sweep_ms.load(Relaxed));
    all.gauge("store_queued", "Commits that wait", store, |it| it.metrics().queued.load(Relaxed));
    all.gauge("store_journal_bytes", "Octets of journal on the disk", store, |it| {
        it.metrics().journal_bytes.load(Relaxed)
    });
    all.gauge("store_overlay_bytes", "Octets not swept yet", store, |it| it.metrics().overlay_bytes.load(Relaxed));
    all.gauge("store_free_bytes", "Octets free on the disk, as last seen", store, |it| {
        it.metrics().free_bytes.load(Relaxed)
    });
    all.gauge("store_low_space", "1 while the disk is too full for issuance", store, |it| {
        it.metrics().low_space.load(Relaxed)
    });
    for kind in chancery_acme::challenge::ChallengeKind::ALL {
        let name = kind.as_str().replace('-', "_");
        let of = move |it: &chancery_validation::Counters| {
            [it.of(kind).looks.value(), it.of(kind).valid.value(), it.of(kind).failed.value(), it.of(kind).busy.value()]
        };
        all.counter(format!("validation_{name}_looks"), "Looks at challenges", validated, move |it| of(it)[0]);
        all.counter(format!("validation_{name}_valid"), "Challenges found fulfilled", validated, move |it| of(it)[1]);
        all.counter(format!("validation_{name}_failed"), "Challenges found not fulfilled", validated, move |it| {
            of(it)[2]
        });
        all.counter(format!("validation_{name}_busy"), "Looks turned away: too many", validated, move |it| of(it)[3]);
    }
    let dialer = Arc::new(dialer.clone());
    all.counter("egress_lookups", "DNS lookups", &dialer, |it| it.counters().lookups.value());
    all.counter("egress_lookups_failed", "DNS lookups that no server answered", &dialer, |it| {
        it.counters().lookups_failed.value()
    });
    all.counter("egress_connected", "Connections made", &dialer, |it| it.counters().connected.value());
    all.counter("egress_failed", "Dials that failed", &dialer, |it| it.counters().failed.value());
    all.counter("egress_refused", "Addresses that the guard refused", &dialer, |it| it.counters().refused.value());
    all.gauge("clock_trusted", "1 while the clock is trusted", &process.clock, |it| u64::from(it.check().is_ok()));
    let seconds = |end: Option<Timestamp>| end.map_or(0, |end| u64::try_from(end.unix_seconds()).unwrap_or(0));
    let office = Arc::new(process.office.clone());
    all.counter(
        "certificates_cut_by_issuer",
        "Certificates that end with their issuer, earlier than their profile would have it",
        &office,
        |it| it.counters().cut_by_issuer.load(Relaxed),
    );
    all.gauge("work_under_way", "Validations and issuances that go on, be their clients there or not", &office, |it| {
        u64::try_from(it.working()).unwrap_or(u64::MAX)
    });
    all.counter("work_turned_away", "Validations and issuances not begun: too many go on", &office, |it| {
        it.counters().work_turned_away.load(Relaxed)
    });
    all.gauge(
        "issuer_not_after_seconds",
        "When the first of the chains that issue now ends, in Unix seconds",
        &office,
        move |it| seconds(it.settings().authorities.iter().filter_map(|one| one.issues_until(it.now())).min()),
    );
    all.gauge(
        "tls_not_after_seconds",
        "When the server's certificate ends, in Unix seconds",
        &process.served,
        move |it| seconds(it.shown().and_then(|shown| shown.not_after)),
    );
    all.add(Kind::Gauge, "process_resident_memory_bytes", "Octets of memory", telemetry::resident_bytes);
    all
}
