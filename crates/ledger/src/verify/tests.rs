use chancery_pki::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    leaf::{Decision, EabAction, EabKey, Idempotency, Outcome, ProfileRef, Refusal, Requester},
    tree::{consistency_proof, root_at},
};

const AT: Timestamp = Timestamp::from_unix_seconds(1_795_600_000);

/// One DER element with a length below 128 (X.690 §8.1).
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, u8::try_from(content.len()).expect("short")], content].concat()
}

/// The least that begins as a TBSCertificate does: version, serial, algorithm (ecdsa-with-SHA256).
fn tbs(serial: SerialNumber) -> Vec<u8> {
    let version = der(0xa0, &der(0x02, &[2]));
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    der(0x30, &[version, der(0x02, &serial.der_content()), algorithm].concat())
}

/// The certificate of a serial, put together by hand.
fn certificate_der(serial: SerialNumber, signature: &[u8]) -> Vec<u8> {
    let algorithm = der(0x30, &der(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]));
    let bits = der(0x03, &[&[0], signature].concat());
    der(0x30, &[tbs(serial), algorithm, bits].concat())
}

fn id(number: u64) -> [u8; 16] {
    u128::from(number + 1).to_be_bytes()
}

fn serial(number: u64) -> SerialNumber {
    SerialNumber::from_u128(u128::from(number) + 0x9f00).expect("not zero")
}

fn requester() -> Requester {
    Requester { claims: vec![], summary: "a test".into() }
}

fn intent(number: u64) -> Intent {
    Intent {
        account: Some(id(0)),
        account_facts: None,
        at: AT,
        authority: "issuing".into(),
        certificate: id(number),
        chain: "default".into(),
        crl_shard: None,
        decision: Decision {
            names: vec![],
            outcome: Outcome::Allow,
            preauthorized_by: None,
            warnings: vec![],
            warnings_left_out: 0,
        },
        door: "acme".into(),
        idempotency: Some(Idempotency { attempt: 1, key: "k".into(), request: None }),
        order: Some(id(number)),
        policy: [1; 32],
        profile: ProfileRef { hash: [2; 32], name: "server".into() },
        replaces: None,
        requester: requester(),
        retention: "full".into(),
        serial: serial(number),
        tbs: tbs(serial(number)),
        tenant: None,
    }
}

fn signature(number: u64, intent: u64) -> Signature {
    let signature = number.to_be_bytes().to_vec();
    let sha256 = sha256(&[&certificate_der(serial(number), &signature)]).octets();
    Signature { at: AT, certificate: id(number), intent, sha256, signature }
}

fn abandoned(number: u64, intent: u64) -> Abandoned {
    Abandoned { at: AT, certificate: id(number), intent, why: "no-signature".into() }
}

fn revocation(number: u64) -> Revocation {
    let (certificate, serial) = (id(number), serial(number));
    Revocation { at: AT, authority: "issuing".into(), by: "a test".into(), certificate, reason: Some(1), serial }
}

fn crl(number: u64) -> CrlPublished {
    CrlPublished { at: AT, authority: "issuing".into(), number, sha256: [3; 32], shard: 0 }
}

/// A ledger in memory, with the numbers of its certificates.
#[derive(Debug, Clone, Default)]
struct Log {
    entries: Vec<Vec<u8>>,
    certificates: u64,
}

impl Log {
    fn add(&mut self, leaf: impl Into<Leaf>) -> u64 {
        self.entries.push(leaf.into().encode().expect("small"));
        self.entries.len() as u64 - 1
    }

    fn issue(&mut self) -> u64 {
        let number = self.certificates;
        self.certificates += 1;
        let at = self.add(intent(number));
        self.add(signature(number, at));
        number
    }

    fn name(&self, index: u64) -> RestoreName {
        RestoreName { index, hash: self.hash(index) }
    }

    fn hash(&self, index: u64) -> Hash {
        Hash::of_leaf(&self.entries[usize::try_from(index).expect("small")])
    }

    fn nodes(&self) -> impl Fn(u32, u64) -> Result<Hash, std::convert::Infallible> {
        |level, index| {
            let mut frontier = Frontier::default();
            for at in index << level..(index + 1) << level {
                frontier.append(self.hash(at));
            }
            Ok(frontier.root())
        }
    }

