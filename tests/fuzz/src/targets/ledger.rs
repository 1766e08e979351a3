//! What a ledger consists of: read back years later, and by others.

use chancery_ledger::{
    Frontier, Leaf, SignedCheckpoint, VerifierKey, Walker, bundle, leaf::MAX_LEAF_BYTES, note::Note,
};

use chancery_pki::tbs;

use super::PLAIN;
use crate::{Form, Target, Verdict, tree::Tree};

pub(super) const TARGETS: &[Target] = &[
    Target { name: "leaf", read: leaf, form: Form::Json, words: LEAF_WORDS, mutations: 30_000, ..PLAIN },
    Target { name: "bundle", read: entries, form: Form::Octets, words: LEAF_WORDS, ..PLAIN },
    Target { name: "checkpoint", read: checkpoint, form: Form::Lines, words: NOTE_WORDS, mutations: 50_000, ..PLAIN },
    Target {
        name: "verifier-key",
        read: verifier_key,
        form: Form::Text,
        words: NOTE_WORDS,
        mutations: 50_000,
        ..PLAIN
    },
    Target { name: "frontier", read: frontier, form: Form::Octets, mutations: 50_000, ..PLAIN },
];

const LEAF_WORDS: &[&[u8]] = &[
    b"body",
    b"kind",
    b"v",
    b"intent",
    b"signature",
    b"abandoned",
    b"refusal",
    b"revocation",
    b"crl-published",
    b"eab-key",
    b"account-agreed",
    b"account-deactivated",
    b"policy-activated",
    b"authority-installed",
    b"authority-retired",
    b"restored",
    b"at",
    b"authority",
    b"certificate",
    b"serial",
    b"tbs",
    b"9007199254740993",
    b"-1",
    b"1e3",
    b"\\u0061",
    b"AA",
    b"AB",
    b"\x00\x00",
    b"\x00\x01",
    b"\xff\xff",
];
const NOTE_WORDS: &[&[u8]] = &[
    b"\n\n",
    b"\n",
    b"\xe2\x80\x94 ",
    b"- ",
    b"+",
    b" ",
    b"0",
    b"00",
    b"18446744073709551616",
    b"-1",
    b"AAAA",
    b"==",
    b"ledger.example.com",
    b"+af650322+",
    b"\x01",
    b"\x02",
];

/// A leaf.
fn leaf(octets: &[u8]) -> Verdict {
    match Leaf::decode(octets) {
        Ok(leaf) => {
            assert_eq!(leaf.encode().expect("it was written before"), octets, "a leaf has one spelling");
            let tree = Tree::read(octets).expect("serde_json reads a leaf");
            assert!(!tree.has_duplicates());
            assert_eq!(tree.text("kind"), Some(leaf.kind()));
            // RFC 8785, by another hand.
            let value: serde_json::Value = serde_json::from_slice(octets).expect("JSON");
            assert_eq!(serde_jcs::to_vec(&value).expect("canonical"), octets, "serde_jcs writes it otherwise");
            if let Leaf::Intent(intent) = &leaf {
                let _ = tbs::assemble(&intent.tbs, b"signature");
            }
            walk([octets]);
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// The walker must find its way through anything.
fn walk<'a>(entries: impl IntoIterator<Item = &'a [u8]>) {
    let mut walker = Walker::default();
    let mut count = 0;
    for (index, entry) in (0..).zip(entries) {
        walker.feed(index, entry);
        count = index + 1;
    }
    assert_eq!(walker.finish().size, count);
}

/// An entry bundle.
fn entries(octets: &[u8]) -> Verdict {
    match bundle::decode(octets) {
        Ok(entries) => {
            assert!((1..=256).contains(&entries.len()));
            assert!(entries.iter().all(|entry| entry.len() <= MAX_LEAF_BYTES));
            assert_eq!(bundle::encode(&entries).expect("it was written before"), octets, "a bundle has one spelling");
            walk(entries);
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// A signed checkpoint.
fn checkpoint(octets: &[u8]) -> Verdict {
    if let Ok(note) = Note::parse(octets) {
        assert_eq!(note.to_string().as_bytes(), octets, "a note has one spelling");
    }
    match SignedCheckpoint::parse(octets) {
        Ok(checkpoint) => {
            assert_eq!(checkpoint.to_string().as_bytes(), octets, "a checkpoint has one spelling");
            let body = checkpoint.unverified().body();
            assert!(octets.starts_with(body.as_bytes()), "what is signed is not what is shown");
            let lines: Vec<&str> = body.lines().collect();
            assert_eq!(lines.get(1).and_then(|size| size.parse().ok()), Some(checkpoint.unverified().size()));
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// A verifier key.
fn verifier_key(octets: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(octets) else { return Verdict::refused("not UTF-8") };
    match text.parse::<VerifierKey>() {
        Ok(key) => {
            assert_eq!(key.to_string(), text, "a verifier key has one spelling");
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}

/// The compact form of a tree, as it stands in the journal.
fn frontier(octets: &[u8]) -> Verdict {
    match Frontier::from_bytes(octets) {
        Ok(mut frontier) => {
            assert_eq!(frontier.to_bytes(), octets, "a frontier has one spelling");
            let root = frontier.root();
            if frontier.size() < u64::MAX {
                frontier.append(chancery_ledger::Hash::of_leaf(octets));
                assert_ne!(frontier.root(), root);
            }
            Verdict::Taken
        }
        Err(why) => Verdict::refused(why),
    }
}
