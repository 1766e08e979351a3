//! Looks for octets in files, however they are written there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use aho_corasick::AhoCorasick;
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use chancery_harness::Result;

/// Shorter forms than this could be there by chance.
const SHORTEST: usize = 8;

/// What is looked for.
#[derive(Default)]
pub(super) struct Search {
    what: Vec<String>,
    forms: Vec<(usize, Vec<u8>)>,
}

/// Something that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    /// What was looked for.
    pub(super) what: String,
    /// Where it is, below the folder that was searched.
    pub(super) file: PathBuf,
}

impl Search {
    /// Looks for these octets too.
    pub(super) fn secret(&mut self, what: &str, octets: impl AsRef<[u8]>) {
        let index = self.what.len();
        self.what.push(what.to_owned());
        self.forms.extend(forms(octets.as_ref()).into_iter().map(|form| (index, form)));
    }

    /// Searches every file below a folder, and the names of the files.
    pub(super) fn below(&self, folder: &Path) -> Result<BTreeSet<Found>> {
        let automaton = AhoCorasick::new(self.forms.iter().map(|(_, form)| form))?;
        let mut found = BTreeSet::new();
        let mut folders = vec![folder.to_owned()];
        while let Some(next) = folders.pop() {
            for entry in fs::read_dir(&next)? {
                let entry = entry?;
                let (path, kind) = (entry.path(), entry.file_type()?);
                let file = path.strip_prefix(folder)?.to_owned();
                let mut see = |octets: &[u8]| {
                    for hit in automaton.find_overlapping_iter(octets) {
                        if let Some(what) =
                            self.forms.get(hit.pattern().as_usize()).and_then(|(at, _)| self.what.get(*at))
                        {
                            found.insert(Found { what: what.clone(), file: file.clone() });
                        }
                    }
                };
                see(file.as_os_str().as_encoded_bytes());
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    let octets = fs::read(&path)?;
                    see(&octets);
                    see(&without_breaks(&octets));
                }
            }
        }
        Ok(found)
    }
}

/// Without what breaks a text into lines, as PEM and JSON do it.
fn without_breaks(octets: &[u8]) -> Vec<u8> {
    let mut rest = octets;
    let mut out = Vec::with_capacity(octets.len());
    loop {
        rest = match rest {
            [b'\\', b'n' | b'r', rest @ ..] | [b'\n' | b'\r', rest @ ..] => rest,
            [octet, rest @ ..] => {
                out.push(*octet);
                rest
            }
            [] => return out,
        };
    }
}

/// How these octets may be written.
fn forms(octets: &[u8]) -> BTreeSet<Vec<u8>> {
    let hexadecimal = hex::encode(octets);
    let pairs: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    let numbers: Vec<String> = octets.iter().map(ToString::to_string).collect();
    let percent: String = octets.iter().map(|octet| format!("%{octet:02X}")).collect();
    let mut forms: Vec<String> = vec![
        hexadecimal.to_uppercase(),
        hexadecimal,
        pairs.join(":").to_uppercase(),
        pairs.join(":"),
        pairs.join(" "),
        numbers.join(", "),
        numbers.join(","),
        percent.to_lowercase(),
        percent,
    ];
    // The three ways in which base64 of something larger can hold it.
    for before in 0..3 {
        let larger = [&vec![0; before], octets].concat();
        // Characters that hold bits of what is before and behind too.
        let (from, to) = ((before * 8).div_ceil(6), larger.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&larger), URL_SAFE_NO_PAD.encode(&larger)] {
            forms.extend(text.get(from..to).map(str::to_owned));
        }
    }
    let forms = forms.into_iter().map(String::into_bytes).chain([octets.to_vec()]);
    forms.filter(|form| form.len() >= SHORTEST).collect()
}

#[test]
fn a_secret_is_found_however_it_is_written_and_wherever_it_begins() -> Result<()> {
    let secret = b"\x01planted \xffsecret\n of 32 octets in all";
    let mut search = Search::default();
    search.secret("it", secret);
    search.secret("another", "not there at all");
    let wrapped: String = pem_lines(&[&[7; 40][..], secret, &[9; 40]].concat());
    let written: Vec<(&str, Vec<u8>)> = vec![
        ("plain", secret.to_vec()),
        ("hex", hex::encode(secret).into_bytes()),
        ("hex-upper", hex::encode_upper(secret).into_bytes()),
        ("debug", format!("{secret:?}").into_bytes()),
        ("debug-pretty-json", serde_json::to_vec(&secret.to_vec())?),
        ("base64", STANDARD_NO_PAD.encode(secret).into_bytes()),
        ("base64-shifted-1", STANDARD_NO_PAD.encode([&[255][..], secret, &[255; 3]].concat()).into_bytes()),
        ("base64url-shifted-2", URL_SAFE_NO_PAD.encode([&[255, 255][..], secret, &[255]].concat()).into_bytes()),
        ("pem", wrapped.clone().into_bytes()),
        ("pem-in-json", serde_json::to_vec(&wrapped)?),
    ];
    let folder = tempfile::tempdir()?;
    for (name, octets) in &written {
        let file = folder.path().join("inner").join(name);
        fs::create_dir_all(folder.path().join("inner"))?;
        fs::write(file, [b"before", octets.as_slice(), b"behind"].concat())?;
    }
    fs::write(folder.path().join("clean"), vec![b'A'; 10_000])?;
    let found: BTreeSet<Found> = search.below(folder.path())?;
    let expected: BTreeSet<Found> =
        written.iter().map(|(name, _)| Found { what: "it".to_owned(), file: Path::new("inner").join(name) }).collect();
    assert_eq!(found, expected);
    Ok(())
}

fn pem_lines(octets: &[u8]) -> String {
    let text = STANDARD_NO_PAD.encode(octets);
    let mut lines = String::new();
    for (index, character) in text.chars().enumerate() {
        if index % 64 == 0 {
            lines.push('\n');
        }
        lines.push(character);
    }
    lines
}