    fn checkpoint_at(&self, size: u64) -> Checkpoint {
        let root = root_at(&self.nodes(), size).expect("in memory");
        Checkpoint::new("ledger.example.com", size, root).expect("an origin")
    }

    fn checkpoint(&self) -> Checkpoint {
        self.checkpoint_at(self.entries.len() as u64)
    }

    fn restored(&self, old: &Checkpoint) -> Restored {
        let size = self.entries.len() as u64;
        let consistency = if old.size() <= size {
            consistency_proof(&self.nodes(), old.size(), size).expect("grows").iter().map(Hash::octets).collect()
        } else {
            vec![]
        };
        let checkpoint = OldCheckpoint { origin: old.origin().into(), root: old.root().octets(), size: old.size() };
        Restored { at: AT, backup_size: size, checkpoint, consistency, note: None }
    }

    fn verify(&self, checkpoints: &[&Checkpoint]) -> Report {
        self.walk(Walker::default(), checkpoints)
    }

    /// With a restore that somebody vouches for.
    fn verify_accepting(&self, restore: RestoreName, checkpoints: &[&Checkpoint]) -> Report {
        let mut walker = Walker::default();
        walker.accept_restore(restore);
        self.walk(walker, checkpoints)
    }

    fn walk(&self, mut walker: Walker, checkpoints: &[&Checkpoint]) -> Report {
        for checkpoint in checkpoints {
            walker.expect(format!("kept-{}", checkpoint.size()), (*checkpoint).clone());
        }
        for (index, entry) in self.entries.iter().enumerate() {
            walker.feed(index as u64, entry);
        }
        walker.finish()
    }

    fn findings(&self) -> Vec<Finding> {
        self.verify(&[]).findings
    }
}

/// A log with a little of everything: 5 leaves for each `certificates`, and some more.
fn log(certificates: u64) -> Log {
    let mut log = Log::default();
    log.add(PolicyActivated { at: AT, by: "a test".into(), policy: [1; 32], profiles: vec![] });
    for round in 0..certificates {
        let issued = log.issue();
        log.add(Refusal {
            at: AT,
            because: "no rule allows it".into(),
            door: "acme".into(),
            names: vec![format!("dns:{round}.example")],
            names_left_out: 0,
            policy: [1; 32],
            requester: requester(),
            rule: None,
            tenant: None,
        });
        log.add(crl(1_795_600_000 + round));
        if round % 2 == 0 {
            log.add(revocation(issued));
        } else {
            let number = log.certificates;
            log.certificates += 1;
            let at = log.add(intent(number));
            log.add(abandoned(number, at));
        }
    }
    log.add(EabKey {
        account: None,
        account_facts: None,
        action: EabAction::Created,
        at: AT,
        binding: None,
        by: "a test".into(),
        grant: None,
        key: "k".into(),
    });
    log
}

#[test]
fn an_honest_ledger_is_clean_and_has_the_root_of_its_checkpoints() {
    let log = log(20);
    let (middle, whole) = (log.checkpoint_at(37), log.checkpoint());
    let report = log.verify(&[&middle, &whole, &log.checkpoint_at(0)]);
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.root, Some(whole.root()));
    assert_eq!(report.size, log.entries.len() as u64);
    assert!(report.checkpoints.iter().all(|(_, compared)| *compared == Compared::Same));
    assert_eq!(report.counts.values().sum::<u64>(), report.size);
    assert_eq!(report.counts["intent"], 30);
    assert!(report.open.is_empty());
    assert_eq!(report.sealed, report.size);
    assert_eq!(log.verify(&[&middle]).sealed, 37);
}

#[test]
fn certificates_that_wait_for_their_signature_are_listed_and_are_no_fault() {
    let mut log = log(3);
    let first = log.add(intent(100));
    log.add(crl(1_900_000_000));
    let second = log.add(intent(101));
    let report = log.verify(&[]);
    assert!(report.is_clean());
    assert_eq!(report.open, [first, second]);
}

#[test]
fn a_signature_needs_an_earlier_intent_of_the_same_certificate() {
    let mut log = Log::default();
    log.add(signature(0, 1));
    log.add(intent(0));
    let other = log.add(intent(1));
    log.add(signature(0, other));
    assert_eq!(
        log.findings(),
        [Finding::IntentMissing { index: 0, intent: 1 }, Finding::IntentOfOther { index: 3, names: 2, intent: 1 }]
    );
}

#[test]
fn an_intent_is_settled_once() {
    let mut log = Log::default();
    let (a, b) = (log.add(intent(0)), log.add(intent(1)));
    log.add(signature(0, a));
    log.add(abandoned(1, b));
    assert!(log.findings().is_empty());
    log.add(signature(0, a));
    log.add(abandoned(0, a));
    log.add(abandoned(1, b));
    log.add(signature(1, b));
    assert_eq!(
        log.findings(),
        [
            Finding::SignedTwice { index: 4, intent: a },
            Finding::SignedAndAbandoned { index: 5, intent: a },
            Finding::AbandonedTwice { index: 6, intent: b },
            Finding::SignedAndAbandoned { index: 7, intent: b },
        ]
    );
}

#[test]
fn a_certificate_id_or_a_serial_is_used_once_per_authority() {
    let mut log = Log::default();
    log.add(intent(0));
    log.add(Intent { serial: serial(9), tbs: tbs(serial(9)), ..intent(0) });
    log.add(Intent { certificate: id(7), ..intent(0) });
    log.add(Intent { certificate: id(8), authority: "other".into(), ..intent(0) });
    assert_eq!(
        log.findings(),
        [
            Finding::CertificateTwice { index: 1, first: 0 },
            Finding::SerialTwice { index: 2, authority: "issuing".into(), serial: "9f00".into() },
        ]
    );
}

#[test]
fn the_serial_is_the_one_in_the_certificate() {
    let mut log = Log::default();
    log.add(Intent { tbs: tbs(serial(1)), ..intent(0) });
    log.add(Intent { tbs: vec![0x30, 0], ..intent(2) });
    assert_eq!(
        log.findings(),
        [Finding::SerialDiffers { index: 0 }, Finding::TbsUnreadable { index: 1, error: tbs::NotATbs }]
    );
}

#[test]
fn intent_and_signature_give_the_certificate_whose_hash_was_recorded() {
    let mut log = Log::default();
    let at = log.add(intent(0));
    log.add(Signature { signature: vec![0], ..signature(0, at) });
    assert_eq!(log.findings(), [Finding::CertificateDiffers { index: 1, intent: 0 }]);
}

#[test]
fn a_revocation_speaks_of_a_known_certificate_by_its_own_serial() {
    let mut log = Log::default();
    let issued = log.issue();
    let possibly_issued = log.add(intent(5));
    log.add(abandoned(5, possibly_issued));
    log.add(revocation(issued));
    log.add(Revocation { reason: Some(4), ..revocation(issued) });
    log.add(revocation(5));
    assert!(log.findings().is_empty());
    let unknown = log.add(revocation(6));
    let other = log.add(Revocation { serial: serial(5), ..revocation(issued) });
    let authority = log.add(Revocation { authority: "other".into(), ..revocation(issued) });
    assert_eq!(
        log.findings(),
        [
            Finding::RevokedUnknown { index: unknown },
            Finding::RevokedOther { index: other, intent: 0 },
            Finding::RevokedOther { index: authority, intent: 0 },
        ]
    );
}

#[test]
fn crl_numbers_grow_in_every_shard() {
    let mut log = Log::default();
    log.add(crl(5));
    log.add(CrlPublished { shard: 1, ..crl(4) });
    log.add(crl(6));
    assert!(log.findings().is_empty());
    log.add(crl(6));
    assert_eq!(log.findings(), [Finding::CrlNumberWentBack { index: 3, number: 6, last: 6 }]);
}

#[test]
fn a_truncated_past_is_found_with_a_checkpoint_kept_elsewhere_and_only_then() {
    let mut log = log(4);
    let kept = log.checkpoint();
    log.entries.truncate(9);
    assert!(log.verify(&[]).is_clean(), "the rest is a ledger of its own");
    let own = log.checkpoint();
    let report = log.verify(&[&own, &kept]);
    assert_eq!(
        report.findings,
        [Finding::Truncated { label: format!("kept-{}", kept.size()), size: kept.size(), found: 9 }]
    );
    assert_eq!(report.checkpoints[0].1, Compared::Same);
    assert_eq!(report.checkpoints[1].1, Compared::Different);
}

#[test]
fn a_rewritten_past_is_narrowed_down_by_the_last_checkpoint_that_still_fits() {
    let honest = log(6);
    let (early, late) = (honest.checkpoint_at(5), honest.checkpoint());
    let mut log = honest;
    log.entries[8] = Leaf::from(crl(1_795_600_001)).encode().expect("small");
    log.entries[9] = Leaf::from(crl(1_795_600_002)).encode().expect("small");
    let report = log.verify(&[&early, &late]);
    let fork = report.findings.iter().find(|finding| finding.code() == "forked").expect("found");
    assert_eq!(fork.index(), 5);
    assert!(fork.to_string().contains("a record from 5 on was changed"), "{fork}");
}

#[test]
fn with_the_hashes_of_the_tiles_a_changed_or_moved_record_is_named() {
    let honest = log(6);
    let kept: Vec<Hash> = (0..honest.entries.len() as u64).map(|at| honest.hash(at)).collect();
    let mut log = honest;
    // 3 and 8 are refusals, 13 is one too: nothing but their hashes tells them apart.
    let refusals: Vec<usize> =
        (0..log.entries.len()).filter(|at| matches!(Leaf::decode(&log.entries[*at]), Ok(Leaf::Refusal(_)))).collect();
    log.entries.swap(refusals[0], refusals[1]);
    let Leaf::Refusal(mut refusal) = Leaf::decode(&log.entries[refusals[2]]).expect("ours") else { panic!("is one") };
    refusal.because = "something else".into();
    log.entries[refusals[2]] = Leaf::from(refusal).encode().expect("small");
    assert!(log.verify(&[]).is_clean());

    let mut walker = Walker::default();
    for (index, (entry, kept)) in log.entries.iter().zip(kept).enumerate() {
        walker.feed_to(index as u64, entry, Some(kept), &mut Unheard).expect("cannot fail");
    }
    let [a, b, c] = [refusals[0] as u64, refusals[1] as u64, refusals[2] as u64];
    assert_eq!(
        walker.finish().findings,
        [
            Finding::Moved { index: a, belongs: b },
            Finding::Moved { index: b, belongs: a },
            Finding::Changed { index: c }
        ]
    );
}

#[test]
fn missing_and_unreadable_records_are_named_and_what_needs_them_is_not_blamed() {
    let mut log = Log::default();
    for _ in 0..6 {
        log.issue();
    }
    log.add(revocation(0));
    let whole = log.checkpoint();
    let early = log.checkpoint_at(2);
    let mut walker = Walker::default();
    walker.expect("early", early);
    walker.expect("whole", whole);
    for (index, entry) in log.entries.iter().enumerate() {
        match index {
            2 | 6 | 7 => {}
            4 => walker.feed(4, b"not a leaf"),
            8 => {
                walker.skip(8, "bundle ends at byte 40");
                walker.feed(8, entry);
            }
            _ => walker.feed(index as u64, entry),
        }
    }
    let report = walker.finish();
    let said: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert_eq!(said[0], "records 2 to 2 are missing");
    assert!(said[1].starts_with("record 4 is damaged: not a leaf:"), "{}", said[1]);
    assert_eq!(said[2], "records 6 to 7 cannot be read: bundle ends at byte 40");
    assert_eq!(said.len(), 3);
    assert_eq!(report.root, None);
    assert_eq!(report.checkpoints, [("early".into(), Compared::Same), ("whole".into(), Compared::Unknown)]);
}

#[test]
fn a_gap_excuses_only_what_refers_to_it() {
    let mut walker = Walker::default();
    walker.skip(3, "a test");
    let encoded = |leaf: Leaf| leaf.encode().expect("small");
    walker.feed(3, &encoded(signature(0, 1).into()));
    walker.feed(4, &encoded(abandoned(1, 2).into()));
    walker.feed(5, &encoded(revocation(0).into()));
    walker.feed(6, &encoded(signature(2, 3).into()));
    walker.feed(7, &encoded(abandoned(3, 9).into()));
    let findings = walker.finish().findings;
    assert_eq!(
        findings[1..],
        [Finding::IntentMissing { index: 6, intent: 3 }, Finding::IntentMissing { index: 7, intent: 9 }]
    );
}

#[test]
fn a_record_that_comes_twice_is_out_of_order() {
    let log = log(1);
    let mut walker = Walker::default();
    for index in [0, 1, 1, 2] {
        walker.feed(index, &log.entries[usize::try_from(index).expect("small")]);
    }
    assert_eq!(walker.finish().findings, [Finding::OutOfOrder { index: 1, expected: 2 }]);
}

#[test]
fn an_accepted_restore_explains_an_old_checkpoint_and_nothing_newer() {
    let mut old_epoch = log(4);
    let in_backup = old_epoch.checkpoint_at(6);
    let backup_size = 9;
    let not_in_backup = old_epoch.checkpoint_at(12);
    let last_known = old_epoch.checkpoint();
    let mut restored = old_epoch.clone();
    for _ in 0..3 {
        old_epoch.issue();
    }
    let unknown_to_the_restore = old_epoch.checkpoint();

    restored.entries.truncate(backup_size);
    let at = restored.add(restored.restored(&last_known));
    restored.certificates = 50;
    for _ in 0..9 {
        restored.issue();
    }
    let now = restored.checkpoint();
    let name = restored.name(at);
    let report = restored.verify_accepting(name, &[&in_backup, &last_known, &now]);
    assert!(report.is_clean(), "{:?}", report.findings);
    let report = restored.verify_accepting(name, &[&in_backup, &not_in_backup, &last_known, &now]);
    let compared: Vec<Compared> = report.checkpoints.iter().map(|(_, compared)| *compared).collect();
    assert_eq!(
        compared,
        [Compared::Same, Compared::Superseded { restore: at }, Compared::RestoredSince { restore: at }, Compared::Same]
    );
    assert_eq!((report.restores[0].lost(), report.restores[0].accepted), (last_known.size() - 9, true));
    let [Finding::Superseded { size: 12, restore, .. }] = report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!(restore, at, "what can no longer be compared is no proof");

    let report = restored.verify_accepting(name, &[&unknown_to_the_restore]);
    assert_eq!(report.findings.len(), 1, "a checkpoint newer than the restore knew is not explained away");
    for (size, code) in [(last_known.size(), "forked"), (11, "superseded"), (9, "forked"), (3, "forked")] {
        let forged = Checkpoint::new("ledger.example.com", size, Hash::of_nothing()).expect("an origin");
        let report = restored.verify_accepting(name, &[&forged]);
        assert_eq!(report.findings[0].code(), code, "of {size}");
    }
}

#[test]
fn an_accepted_restore_excuses_no_cut_of_what_came_after_it() {
    let old = log(20);
    let mut honest = old.clone();
    honest.entries.truncate(9);
    let at = honest.add(honest.restored(&old.checkpoint()));
    honest.certificates = 50;
    for _ in 0..5 {
        honest.issue();
    }
    // Fewer records than the restore lost: what a later cut leaves lies below the checkpoint that it names.
    let kept = honest.checkpoint();
    assert!(kept.size() < old.checkpoint().size());
    let mut cut = honest.clone();
    cut.entries.truncate(12);
    cut.certificates = 90;
    for _ in 0..6 {
        cut.issue();
    }
    let name = honest.name(at);
    assert!(honest.verify_accepting(name, &[&kept]).is_clean());
    assert!(!cut.verify_accepting(name, &[&kept]).is_clean());
    // The store's own last checkpoint is one that its records have.
    let mut walker = Walker::default();
    walker.accept_every_restore();
    walker.expect_own("own", kept.clone());
    assert_eq!(cut.walk(walker, &[]).findings[0].code(), "forked");
    // Another record in the same place is another restore.
    let mut again = honest.clone();
    again.entries.truncate(9);
    again.add(again.restored(&kept));
    let report = again.verify_accepting(name, &[&kept]);
    assert_eq!(report.findings[0].code(), "restore-lost", "{:?}", report.findings);
}

#[test]
fn a_restore_is_named_by_its_record_and_its_hash() {
    let name = RestoreName { index: 9, hash: Hash::of_nothing() };
    assert_eq!(name.to_string(), "9:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(name.to_string().parse(), Ok(name));
    for wrong in ["", "9", "9:", ":47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "9:47DE", "x:47DE", "9:9:9"] {
        assert_eq!(wrong.parse::<RestoreName>(), Err(NotARestoreName), "{wrong}");
    }
}

#[test]
fn a_restore_that_lost_records_is_a_finding_until_somebody_vouches_for_it() {
    let old = log(4);
    let mut restored = old.clone();
    restored.entries.truncate(9);
    let at = restored.add(restored.restored(&old.checkpoint()));
    let (size, lost) = (old.checkpoint().size(), old.checkpoint().size() - 9);
    let name = restored.name(at);
    assert_eq!(restored.findings(), [Finding::RestoreLost { name, lost, size }]);
    assert!(restored.findings()[0].to_string().contains(&format!("--accept-restore {name}")));
    assert!(restored.verify_accepting(name, &[]).is_clean());
    let another = RestoreName { index: at + 1, ..name };
    assert!(!restored.verify_accepting(another, &[]).is_clean(), "another one was meant");

    let mut whole = old.clone();
    whole.add(whole.restored(&old.checkpoint_at(5)));
    assert!(whole.verify(&[&old.checkpoint()]).is_clean(), "it lost nothing");
}

#[test]
fn a_forged_record_of_a_restore_excuses_no_truncated_past() {
    let honest = log(4);
    let kept = honest.checkpoint();
    let beyond = Checkpoint::new("ledger.example.com", kept.size() + 100, Hash::of_nothing()).expect("an origin");
    // One that copies what somebody kept, and one that names a later checkpoint than anybody has.
    for (named, codes) in [(&kept, vec!["restore-lost"]), (&beyond, vec!["restore-lost", "superseded"])] {
        let mut cut = honest.clone();
        cut.entries.truncate(9);
        let at = cut.add(cut.restored(named));
        cut.certificates = 50;
        for _ in 0..20 {
            cut.issue();
        }
        let report = cut.verify(&[&kept]);
        let found: Vec<&str> = report.findings.iter().map(Finding::code).collect();
        assert_eq!(found, codes, "{:?}", report.findings);
        assert!(report.findings.iter().all(|finding| finding.asks() && finding.index() == at));
        // Somebody who made another restore does not vouch for this one.
        assert!(!cut.verify_accepting(cut.name(3), &[&kept]).is_clean());
    }
}

#[test]
fn a_restore_names_a_checkpoint_that_the_ledgers_key_has_signed() {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = |seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed");
    let key = |pair: &Ed25519KeyPair| {
        let octets = pair.public_key().as_ref().try_into().expect("32 octets");
        VerifierKey::new("ledger.example.com", octets).expect("a name")
    };
    let sign = |pair: &Ed25519KeyPair, checkpoint: Checkpoint| {
        let signature = pair.sign(checkpoint.body().as_bytes());
        checkpoint.attach(&key(pair), signature.as_ref()).expect("just signed").to_string()
    };
    let (ours, theirs) = (pair(1), pair(2));
    let honest = log(4);
    let old = honest.checkpoint_at(7);
    let findings = |note: Option<String>| {
        let mut log = honest.clone();
        log.add(Restored { note, ..log.restored(&old) });
        let mut walker = Walker::default();
        walker.signed_by(key(&ours));
        log.walk(walker, &[]).findings
    };
    assert_eq!(findings(Some(sign(&ours, old.clone()))), []);
    let others = [
        None,
        Some("no note".to_owned()),
        Some(sign(&theirs, old.clone())),
        Some(sign(&ours, honest.checkpoint_at(8))),
    ];
    for note in others {
        let found = findings(note.clone());
        let [Finding::RestoreUnsigned { size: 7, name, .. }] = found[..] else { panic!("{note:?}: {found:?}") };
        let mut log = honest.clone();
        log.add(Restored { note, ..log.restored(&old) });
        let mut walker = Walker::default();
        walker.signed_by(key(&ours));
        walker.accept_restore(name);
        assert!(log.walk(walker, &[]).is_clean(), "whoever made it may have had another key");
    }
    // Where no checkpoint was known there is nothing to sign, and nothing that it could explain.
    let mut log = honest.clone();
    let nothing = OldCheckpoint { origin: String::new(), root: Hash::of_nothing().octets(), size: 0 };
    log.add(Restored { checkpoint: nothing, consistency: vec![], ..log.restored(&old) });
    let mut walker = Walker::default();
    walker.signed_by(key(&ours));
    assert_eq!(log.walk(walker, &[]).findings, []);
}

#[test]
fn what_was_restored_continues_the_checkpoint_that_it_names() {
    let honest = log(4);
    let old = honest.checkpoint_at(7);
    let mut log = honest.clone();
    log.add(log.restored(&old));
    assert!(log.findings().is_empty());

    let mut log = honest.clone();
    let at = log.add(Restored { consistency: vec![], ..log.restored(&old) });
    assert_eq!(log.findings(), [Finding::RestoreUnproven { index: at, size: 7 }]);

    let mut log = honest.clone();
    let restored = log.restored(&old);
    let checkpoint = OldCheckpoint { root: [9; 32], ..restored.checkpoint.clone() };
    let at = log.add(Restored { checkpoint, ..restored });
    assert_eq!(log.findings(), [Finding::RestoreUnproven { index: at, size: 7 }]);

    let mut log = honest;
    let at = log.add(Restored { backup_size: 3, ..log.restored(&old) });
    assert_eq!(log.findings(), [Finding::RestoreMisplaced { index: at, says: 3 }]);
}

/// Remembers what a rebuild would: certificates and which of them are revoked or possibly issued.
#[derive(Default, PartialEq, Eq, Debug)]
struct Inventory {
    issued: BTreeMap<u128, Vec<u8>>,
    possibly: Vec<u128>,
    revoked: BTreeMap<u128, Option<u8>>,
    serials: HashMap<[u8; 16], u128>,
}

impl Visit for Inventory {
    type Error = &'static str;

    fn on_intent(&mut self, _: u64, intent: &Intent) -> Result<(), Self::Error> {
        self.serials.insert(intent.certificate, intent.serial.to_u128());
        Ok(())
    }

    fn on_signature(&mut self, _: u64, signature: &Signature, certificate: &[u8]) -> Result<(), Self::Error> {
        let serial = *self.serials.get(&signature.certificate).ok_or("intents come first")?;
        self.issued.insert(serial, certificate.to_vec());
        Ok(())
    }

    fn on_abandoned(&mut self, _: u64, abandoned: &Abandoned) -> Result<(), Self::Error> {
        self.possibly.push(*self.serials.get(&abandoned.certificate).ok_or("intents come first")?);
        Ok(())
    }

    fn on_revocation(&mut self, _: u64, revocation: &Revocation) -> Result<(), Self::Error> {
        self.revoked.insert(revocation.serial.to_u128(), revocation.reason);
        Ok(())
    }
}

#[test]
fn an_inventory_is_rebuilt_from_what_the_walker_hands_on_and_nothing_broken_gets_in() {
    let mut log = Log::default();
    let a = log.issue();
    let b = log.issue();
    let at = log.add(intent(70));
    log.add(abandoned(70, at));
    log.add(revocation(a));
    log.add(revocation(70));
    log.add(Revocation { serial: serial(b), ..revocation(a) });
    log.add(signature(70, at));
    let mut inventory = Inventory::default();
    let mut walker = Walker::default();
    for (index, entry) in log.entries.iter().enumerate() {
        walker.feed_to(index as u64, entry, None, &mut inventory).expect("never refused");
    }
    assert_eq!(walker.finish().findings_total, 2);
    let of = |number| serial(number).to_u128();
    assert_eq!(
        inventory.issued,
        BTreeMap::from([a, b].map(|number| (of(number), certificate_der(serial(number), &number.to_be_bytes()))))
    );
    assert_eq!(inventory.possibly, [of(70)]);
    assert_eq!(inventory.revoked, BTreeMap::from([(of(a), Some(1)), (of(70), Some(1))]));
}

#[test]
fn a_visitor_that_fails_ends_the_walk_with_its_own_error() {
    struct Full;
    impl Visit for Full {
        type Error = &'static str;
        fn on_crl_published(&mut self, _: u64, _: &CrlPublished) -> Result<(), Self::Error> {
            Err("disk full")
        }
    }
    let mut log = Log::default();
    log.add(crl(1));
    assert_eq!(Walker::default().feed_to(0, &log.entries[0], None, &mut Full), Err("disk full"));
}

#[test]
fn findings_beyond_a_thousand_are_counted_but_not_kept() {
    let mut walker = Walker::default();
    for index in 0..1500 {
        walker.feed(index, b"damaged");
    }
    let report = walker.finish();
    assert_eq!((report.findings.len(), report.findings_total), (1000, 1500));
}

/// What an intruder does to the records; indexes follow from where they stand afterwards.
#[derive(Debug, Clone)]
enum Tampering {
    Flip { bit: u8, byte: prop::sample::Index },
    Delete,
    Duplicate,
    Swap { with: prop::sample::Index },
    Replace { by: prop::sample::Index },
    Insert,
    Truncate,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        (0u8..8, index()).prop_map(|(bit, byte)| Tampering::Flip { bit, byte }),
        Just(Tampering::Delete),
        Just(Tampering::Duplicate),
        index().prop_map(|with| Tampering::Swap { with }),
        index().prop_map(|by| Tampering::Replace { by }),
        Just(Tampering::Insert),
        Just(Tampering::Truncate),
    ]
}

fn tamper(log: &mut Log, at: usize, how: &Tampering) {
    let entries = &mut log.entries;
    match how {
        Tampering::Flip { bit, byte } => {
            let byte = byte.index(entries[at].len());
            entries[at][byte] ^= 1u8 << bit;
        }
        Tampering::Delete => drop(entries.remove(at)),
        Tampering::Duplicate => entries.insert(at, entries[at].clone()),
        Tampering::Swap { with } => {
            let with = with.index(entries.len());
            entries.swap(at, with);
        }
        Tampering::Replace { by } => entries[at] = entries[by.index(entries.len())].clone(),
        Tampering::Insert => entries.insert(at, Leaf::from(abandoned(999, 0)).encode().expect("small")),
        Tampering::Truncate => entries.truncate(at),
    }
}

proptest! {
    #[test]
    fn any_record_flipped_deleted_repeated_moved_replaced_inserted_or_cut_off_is_found(
        rounds in 1u64..12, at: prop::sample::Index, how in tampering()
    ) {
        let honest = log(rounds);
        let kept = honest.checkpoint();
        prop_assert!(honest.verify(&[&kept]).is_clean());
        let mut log = honest.clone();
        tamper(&mut log, at.index(honest.entries.len()), &how);
        let report = log.verify(&[&kept]);
        if log.entries.starts_with(&honest.entries) {
            // Nothing or a record after the end: the past is as it was, and it is said how far.
            prop_assert_eq!(report.sealed, kept.size());
            return Ok(());
        }
        prop_assert!(!report.is_clean());
        prop_assert!(report.checkpoints.iter().all(|(_, compared)| *compared == Compared::Different));
        let unheard_of = report.findings.iter().find(|finding| finding.index() > honest.entries.len() as u64);
        prop_assert_eq!(unheard_of, None);
    }

    #[test]
    fn with_tile_hashes_the_first_finding_is_at_the_first_record_that_differs(
        rounds in 1u64..12, at: prop::sample::Index, how in tampering()
    ) {
        let honest = log(rounds);
        let mut log = honest.clone();
        tamper(&mut log, at.index(honest.entries.len()), &how);
        let first = honest.entries.iter().zip(&log.entries).position(|(a, b)| a != b);
        prop_assume!(first.is_some());
        let mut walker = Walker::default();
        for (index, entry) in log.entries.iter().enumerate() {
            let kept = honest.entries.get(index).map(|entry| Hash::of_leaf(entry));
            walker.feed_to(index as u64, entry, kept, &mut Unheard).expect("cannot fail");
        }
        let report = walker.finish();
        prop_assert_eq!(report.findings.first().map(Finding::index), first.map(|at| at as u64));
    }

    #[test]
    fn arbitrary_records_at_arbitrary_places_never_panic(
        records in prop::collection::vec((prop_oneof![0u64..10, any::<u64>()], any::<Vec<u8>>()), 0..20), skip: u64
    ) {
        let mut walker = Walker::default();
        walker.skip(skip % 5, "a test");
        for (index, entry) in &records {
            walker.feed(*index, entry);
        }
        walker.skip(skip, "a test");
        walker.feed(u64::MAX, b"");
        let _ = walker.finish();
    }
}
